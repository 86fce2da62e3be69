// Coroutines on stacks of the program's own making, switched by hand: what the outermost frame returns to is what the first
// argument names.
#include "stack_victim.h"

enum { COROUTINES = 3, ROOM = 64 << 10 };

static char rooms[COROUTINES][ROOM] __attribute__((aligned(64)));
static void *contexts[COROUTINES], *scheduler;
static int running;

// Keeps the stack of the caller, and goes on with another one.
void switch_stacks(void **kept, void *other);
// Says that nothing called it; returned to at its first byte, where no call was.
void outermost(void);
// Says that nothing called it, and calls `enter`.
void calls_enter(void);
// Says nothing, and calls `enter`.
void silent(void);
// Says nothing, and ends in a call of `enter`: that returns to the first byte of a function that nothing called.
void ends_in_call(void);

__asm__(".text\n"
        "switch_stacks:\n"
        "    push %rbx\n    push %rbp\n    push %r12\n    push %r13\n    push %r14\n    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n    pop %r14\n    pop %r13\n    pop %r12\n    pop %rbp\n    pop %rbx\n"
        "    ret\n"
        "    .p2align 4\n    .skip 16, 0xcc\n"
        "outermost:\n"
        "    .cfi_startproc\n    .cfi_undefined rip\n"
        "    hlt\n"
        "    .cfi_endproc\n"
        "    .p2align 4\n"
        "calls_enter:\n"
        "    .cfi_startproc\n    .cfi_undefined rip\n"
        "    push %rax\n    call enter\n    hlt\n"
        "    .cfi_endproc\n"
        "    .p2align 4\n"
        "silent:\n"
        "    push %rax\n    call enter\n    hlt\n"
        "    .p2align 4\n"
        "ends_in_call:\n"
        "    push %rax\n    call enter\n"
        ".type outermost_behind_a_call, @function\n"
        "outermost_behind_a_call:\n"
        "    .cfi_startproc\n    .cfi_undefined rip\n"
        "    hlt\n"
        "    .cfi_endproc\n");

FRAME static void yield_now(void)
{
    switch_stacks(&contexts[running], scheduler);
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

// Called from assembly.
FRAME UNUSED void enter(void)
{
    for (;;)
        descend(4 + running);
}

FRAME static void enter_through_silent(void)
{
    silent();
    HERE();
}

FRAME static void enter_through_ends_in_call(void)
{
    ends_in_call();
    HERE();
}

static void (*first)(void);
static void (*returned_to)(void);

static void body(uint64_t number)
{
    for (int i = 0; i < COROUTINES; i++) {
        // The first function begins as if called: an odd number of words below a multiple of 16 bytes.
        void **top = (void **)(rooms[i] + ROOM - 16);
        *--top = (void *)returned_to;
        *--top = (void *)first;
        contexts[i] = top - 6;
    }
    for (uint64_t i = 0; i < number; i++) {
        running = random_below(COROUTINES);
        switch_stacks(&scheduler, contexts[running]);
        TAKE();
    }
}

int main(int count, char **arguments)
{
    const char *kind = count == 3 ? arguments[2] : "";
    first = enter;
    if (!strcmp(kind, "zero"))
        returned_to = NULL;
    else if (!strcmp(kind, "outermost"))
        returned_to = outermost;
    else if (!strcmp(kind, "called"))
        first = calls_enter;
    else if (!strcmp(kind, "silent"))
        first = enter_through_silent;
    else if (!strcmp(kind, "behind"))
        first = enter_through_ends_in_call;
    else
        broken("the first argument is zero, outermost, called, silent or behind");
    serve_stacks(2, arguments, body);
}
