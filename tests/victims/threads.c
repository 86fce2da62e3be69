// Four threads, 250 000 malloc and free each; a block is freed by whichever thread next draws its slot, without a lock.
#include <pthread.h>
#include <stdatomic.h>

#include "victim.h"

enum { THREADS = 4, ROUNDS = 250000, SLOTS = 1 << 12 };

// A block begins with its own size.
static _Atomic(uint64_t *) slots[SLOTS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int started, finished;

static struct worker {
    uint64_t random, allocations, allocated_bytes, frees, freed_bytes;
} workers[THREADS];

static void release(struct worker *worker, uint64_t *block)
{
    worker->frees++;
    worker->freed_bytes += *block;
    free(opaque(block));
}

FRAME static void *work(void *argument)
{
    struct worker *worker = argument;
    pthread_mutex_lock(&lock);
    while (!started)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);

    for (int i = 0; i < ROUNDS; i++) {
        uint64_t number = random_from(&worker->random);
        uint64_t size = sizeof(uint64_t) + (number >> 40) % 1000;
        uint64_t *block = opaque(malloc(size));
        if (!block)
            broken("malloc");
        worker->allocations++;
        worker->allocated_bytes += size;
        *block = size;
        uint64_t *other = atomic_exchange(&slots[(number >> 20) % SLOTS], block);
        if (other)
            release(worker, other);
    }

    pthread_mutex_lock(&lock);
    finished++;
    pthread_cond_broadcast(&changed);
    // Never ends: glibc hands a thread's cached blocks to free again as it exits.
    for (;;)
        pthread_cond_wait(&changed, &lock);
}

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (strcmp(command, "go"))
        return 0;
    pthread_mutex_lock(&lock);
    started = 1;
    pthread_cond_broadcast(&changed);
    while (finished < THREADS)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);

    struct worker all = {0};
    for (int i = 0; i < THREADS; i++) {
        all.allocations += workers[i].allocations;
        all.allocated_bytes += workers[i].allocated_bytes;
        all.frees += workers[i].frees;
        all.freed_bytes += workers[i].freed_bytes;
    }
    uint64_t live_blocks = 0, live_bytes = 0;
    for (int i = 0; i < SLOTS; i++) {
        uint64_t *block = atomic_load(&slots[i]);
        live_blocks += block != NULL;
        live_bytes += block ? *block : 0;
    }
    if (all.allocations - all.frees != live_blocks || all.allocated_bytes - all.freed_bytes != live_bytes)
        broken("the victim's own books do not balance");
    TRUTH({"allocations", all.allocations}, {"allocated_bytes", all.allocated_bytes}, {"frees", all.frees},
          {"freed_bytes", all.freed_bytes}, {"live_blocks", live_blocks}, {"live_bytes", live_bytes});
    return 1;
}

int main(void)
{
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        workers[i].random = 0x1234567 + i;
        if (pthread_create(&thread, NULL, work, &workers[i]))
            broken("pthread_create");
    }
    serve(obey);
}
