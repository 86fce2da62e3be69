// A profiler within: a timer's handler takes a backtrace, of malloc and free too.
#include <execinfo.h>
#include <signal.h>
#include <sys/time.h>

#include "queue.h"

enum { HANDLED = 500, FRAMES = 32 };

static volatile sig_atomic_t handled, empty;

static void handle(int signal_number)
{
    (void)signal_number;
    void *frames[FRAMES];
    int saved = errno;
    if (backtrace(frames, FRAMES) < 1)
        empty++;
    handled++;
    errno = saved;
}

static void every(long microseconds)
{
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return obey_queue(command, number);
    every(500);
    while (handled < HANDLED)
        work(100);
    every(0);
    tell_books();
    TRUTH({"handled_enough", handled >= HANDLED}, {"empty", empty});
    return 1;
}

int main(void)
{
    // The first backtrace loads libgcc, which allocates.
    void *frames[FRAMES];
    backtrace(frames, FRAMES);
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    serve(obey);
}
