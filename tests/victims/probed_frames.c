// Return probes in the middle of a stack: a handler allocates while its thread is inside calloc, whose return address is
// then the probe's (see signal_in_calloc.c for how the thread is interrupted there).
#include <signal.h>
#include <sys/mman.h>

#include "stack_victim.h"

enum {
    LARGE = 96 << 10,
    PAGE = 4096,
    CACHED = 7, // blocks of one size that a thread's cache holds
    CLASSES = 10,
    FIRST_CLASS = 40,
};

static char *large;

// Calls calloc(1, LARGE), and says where to that returns.
char *call_calloc(void);
extern char after_calloc[];
__asm__(".text\n.globl call_calloc, after_calloc\n.type call_calloc, @function\n"
        "call_calloc: .cfi_startproc\n"
        " sub $8, %rsp\n .cfi_adjust_cfa_offset 8\n"
        " lea after_calloc(%rip), %rdi\n"
        " call probed_call@PLT\n"
        " mov $1, %edi\n"
        " mov $98304, %esi\n"
        " call calloc@PLT\n"
        "after_calloc:\n"
        " add $8, %rsp\n .cfi_adjust_cfa_offset -8\n"
        " ret\n .cfi_endproc\n.size call_calloc, .-call_calloc\n");

_Static_assert(LARGE == 98304, "the assembly has the number too");

static char *page_inside(char *block)
{
    return (char *)(((uintptr_t)block + LARGE / 2) & ~(uintptr_t)(PAGE - 1));
}

static size_t taken;

// From the thread's cache, so that the handler needs no lock.
FRAME static void take_small(void)
{
    size_t size = FIRST_CLASS + 16 * (taken++ / CACHED);
    void *block = malloc(size);
    told(block, size);
    HERE();
}

static void handle(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    char *page = page_inside(large);
    if ((char *)info->si_addr < page || (char *)info->si_addr >= page + PAGE)
        _exit(71);
    if (mprotect(page, PAGE, PROT_READ | PROT_WRITE))
        _exit(72);
    take_small();
}

FRAME static void clears(uint64_t depth)
{
    if (depth) {
        clears(depth - 1);
    } else {
        if (mprotect(page_inside(large), PAGE, PROT_NONE))
            broken("mprotect");
        char *block = call_calloc();
        if (block != large)
            broken("calloc gave another block");
        memset(block, 'x', LARGE);
        free(opaque(block));
    }
    HERE();
}

static void body(uint64_t number)
{
    if (number > CACHED * CLASSES)
        broken("too many rounds");
    for (uint64_t i = 0; i < number; i++)
        clears(i % 5);
}

int main(int count, char **arguments)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    void *small[CLASSES][CACHED];
    for (int i = 0; i < CLASSES; i++)
        for (int j = 0; j < CACHED; j++)
            small[i][j] = opaque(malloc(FIRST_CLASS + 16 * i));
    for (int i = 0; i < CLASSES; i++)
        for (int j = 0; j < CACHED; j++)
            free(opaque(small[i][j]));
    large = opaque(malloc(LARGE));
    // Stays, so that the large block does not merge with the free memory behind it.
    opaque(malloc(LARGE));
    memset(large, 'x', LARGE);
    free(opaque(large));
    serve_stacks(count, arguments, body);
}
