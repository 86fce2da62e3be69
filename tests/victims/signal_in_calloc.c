// A signal handler that allocates while its thread is inside calloc: `signal_in_calloc same|above|below`.
//
// calloc clears the block it hands out after it has let go of the arena's lock. A page inside the block is taken away
// beforehand, so that exactly there, every time, the thread faults; the handler gives the page back and allocates. No
// state of the allocator is half changed at that moment, so the program is right; only a return-probed one dies of it.
#include "queue.h"
#include "stacks.h"

enum { ROUNDS = 500, LARGE = 96 << 10, IN_HANDLER = 40, PAGE = 4096 };

static char *large;
static volatile sig_atomic_t handled;
static enum placement placement;

static char *page_inside(char *block)
{
    return (char *)(((uintptr_t)block + LARGE / 2) & ~(uintptr_t)(PAGE - 1));
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
    char *block = opaque(malloc(IN_HANDLER));
    if (!block)
        _exit(73);
    took(IN_HANDLER);
    block[0] = 'h';
    gave(IN_HANDLER);
    free(opaque(block));
    handled++;
}

FRAME static void round_of_calloc(void)
{
    if (mprotect(page_inside(large), PAGE, PROT_NONE))
        broken("mprotect");
    char *block = opaque(calloc(1, LARGE));
    took(LARGE);
    if (block != large)
        broken("calloc gave another block");
    for (size_t at = 0; at < LARGE; at += 64)
        if (block[at])
            broken("calloc did not clear the block");
    memset(block, 'x', LARGE);
    gave(LARGE);
    free(opaque(block));
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return obey_queue(command, number);
    for (int i = 0; i < ROUNDS; i++)
        round_of_calloc();
    tell_books();
    TRUTH({"handled", handled}, {"rounds", ROUNDS});
    return 1;
}

static void body(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    if (placement != SAME_STACK)
        action.sa_flags |= SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    // One block of the handler's size in the thread's cache, so that the handler needs no lock.
    free(opaque(malloc(IN_HANDLER)));
    large = opaque(malloc(LARGE));
    // Stays, so that the large block does not merge with the free memory behind it.
    opaque(malloc(LARGE));
    memset(large, 'x', LARGE);
    free(opaque(large));
    serve(obey);
}

int main(int count, char **arguments)
{
    placement = placement_named(count == 2 ? arguments[1] : NULL);
    run_arranged(placement, body);
}
