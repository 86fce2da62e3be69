// A thread whose ordinary stack and whose alternate signal stack lie where the hazard wants them.
#ifndef STACKS_H
#define STACKS_H

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "victim.h"

enum { STACK_BYTES = 1 << 18 };

enum placement {
    SAME_STACK,      // handlers run on the interrupted stack
    ALTERNATE_ABOVE, // ... on an alternate stack at higher addresses
    ALTERNATE_BELOW, // ... on an alternate stack at lower addresses
};

struct arranged {
    void (*body)(void);
    char *alternate;
};

static enum placement placement_named(const char *name)
{
    if (name && !strcmp(name, "same"))
        return SAME_STACK;
    if (name && !strcmp(name, "above"))
        return ALTERNATE_ABOVE;
    if (name && !strcmp(name, "below"))
        return ALTERNATE_BELOW;
    broken("the first argument is same, above or below");
}

static void *arranged_start(void *argument)
{
    struct arranged *arranged = (struct arranged *)argument;
    if (arranged->alternate) {
        stack_t stack = {.ss_sp = arranged->alternate, .ss_flags = 0, .ss_size = STACK_BYTES};
        if (sigaltstack(&stack, NULL))
            broken("sigaltstack");
        char here;
        int above = arranged->alternate > &here;
        TRUTH({"alternate_above", above});
    }
    arranged->body();
    return NULL;
}

// Runs `body` in a new thread, with all signals but for `signal_number` and faults left to that thread.
UNUSED static void run_arranged(enum placement placement, void (*body)(void))
{
    static struct arranged arranged;
    char *low = (char *)mmap(NULL, 3 * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (low == MAP_FAILED || mprotect(low + STACK_BYTES, STACK_BYTES, PROT_NONE))
        broken("mmap");
    char *high = low + 2 * STACK_BYTES;
    arranged.body = body;
    arranged.alternate = placement == ALTERNATE_ABOVE ? high : placement == ALTERNATE_BELOW ? low : NULL;
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) ||
        pthread_attr_setstack(&attributes, placement == ALTERNATE_BELOW ? high : low, STACK_BYTES) ||
        pthread_create(&thread, &attributes, arranged_start, &arranged))
        broken("pthread_create");
    pthread_join(thread, NULL);
}

#endif
