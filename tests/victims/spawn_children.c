// Children that become another program at once: `vfork N` and `spawn N` start N of them, one after another.
#include <spawn.h>
#include <sys/wait.h>

#include "queue.h"

static char *const child_arguments[] = {(char *)"spawn_children", (char *)"child", NULL};

static int child_main(void)
{
    hold(100);
    drop(40);
    return books.live_blocks == 60 ? 0 : 1;
}

static int obey(const char *command, uint64_t number)
{
    int with_vfork = !strcmp(command, "vfork");
    if (!with_vfork && strcmp(command, "spawn"))
        return obey_queue(command, number);
    uint64_t good = 0;
    for (uint64_t i = 0; i < number; i++) {
        hold(3);
        pid_t child;
        if (with_vfork) {
            child = vfork();
            if (child == 0) {
                execve("/proc/self/exe", child_arguments, environ);
                _exit(99);
            }
        } else if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, child_arguments, environ))
            broken("posix_spawn");
        drop(1);
        int status = -1;
        if (waitpid(child, &status, 0) != child)
            broken("waitpid");
        good += status == 0;
    }
    tell_books();
    TRUTH({"good", good});
    return 1;
}

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1)
        return child_main();
    serve(obey);
}
