#include "backtrace.h"

#include <fcntl.h>
#include <signal.h>
#include <unwind.h>

#include "victim.h"

enum {
    DEEPEST = 4096,       // frames of one stack
    BLOCKS = 1 << 16,     // blocks in all
    STACKS = 1 << 14,     // different stacks in all
    SLOTS = 4 * STACKS,   // places where a stack is looked up
    ADDRESSES = 1 << 21,  // of all different stacks
    FIRST_SIZE = 1000,
};

struct stack {
    size_t first, count;
    uint64_t mappings;
};

struct frames {
    size_t count, skip;
    uintptr_t at[DEEPEST];
};

static uintptr_t addresses[ADDRESSES];
static size_t address_count;
static struct stack stacks[STACKS];
static size_t stack_count;
static uint32_t slots[SLOTS]; // number of a stack, plus one
static struct {
    size_t size, stack;
    int fresh;
} blocks[BLOCKS];
static size_t block_count;
static size_t sizes;
static uint64_t mappings;
static int fresh_code;
static int telling;
static int file = -1;

static struct frames scratch, outer;
static uintptr_t probed_return;
static uintptr_t trampoline_start, trampoline_end;

// Held with all signals blocked: a handler may tell of blocks too.
static int busy;

static sigset_t begin_work(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (__atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
    return before;
}

static void end_work(const sigset_t *before)
{
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *argument)
{
    struct frames *frames = (struct frames *)argument;
    uintptr_t address = _Unwind_GetIP(context);
    if (frames->skip) {
        frames->skip--;
        return _URC_NO_REASON;
    }
    // The unwinder's last entry, beyond the outermost frame, is 0.
    if (!address)
        return _URC_NO_REASON;
    if (frames->count == DEEPEST)
        broken("a stack is too deep");
    frames->at[frames->count++] = address;
    return _URC_NO_REASON;
}

// The return probe's trampoline, where one has been mapped by now.
static void find_trampoline(void)
{
    static char text[1 << 16];
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    for (ssize_t count; (count = read(maps, text + length, sizeof text - 1 - length)) > 0;)
        length += count;
    close(maps);
    text[length] = 0;
    char *name = strstr(text, "[uprobes]");
    if (!name)
        return;
    while (name > text && name[-1] != '\n')
        name--;
    char *end;
    trampoline_start = strtoul(name, &end, 16);
    trampoline_end = strtoul(end + 1, NULL, 16);
}

// Lets a backtrace that ended at a return probe go on behind it.
static void pass_probe(void)
{
    if (!probed_return || !scratch.count)
        return;
    find_trampoline();
    uintptr_t last = scratch.at[scratch.count - 1];
    if (last < trampoline_start || last >= trampoline_end)
        return;
    scratch.at[scratch.count - 1] = probed_return;
    if (scratch.count + outer.count > DEEPEST)
        broken("a stack is too deep");
    memcpy(scratch.at + scratch.count, outer.at, outer.count * sizeof outer.at[0]);
    scratch.count += outer.count;
}

// The number of the stack in `scratch`.
static size_t number_of_stack(void)
{
    uint64_t hash = 14695981039346656037u ^ mappings;
    for (size_t i = 0; i < scratch.count; i++)
        hash = (hash ^ scratch.at[i]) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
    for (size_t slot = hash % SLOTS;; slot = (slot + 1) % SLOTS) {
        if (!slots[slot]) {
            if (stack_count == STACKS || address_count + scratch.count > ADDRESSES)
                broken("too many stacks");
            stacks[stack_count] = (struct stack){address_count, scratch.count, mappings};
            memcpy(addresses + address_count, scratch.at, scratch.count * sizeof scratch.at[0]);
            address_count += scratch.count;
            slots[slot] = ++stack_count;
            return stack_count - 1;
        }
        const struct stack *known = &stacks[slots[slot] - 1];
        if (known->mappings == mappings && known->count == scratch.count &&
            !memcmp(addresses + known->first, scratch.at, scratch.count * sizeof scratch.at[0]))
            return slots[slot] - 1;
    }
}

FRAME void told(void *block, size_t size)
{
    int error = errno;
    if (!block)
        broken("an allocation failed");
    if (!telling)
        return;
    sigset_t before = begin_work();
    scratch.count = 0;
    scratch.skip = 2; // this function, and the one that took the block
    _Unwind_Backtrace(frame, &scratch);
    pass_probe();
    if (block_count == BLOCKS)
        broken("too many blocks");
    blocks[block_count].size = size;
    blocks[block_count].fresh = fresh_code;
    blocks[block_count++].stack = number_of_stack();
    end_work(&before);
    errno = error;
}

FRAME void *take(size_t size)
{
    void *block = malloc(size);
    told(block, size);
    return block;
}

size_t another_size(void)
{
    return FIRST_SIZE + __atomic_fetch_add(&sizes, 1, __ATOMIC_RELAXED);
}

FRAME void probed_call(uintptr_t return_address)
{
    sigset_t before = begin_work();
    outer.count = 0;
    outer.skip = 2; // this function, and the one that makes the call
    _Unwind_Backtrace(frame, &outer);
    probed_return = return_address;
    end_work(&before);
}

static char text[1 << 16];
static size_t text_length;

static void flush(void)
{
    for (size_t written = 0; written < text_length;) {
        ssize_t count = write(file, text + written, text_length - written);
        if (count <= 0)
            broken("the truth cannot be written");
        written += count;
    }
    text_length = 0;
}

static void add(const char *word)
{
    if (text_length + strlen(word) > sizeof text)
        flush();
    while (*word)
        text[text_length++] = *word++;
}

static void add_number(uint64_t number, unsigned base)
{
    char digits[24];
    char *at = digits + sizeof digits;
    *--at = 0;
    do
        *--at = "0123456789abcdef"[number % base];
    while (number /= base);
    *--at = ' ';
    add(at);
}

static void write_mappings(void)
{
    char part[1024];
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    add("MAPPINGS\n");
    for (ssize_t count; (count = read(maps, part, sizeof part - 1)) > 0;) {
        part[count] = 0;
        add(part);
    }
    close(maps);
    flush();
}

void begin_truth(const char *path)
{
    file = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (file < 0)
        broken("the first argument is the file for the truth");
    write_mappings();
    // What the unwinder does once, it does now.
    struct frames *first = &outer;
    first->count = first->skip = 0;
    _Unwind_Backtrace(frame, first);
}

void start_telling(void)
{
    telling = 1;
}

void code_changed(void)
{
    sigset_t before = begin_work();
    mappings++;
    write_mappings();
    end_work(&before);
}

void code_is_fresh(int fresh)
{
    fresh_code = fresh;
}

uint64_t write_truth(void)
{
    sigset_t before = begin_work();
    for (size_t i = 0; i < stack_count; i++) {
        add("STACK");
        add_number(stacks[i].mappings, 10);
        for (size_t j = 0; j < stacks[i].count; j++)
            add_number(addresses[stacks[i].first + j], 16);
        add("\n");
    }
    for (size_t i = 0; i < block_count; i++) {
        add("BLOCK");
        add_number(blocks[i].stack, 10);
        add_number(blocks[i].size, 10);
        add_number(blocks[i].fresh, 10);
        add("\n");
    }
    flush();
    uint64_t count = block_count;
    telling = 0;
    end_work(&before);
    return count;
}
