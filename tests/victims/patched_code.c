// Allocator functions that are patched in memory, as agents that hook `malloc` do: a jump over the first instructions.
//
// `hook N`: from now on function N (below) jumps to a replacement, which counts and makes do with the other functions.
// `move N`: the same, but the replacement runs the first `length` bytes of the function (from the command line) where they were
//           copied to, and goes on behind them: with whatever was in them.
// `work N`: N rounds, each of which calls every function and frees its blocks. Tells what the hooks counted.
// `load PATH`: loads a library.
// `hold N`: N blocks of 1,000 bytes by malloc, which stay.
// `where`: the address of each function.
#define _GNU_SOURCE
#include "victim.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>

enum { MALLOC, FREE, CALLOC, REALLOC, MEMALIGN, FUNCTIONS };

static const char *const names[FUNCTIONS] = {"malloc", "free", "calloc", "realloc", "posix_memalign"};
static size_t moved_length = 7;
static uint64_t hooked_calls;
static uint64_t held;

static void *replaced_malloc(size_t size)
{
    hooked_calls++;
    // By any lower alignment it would call `malloc`.
    return aligned_alloc(32, size);
}

// Gives nothing back: whatever else would, calls the `free` that is patched.
static void replaced_free(void *block UNUSED)
{
    hooked_calls++;
}

static void *replaced_calloc(size_t count, size_t size)
{
    hooked_calls++;
    void *block = opaque(malloc(count * size));
    return memset(block, 0, count * size);
}

static void *replaced_realloc(void *block, size_t size)
{
    hooked_calls++;
    void *moved = malloc(size);
    if (block) {
        size_t old = malloc_usable_size(block);
        memcpy(moved, block, old < size ? old : size);
        free(block);
    }
    return moved;
}

static int replaced_posix_memalign(void **block, size_t alignment, size_t size)
{
    hooked_calls++;
    *block = aligned_alloc(alignment, size);
    return 0;
}

static void *const replacements[FUNCTIONS] = {
    replaced_malloc, replaced_free, replaced_calloc, replaced_realloc, replaced_posix_memalign,
};

static void put_jump_to(unsigned char *at, uint64_t to)
{
    memcpy(at, "\xff\x25\0\0\0\0", 6);
    memcpy(at + 6, &to, sizeof to);
}

// Writes a jump to `to` over the function, by way of memory that five bytes reach.
static void hook(unsigned number, int moves)
{
    unsigned char *function = dlsym(RTLD_DEFAULT, names[number]);
    uintptr_t near = ((uintptr_t)function - (64 << 20)) & ~(uintptr_t)4095;
    unsigned char *stub = mmap((void *)near, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stub == MAP_FAILED)
        broken("no memory near libc");
    if (moves) {
        memcpy(stub, function, moved_length);
        put_jump_to(stub + moved_length, (uint64_t)function + moved_length);
    } else {
        put_jump_to(stub, (uint64_t)replacements[number]);
    }
    unsigned char jump[5] = {0xe9};
    int32_t distance = (int32_t)(stub - (function + sizeof jump));
    memcpy(jump + 1, &distance, sizeof distance);
    void *page = (void *)((uintptr_t)function & ~(uintptr_t)4095);
    if (mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC))
        broken("libc cannot be written");
    memcpy(function, jump, sizeof jump);
    if (mprotect(page, 8192, PROT_READ | PROT_EXEC))
        broken("libc cannot be protected again");
}

FRAME static void work(uint64_t rounds)
{
    for (uint64_t round = 0; round < rounds; round++) {
        unsigned char *block = opaque(malloc(opaque_size(100)));
        unsigned char *zeroed = opaque(calloc(opaque_size(10), 10));
        void *aligned = NULL;
        if (posix_memalign(&aligned, 64, opaque_size(100)))
            broken("no aligned block");
        memset(block, 7, 100);
        block = opaque(realloc(block, opaque_size(200)));
        if (block[99] != 7 || zeroed[99] != 0)
            broken("a block lost what was in it");
        free(block);
        free(zeroed);
        free(opaque(aligned));
    }
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "hook") && number < FUNCTIONS) {
        hook(number, 0);
    } else if (!strcmp(command, "move") && number < FUNCTIONS) {
        hook(number, 1);
    } else if (!strcmp(command, "work")) {
        work(number);
        TRUTH({"hooked_calls", hooked_calls});
    } else if (!strcmp(command, "load")) {
        if (!dlopen(heard + strlen("load "), RTLD_NOW))
            broken("the library cannot be loaded");
    } else if (!strcmp(command, "hold")) {
        for (uint64_t block = 0; block < number; block++)
            opaque(malloc(opaque_size(1000)));
        held += number;
        TRUTH({"blocks", held}, {"bytes", held * 1000});
    } else if (!strcmp(command, "where")) {
        for (unsigned i = 0; i < FUNCTIONS; i++)
            TRUTH({names[i], (uint64_t)dlsym(RTLD_DEFAULT, names[i])});
    } else {
        return 0;
    }
    return 1;
}

int main(int count, char **arguments)
{
    if (count > 1)
        moved_length = atoi(arguments[1]);
    serve(obey);
}
