// Names its own moments by writing to file descriptor -1: `go` allocates 1000 blocks of 1000 bytes, marks `filled`, allocates
// 500 more within a span `request`, of which it frees 200 again, and frees 800 of the first.
#include <pthread.h>

#include "victim.h"

enum { FIRST = 1000, MORE = 500, GONE = 200, FREED = 800, SIZE = 1000 };

static void *first[FIRST], *more[MORE];

static void mark(const char *text)
{
    if (write(-1, text, strlen(text)) >= 0)
        broken("write to no file");
}

FRAME static void fill(void)
{
    for (int i = 0; i < FIRST; i++)
        first[i] = opaque(malloc(SIZE));
}

FRAME static void request(void)
{
    for (int i = 0; i < MORE; i++)
        more[i] = opaque(malloc(SIZE));
    for (int i = 0; i < GONE; i++)
        free(opaque(more[i]));
}

FRAME static void *named(UNUSED void *nothing)
{
    // 15 bytes at most.
    pthread_setname_np(pthread_self(), "worker of marks");
    mark("highwater:filled");
    mark("highwater:begin:request");
    request();
    mark("highwater:end:request");
    return NULL;
}

static int obey(const char *command, UNUSED uint64_t number)
{
    if (strcmp(command, "go"))
        return 0;
    fill();
    pthread_t thread;
    if (pthread_create(&thread, NULL, named, NULL) || pthread_join(thread, NULL))
        broken("pthread_create");
    for (int i = 0; i < FREED; i++)
        free(opaque(first[i]));
    // What is not for us: other text, other descriptors, memory that is not there.
    mark("lowwater:nothing");
    mark("highwater:");
    if (write(-1, (void *)16, 20) >= 0)
        broken("write to no file");
    TRUTH({"filled_bytes", FIRST * SIZE}, {"request_bytes", (MORE - GONE) * SIZE},
          {"request_peak_bytes", MORE * SIZE}, {"request_allocations", MORE}, {"allocations", FIRST + MORE},
          {"end_bytes", (FIRST - FREED + MORE - GONE) * SIZE});
    return 1;
}

int main(void)
{
    serve(obey);
}
