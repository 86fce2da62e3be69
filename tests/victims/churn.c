// `churn THREADS`: threads that never stop allocating, checking what they wrote, until they are told to `stop`.
#include <pthread.h>
#include <stdatomic.h>

#include "queue.h"

enum { THREADS_LIMIT = 16, SLOTS = 512 };

static int thread_count;
static atomic_int stopping, stopped;
static _Atomic uint64_t rounds;

struct slot {
    unsigned char *block;
    size_t size;
    unsigned char mark;
};

static void replace(struct slot *slot, uint64_t number)
{
    if (slot->block) {
        if (slot->block[0] != slot->mark || slot->block[slot->size - 1] != slot->mark)
            broken("a block was overwritten");
        free(opaque(slot->block));
    }
    slot->size = 1 + (number >> 16) % 3000;
    slot->mark = number & 0xff;
    switch ((number >> 8) % 4) {
    case 0:
        slot->block = opaque(calloc(1, slot->size));
        break;
    case 1:
        slot->block = opaque(realloc(malloc(10), slot->size));
        break;
    default:
        slot->block = opaque(malloc(slot->size));
    }
    if (!slot->block)
        broken("malloc");
    slot->block[0] = slot->mark;
    slot->block[slot->size - 1] = slot->mark;
}

FRAME static void *churn(void *argument)
{
    uint64_t random = 0xabcdef + (uintptr_t)argument;
    struct slot slots[SLOTS] = {0};
    while (!atomic_load(&stopping)) {
        for (int i = 0; i < 100; i++) {
            uint64_t number = random_from(&random);
            replace(&slots[(number >> 40) % SLOTS], number);
        }
        atomic_fetch_add(&rounds, 1);
    }
    atomic_fetch_add(&stopped, 1);
    for (;;)
        pause();
    return NULL;
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "check")) {
        TRUTH({"rounds", atomic_load(&rounds)});
        return 1;
    }
    if (!strcmp(command, "stop")) {
        atomic_store(&stopping, 1);
        while (atomic_load(&stopped) < thread_count)
            usleep(1000);
        TRUTH({"rounds", atomic_load(&rounds)});
        return 1;
    }
    return obey_queue(command, number);
}

int main(int count, char **arguments)
{
    thread_count = count == 2 ? atoi(arguments[1]) : 1;
    if (thread_count < 1 || thread_count > THREADS_LIMIT)
        broken("the argument is a number of threads");
    for (intptr_t i = 0; i < thread_count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, churn, (void *)i))
            broken("pthread_create");
    }
    serve(obey);
}
