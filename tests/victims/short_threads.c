// `go N`: N threads that live for a moment; half of what each allocates outlives it.
#include <pthread.h>

#include "books.h"

enum { AT_ONCE = 8, BLOCKS = 100, THREADS_LIMIT = 1000 };

struct brief {
    uint64_t random;
    size_t size[BLOCKS];
    void *block[BLOCKS];
};

static struct brief threads[THREADS_LIMIT];

FRAME static void *allocate_briefly(size_t size)
{
    return opaque(malloc(size));
}

static void *live_briefly(void *argument)
{
    struct brief *brief = argument;
    for (int i = 0; i < BLOCKS; i++) {
        brief->size[i] = 1 + random_from(&brief->random) % 5000;
        brief->block[i] = allocate_briefly(brief->size[i]);
    }
    for (int i = 0; i < BLOCKS; i += 2)
        free(opaque(brief->block[i]));
    return NULL;
}

// Frees every fourth of what a thread left behind, from the first thread.
static void tidy(struct brief *brief)
{
    for (int i = 0; i < BLOCKS; i++)
        took(brief->size[i]);
    for (int i = 0; i < BLOCKS; i += 2)
        gave(brief->size[i]);
    for (int i = 1; i < BLOCKS; i += 8) {
        gave(brief->size[i]);
        free(opaque(brief->block[i]));
    }
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go") || number > THREADS_LIMIT)
        return 0;
    for (uint64_t first = 0; first < number; first += AT_ONCE) {
        pthread_t running[AT_ONCE];
        uint64_t count = number - first < AT_ONCE ? number - first : AT_ONCE;
        for (uint64_t i = 0; i < count; i++) {
            threads[first + i].random = 77 + first + i;
            if (pthread_create(&running[i], NULL, live_briefly, &threads[first + i]))
                broken("pthread_create");
        }
        for (uint64_t i = 0; i < count; i++)
            pthread_join(running[i], NULL);
        for (uint64_t i = 0; i < count; i++)
            tidy(&threads[first + i]);
    }
    tell_books();
    return 1;
}

int main(void)
{
    serve(obey);
}
