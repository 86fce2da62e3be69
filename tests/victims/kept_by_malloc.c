// Threads that each have a burst and free nearly all of it: malloc keeps what was freed. One block in two hundred stays, so that
// no arena can give its end back. The threads are there before the first command and never end.
#include <malloc.h>
#include <pthread.h>

#include "books.h"

enum { THREADS = 6, BLOCKS = 4000, SIZE = 4000, KEPT = 64 };

static pthread_barrier_t start, done;

FRAME static void burst(void)
{
    static __thread void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = memset(opaque(malloc(SIZE)), 1, SIZE);
        if (i % 200 == 0)
            memset(opaque(malloc(KEPT)), 2, KEPT);
    }
    for (int i = 0; i < BLOCKS; i++)
        free(opaque(blocks[i]));
}

static void *work(void *unused)
{
    for (;;) {
        pthread_barrier_wait(&start);
        burst();
        pthread_barrier_wait(&done);
    }
    return unused;
}

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (!strcmp(command, "burst")) {
        pthread_barrier_wait(&start);
        pthread_barrier_wait(&done);
    } else if (!strcmp(command, "trim"))
        malloc_trim(0);
    else
        return 0;
    struct mallinfo2 info = mallinfo2();
    TRUTH({"fordblks", info.fordblks}, {"uordblks", info.uordblks}, {"live_bytes", THREADS * BLOCKS / 200 * KEPT});
    return 1;
}

int main(void)
{
    pthread_barrier_init(&start, NULL, THREADS + 1);
    pthread_barrier_init(&done, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL))
            broken("pthread_create");
    }
    serve(obey);
}
