// Threads that allocate and free as fast as they can, each the others' blocks: `flood N` for N calls of each. `calm N` does
// N more, of one thread and with pauses. `noisy N` makes N children that flood until `stop`, `quiet N` does N pairs with pauses.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "victim.h"

enum { THREADS = 4, SLOTS = 1 << 12, MOST_CHILDREN = 8 };

// A block begins with its own size.
static _Atomic(uint64_t *) slots[SLOTS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static uint64_t round_number, rounds;
static int finished;

static struct worker {
    uint64_t random, allocations, allocated_bytes, frees, freed_bytes;
} workers[THREADS + 1];

static pid_t children[MOST_CHILDREN];
static uint64_t child_count;

static void release(struct worker *worker, uint64_t *block)
{
    worker->frees++;
    worker->freed_bytes += *block;
    free(opaque(block));
}

// A block takes the place of another, which is freed by whoever comes by.
static void replace(struct worker *worker)
{
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

FRAME static void *work(void *argument)
{
    struct worker *worker = argument;
    uint64_t done = 0;
    pthread_mutex_lock(&lock);
    // Never ends: glibc hands a thread's cached blocks to free again as it exits.
    for (;;) {
        while (round_number == done)
            pthread_cond_wait(&changed, &lock);
        done = round_number;
        uint64_t count = rounds;
        pthread_mutex_unlock(&lock);
        for (uint64_t i = 0; i < count; i++)
            replace(worker);
        pthread_mutex_lock(&lock);
        finished++;
        pthread_cond_broadcast(&changed);
    }
}

static void flood(uint64_t count)
{
    pthread_mutex_lock(&lock);
    rounds = count;
    round_number++;
    finished = 0;
    pthread_cond_broadcast(&changed);
    while (finished < THREADS)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void calm(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (i % 64 == 0)
            usleep(1000);
        replace(&workers[THREADS]);
    }
}

// No library of the child's is in an unknown state: no other thread has been started by then.
static void noisy(uint64_t count)
{
    for (; child_count < count && child_count < MOST_CHILDREN; child_count++) {
        pid_t child = fork();
        if (child < 0)
            broken("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;)
                replace(&workers[0]);
        }
        children[child_count] = child;
    }
}

static void stop(void)
{
    for (uint64_t i = 0; i < child_count; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    child_count = 0;
}

static void quiet(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        usleep(2000);
        replace(&workers[THREADS]);
    }
}

static void tell_all(void)
{
    struct worker all = {0};
    for (int i = 0; i <= THREADS; i++) {
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
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "threads"))
        for (int i = 0; i < THREADS; i++) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, work, &workers[i]))
                broken("pthread_create");
        }
    else if (!strcmp(command, "flood"))
        flood(number);
    else if (!strcmp(command, "calm"))
        calm(number);
    else if (!strcmp(command, "noisy"))
        noisy(number);
    else if (!strcmp(command, "stop"))
        stop();
    else if (!strcmp(command, "quiet"))
        quiet(number);
    else
        return 0;
    tell_all();
    return 1;
}

int main(void)
{
    for (int i = 0; i <= THREADS; i++)
        workers[i].random = 0x1234567 + i;
    serve(obey);
}
