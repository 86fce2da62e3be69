// Coroutines that switch stacks: the frames of one of them lead to where it was made, and no further.
#include <ucontext.h>

#include "stack_victim.h"

enum { COROUTINES = 3, ROOM = 64 << 10 };

static char rooms[COROUTINES][ROOM] __attribute__((aligned(64)));
static ucontext_t contexts[COROUTINES], scheduler;
static int running;

FRAME static void yield_now(void)
{
    int self = running;
    swapcontext(&contexts[self], &scheduler);
    HERE();
}

FRAME static void descend(int depth)
{
    TAKE();
    yield_now();
    if (depth)
        descend(depth - 1);
    TAKE();
    HERE();
}

FRAME static void enter(void)
{
    for (;;)
        descend(4 + running);
}

static void body(uint64_t number)
{
    for (int i = 0; i < COROUTINES; i++) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = rooms[i];
        contexts[i].uc_stack.ss_size = ROOM;
        contexts[i].uc_link = &scheduler;
        makecontext(&contexts[i], enter, 0);
    }
    for (uint64_t i = 0; i < number; i++) {
        running = random_below(COROUTINES);
        swapcontext(&scheduler, &contexts[running]);
        TAKE();
    }
}

int main(int count, char **arguments)
{
    serve_stacks(count, arguments, body);
}
