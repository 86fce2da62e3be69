// A signal handler that jumps out of calloc with siglongjmp, again and again, and normal work in between.
//
// The fault inside calloc is made as in signal_in_calloc.c. The block that calloc was about to return is lost to the
// program, which is what jumping out of an allocator costs.
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "queue.h"

enum { ROUNDS = 200, LARGE = 96 << 10, GUARD = 200, PAGE = 4096 };

static sigjmp_buf before_calloc;
static volatile sig_atomic_t jumped;
static char *taken_page;

static void handle(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    if ((char *)info->si_addr < taken_page || (char *)info->si_addr >= taken_page + PAGE)
        _exit(71);
    if (mprotect(taken_page, PAGE, PROT_READ | PROT_WRITE))
        _exit(72);
    jumped++;
    siglongjmp(before_calloc, 1);
}

FRAME static void leave_calloc(void)
{
    char *large = opaque(malloc(LARGE));
    took(LARGE);
    opaque(malloc(GUARD));
    took(GUARD);
    memset(large, 'x', LARGE);
    taken_page = (char *)(((uintptr_t)large + LARGE / 2) & ~(uintptr_t)(PAGE - 1));
    gave(LARGE);
    free(opaque(large));
    if (mprotect(taken_page, PAGE, PROT_NONE))
        broken("mprotect");
    if (sigsetjmp(before_calloc, 1) == 0) {
        opaque(calloc(1, LARGE));
        broken("calloc returned");
    }
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return obey_queue(command, number);
    for (int i = 0; i < ROUNDS; i++) {
        leave_calloc();
        hold(3);
        drop(2);
    }
    tell_books();
    TRUTH({"jumped", jumped}, {"rounds", ROUNDS});
    return 1;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    serve(obey);
}
