// Threads that each have a burst and free nearly all of it: malloc keeps what was freed. One block in two hundred stays, so that
// no arena can give its end back.
#include <malloc.h>

#include "books.h"
#include "crew.h"

enum { THREADS = 6, BLOCKS = 4000, SIZE = 4000, KEPT = 64 };

FRAME static void burst(int member)
{
    (void)member;
    static __thread void *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = memset(opaque(malloc(SIZE)), 1, SIZE);
        if (i % 200 == 0)
            memset(opaque(malloc(KEPT)), 2, KEPT);
    }
    for (int i = 0; i < BLOCKS; i++)
        free(opaque(blocks[i]));
}

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (!strcmp(command, "burst"))
        have_crew_do(burst);
    else if (!strcmp(command, "trim"))
        malloc_trim(0);
    else
        return 0;
    struct mallinfo2 info = mallinfo2();
    TRUTH({"fordblks", info.fordblks}, {"uordblks", info.uordblks}, {"live_bytes", THREADS * BLOCKS / 200 * KEPT});
    return 1;
}

int main(void)
{
    hire_crew(THREADS);
    serve(obey);
}
