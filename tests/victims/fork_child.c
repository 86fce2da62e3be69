// `fork` makes a child that hears the commands in the parent's place, until it is told to `leave`; the parent, when the
// child is gone, says READY anew.
#include <sys/wait.h>

#include "queue.h"

static int in_child;

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "fork") && !in_child) {
        pid_t child = fork();
        if (child < 0)
            broken("fork");
        if (child == 0) {
            in_child = 1;
            TRUTH({"child", getpid()});
            return 1;
        }
        int status = -1;
        if (waitpid(child, &status, 0) != child || status)
            broken("the child failed");
        serve(obey);
    }
    if (!strcmp(command, "leave") && in_child)
        _exit(0);
    return obey_queue(command, number);
}

int main(void)
{
    serve(obey);
}
