// Frames whose size is known only at run time (alloca, arrays of variable length) or that are realigned, so that they are
// found from rbp, rbx or r10, among functions that use those registers for anything.
#include <alloca.h>

#include "stack_victim.h"

typedef void step(int depth);

static step *const steps[];
enum { STEPS = 7 };

static void next(int depth)
{
    if (depth)
        steps[random_below(STEPS)](depth - 1);
    else
        TAKE();
    HERE();
}

FRAME static void by_alloca(int depth)
{
    char *room = alloca(1 + random_below(5000));
    opaque(room);
    next(depth);
    opaque(room);
}

FRAME static void by_array(int depth)
{
    uint64_t room[1 + random_below(300)];
    opaque(room);
    next(depth);
    opaque(room);
}

FRAME static void realigned(int depth)
{
    __attribute__((aligned(64))) char room[192];
    opaque(room);
    next(depth);
    opaque(room);
}

// Both at once: two base registers.
FRAME static void realigned_by_alloca(int depth)
{
    __attribute__((aligned(128))) char fixed[256];
    char *room = alloca(1 + random_below(900));
    opaque(fixed);
    opaque(room);
    next(depth);
    opaque(fixed);
    opaque(room);
}

// More arguments than registers, in a realigned frame: they are reached from a register of their own.
FRAME static void realigned_with_arguments(int a, int b, int c, int d, int e, int f, int g, int h)
{
    __attribute__((aligned(64))) int room[32];
    room[0] = a + b + c + d + e + f;
    opaque(room);
    next(g);
    opaque_size(room[0] + g + h);
}

FRAME static void many_arguments(int depth)
{
    realigned_with_arguments(1, 2, 3, 4, 5, 6, depth, 8);
    HERE();
}

// Leaves in every register what is no frame.
FRAME static void any_registers(int depth)
{
    uint64_t a = random_below(1 << 20), b = (uintptr_t)&a + 8, c = a * 3, d = a ^ b, e = (uintptr_t)&d;
    __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e));
    next(depth);
    __asm__ volatile("" : : "r"(a), "r"(b), "r"(c), "r"(d), "r"(e));
}

FRAME static void plain(int depth)
{
    next(depth);
    HERE();
}

static step *const steps[] = {by_alloca, by_array, realigned, realigned_by_alloca, many_arguments, any_registers, plain};

static void body(uint64_t number)
{
    for (uint64_t i = 0; i < number; i++)
        steps[i % STEPS](2 + random_below(14));
}

int main(int count, char **arguments)
{
    serve_stacks(count, arguments, body);
}
