// `exec` makes a thread that is not the first become another program (this one, again), which says READY anew.
#include <pthread.h>

#include "queue.h"

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "exec"))
        return obey_queue(command, number);
    execl("/proc/self/exe", "exec_from_thread", "again", NULL);
    broken("exec");
}

static void *go_on(void *argument)
{
    (void)argument;
    serve(obey);
}

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1)
        serve(obey_queue);
    pthread_t thread;
    if (pthread_create(&thread, NULL, go_on, NULL))
        broken("pthread_create");
    pthread_join(thread, NULL);
}
