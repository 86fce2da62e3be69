// One chain of calls whose callee-saved registers differ every time: all that a frame saves changes, and no frame does.
#include "stack_victim.h"

FRAME static void leaf(uint64_t a, uint64_t b)
{
    __asm__ volatile("" : "+r"(a), "+r"(b));
    TAKE();
    __asm__ volatile("" : : "r"(a), "r"(b));
}

FRAME static void inner(uint64_t a, uint64_t b)
{
    uint64_t c = a * 31, d = b * 17, e = a ^ b, f = a - b;
    __asm__ volatile("" : "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    leaf(c, d);
    __asm__ volatile("" : : "r"(a), "r"(b), "r"(c), "r"(d), "r"(e), "r"(f));
}

FRAME static void counted(uint64_t number)
{
    uint64_t changing = 7;
    for (uint64_t i = 0; i < number; i++) {
        changing = changing * 6364136223846793005u + 1;
        inner(i, changing);
    }
    opaque_size(changing);
}

int main(int count, char **arguments)
{
    serve_stacks(count, arguments, counted);
}
