// A program that is traced from its first instruction: it allocates before main, and tells what it was started as.
#include <signal.h>

#include "queue.h"

FRAME __attribute__((constructor)) static void before_main(void)
{
    hold(10);
    drop(4);
}

static void handle(int signal_number)
{
    TRUTH({"signal", signal_number});
    _exit(9);
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "identity"))
        return obey_queue(command, number);
    TRUTH({"pid", getpid()}, {"uid", getuid()}, {"euid", geteuid()}, {"gid", getgid()}, {"egid", getegid()});
    return 1;
}

int main(void)
{
    struct sigaction action = {.sa_handler = handle};
    sigaction(SIGTERM, &action, NULL);
    serve(obey);
}
