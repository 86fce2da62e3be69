// A process whose first thread has exited; another one goes on, and passes on to a third when told `pass_on`. With an argument,
// the first thread stays until then.
#include <fcntl.h>
#include <pthread.h>

#include "queue.h"

// Whether the first thread is a zombie: the third field of its stat, behind the name in parentheses.
static int leader_is_gone(void)
{
    char text[512];
    int file = open("/proc/self/stat", O_RDONLY);
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0)
        broken("/proc/self/stat");
    text[length] = 0;
    char *name_end = strrchr(text, ')');
    return name_end && name_end[2] == 'Z';
}

static void *go_on(void *argument);

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "pass_on"))
        return obey_queue(command, number);
    // Another thread says READY and goes on; this one ends.
    pthread_t thread;
    if (pthread_create(&thread, NULL, go_on, NULL))
        broken("pthread_create");
    pthread_exit(NULL);
}

static void *go_on(void *argument)
{
    (void)argument;
    while (!leader_is_gone())
        usleep(1000);
    serve(obey);
}

int main(int count, char **arguments)
{
    (void)arguments;
    if (count > 1)
        serve(obey);
    pthread_t thread;
    if (pthread_create(&thread, NULL, go_on, NULL))
        broken("pthread_create");
    pthread_exit(NULL);
}
