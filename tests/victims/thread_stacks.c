// Eight threads at once, each as deep as its number says, down to where threads start. `go N`: N blocks a thread.
#include <pthread.h>

#include "stack_victim.h"

enum { THREADS = 8 };

static pthread_barrier_t together;
static uint64_t blocks_each;

FRAME static void descend(uint64_t depth)
{
    char room[16 + 64 * (depth % 3)];
    opaque(room);
    if (depth)
        descend(depth - 1);
    else
        TAKE();
    opaque(room);
}

FRAME static void *start(void *argument)
{
    uint64_t number = (uintptr_t)argument;
    pthread_barrier_wait(&together);
    for (uint64_t i = 0; i < blocks_each; i++)
        descend(5 * number + i % 4);
    return NULL;
}

static void body(uint64_t number)
{
    pthread_t threads[THREADS];
    blocks_each = number;
    pthread_barrier_init(&together, NULL, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, start, (void *)i))
            broken("pthread_create");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

int main(int count, char **arguments)
{
    serve_stacks(count, arguments, body);
}
