// A timer's handler allocates wherever it finds its thread, inside malloc and free too: `timer_in_malloc
// same|above|below`.
//
// The handler's size has a block in the thread's cache that nothing else uses, so it takes no lock and touches no state
// that the interrupted call may have half changed.
#include <sys/time.h>

#include "queue.h"
#include "stacks.h"

enum { HANDLED = 1000, IN_HANDLER = 1016 };

static uint64_t done;
static volatile sig_atomic_t handled, enough;
static enum placement placement;

static void handle(int signal_number)
{
    (void)signal_number;
    if (enough)
        return;
    char *block = opaque(malloc(IN_HANDLER));
    if (!block)
        _exit(73);
    block[0] = 'h';
    free(opaque(block));
    handled++;
    enough = handled == HANDLED;
}

// Like work, but for sizes that are never the handler's.
FRAME static void pairs(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        size_t size = 1 + random_below(900);
        char *block = opaque(malloc(size));
        char *other = opaque(malloc(2000 + size));
        if (!block || !other)
            broken("malloc");
        block[size - 1] = 'p';
        free(opaque(block));
        free(opaque(other));
        done += 2;
    }
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return obey_queue(command, number);
    struct itimerval timer = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &timer, NULL);
    while (!enough)
        pairs(100);
    timer = (struct itimerval){0};
    setitimer(ITIMER_REAL, &timer, NULL);
    TRUTH({"allocations", done + handled}, {"frees", done + handled}, {"handled", handled});
    return 1;
}

static void body(void)
{
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    if (placement != SAME_STACK)
        action.sa_flags |= SA_ONSTACK;
    sigaction(SIGALRM, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    free(opaque(malloc(IN_HANDLER)));
    serve(obey);
}

int main(int count, char **arguments)
{
    placement = placement_named(count == 2 ? arguments[1] : NULL);
    // The first thread takes no timer signals: they are for the one with the arranged stacks.
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
    run_arranged(placement, body);
}
