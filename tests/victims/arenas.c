// All the ways in which glibc gets memory for blocks: arenas of threads, growth and trimming of the main one, mappings
// for large blocks; and a program break that the program moves as well (`sbrk`). Threads are there before the first
// command and never end.
#include <pthread.h>

#include "books.h"

enum { THREADS = 4, SLOTS = 512, ROUNDS = 20000, MAIN_BLOCKS = 1000, MAIN_SIZE = 64 << 10, BREAK = 1 << 20 };

static struct worker {
    uint64_t random;
    struct {
        void *block;
        size_t size;
    } slots[SLOTS];
    struct books books;
} workers[THREADS];

static pthread_barrier_t start, done;

// Blocks from before the first command, for threads that free before they allocate.
static void *early[THREADS];

static void count_free(struct books *mine, size_t size)
{
    mine->frees++;
    mine->freed_bytes += size;
}

FRAME static void *work(void *argument)
{
    uint64_t number = (uintptr_t)argument;
    struct worker *worker = &workers[number];
    for (;;) {
        pthread_barrier_wait(&start);
        // The first call of a thread makes its cache, and its arena for that.
        free(opaque(early[number]));
        early[number] = NULL;
        for (int i = 0; i < ROUNDS; i++) {
            uint64_t drawn = random_from(&worker->random);
            int slot = (drawn >> 40) % SLOTS;
            size_t old = worker->slots[slot].size;
            // Mostly small, some of the size of mappings.
            size_t size = 1 + (drawn >> 20) % (drawn % 16 ? 2000 : 300000);
            void *block = worker->slots[slot].block;
            if (block && drawn & 32) {
                free(opaque(block));
                count_free(&worker->books, old);
                worker->slots[slot].block = NULL;
                worker->slots[slot].size = 0;
                continue;
            }
            block = opaque(realloc(block, size));
            if (!block)
                broken("realloc");
            if (worker->slots[slot].block)
                count_free(&worker->books, old);
            worker->books.allocations++;
            worker->books.allocated_bytes += size;
            worker->slots[slot].block = block;
            worker->slots[slot].size = size;
        }
        pthread_barrier_wait(&done);
    }
    return NULL;
}

static void *main_blocks[MAIN_BLOCKS];

FRAME static void rise(void)
{
    for (int i = 0; i < MAIN_BLOCKS; i++) {
        main_blocks[i] = opaque(malloc(MAIN_SIZE));
        took(MAIN_SIZE);
        // Somebody else moves the break now and then; malloc's next growth is not contiguous.
        if (i == MAIN_BLOCKS / 2 && sbrk(BREAK) == (void *)-1)
            broken("sbrk");
    }
}

FRAME static void fall(void)
{
    for (int i = MAIN_BLOCKS; i-- > 0;) {
        gave(MAIN_SIZE);
        free(opaque(main_blocks[i]));
    }
}

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (!strcmp(command, "rise"))
        rise();
    else if (!strcmp(command, "fall"))
        fall();
    else if (!strcmp(command, "threads")) {
        pthread_barrier_wait(&start);
        pthread_barrier_wait(&done);
        for (int i = 0; i < THREADS; i++) {
            struct books *mine = &workers[i].books;
            books.allocations += mine->allocations;
            books.allocated_bytes += mine->allocated_bytes;
            books.frees += mine->frees;
            books.freed_bytes += mine->freed_bytes;
            *mine = (struct books){0};
        }
        books.live_blocks = books.allocations - books.frees;
        books.live_bytes = books.allocated_bytes - books.freed_bytes;
    } else
        return 0;
    tell_books();
    TRUTH({"own_break", BREAK}, {"early", THREADS});
    return 1;
}

int main(void)
{
    pthread_barrier_init(&start, NULL, THREADS + 1);
    pthread_barrier_init(&done, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++) {
        pthread_t thread;
        workers[i].random = 0x7654321 + i;
        early[i] = malloc(5000);
        if (pthread_create(&thread, NULL, work, (void *)i))
            broken("pthread_create");
    }
    serve(obey);
}
