// Threads with stacks of given sizes: `start N`; `join` lets them end, and their stacks lie in glibc's cache. `large N`:
// N threads, one after another, whose stacks that cache does not keep.
#include <pthread.h>

#include "victim.h"

enum { THREADS_LIMIT = 64, STACK = 256 << 10, GUARD = 16 << 10, LARGE = 64 << 20 };

static pthread_t threads[THREADS_LIMIT];
static uint64_t count, stacks, guards;
static pthread_barrier_t end;

static void *wait_for_the_end(void *argument)
{
    (void)argument;
    pthread_barrier_wait(&end);
    return NULL;
}

static void *end_at_once(void *argument)
{
    return argument;
}

FRAME static void start(uint64_t number)
{
    pthread_barrier_init(&end, NULL, number + 1);
    for (count = 0; count < number; count++) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        size_t size = STACK * (1 + count % 3);
        pthread_attr_setstacksize(&attributes, size);
        pthread_attr_setguardsize(&attributes, GUARD);
        if (pthread_create(&threads[count], &attributes, wait_for_the_end, NULL))
            broken("pthread_create");
        stacks += size;
        guards += GUARD;
    }
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "start") && number <= THREADS_LIMIT) {
        start(number);
    } else if (!strcmp(command, "join")) {
        pthread_barrier_wait(&end);
        while (count > 0)
            pthread_join(threads[--count], NULL);
    } else if (!strcmp(command, "large")) {
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, LARGE);
        for (uint64_t i = 0; i < number; i++) {
            pthread_t thread;
            if (pthread_create(&thread, &attributes, end_at_once, NULL))
                broken("pthread_create");
            pthread_join(thread, NULL);
        }
    } else {
        return 0;
    }
    TRUTH({"thread_stack", stacks}, {"reserved", guards});
    return 1;
}

int main(void)
{
    serve(obey);
}
