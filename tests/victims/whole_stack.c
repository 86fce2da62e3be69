// Frames of many shapes on one stack: saved registers, large and huge locals, varargs, tail calls, structures returned,
// callbacks out of libc, calls through procedure linkage tables.
#include <stdarg.h>
#include <stdio.h>

#include "stack_victim.h"

void *plt_leaf(void);
void *plt_chosen(void);
void *plt_back(void *(*call)(void *), void *argument);
void *plt_deeper(int depth, void *(*call)(void *), void *argument);

struct large {
    uint64_t words[12];
};

FRAME static void *leaf(void)
{
    return TAKE();
}

// A tail call leaves no frame.
FRAME static void *tail(void)
{
    return take(another_size());
}

FRAME static void *in_a_tail(void *unused)
{
    (void)unused;
    return tail();
}

FRAME static void *saves_all(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    uint64_t g = a * b, h = c * d, i = e * f, j = a ^ f;
    void *block = leaf();
    __asm__ volatile("" : : "r"(a), "r"(b), "r"(c), "r"(d), "r"(e), "r"(f), "m"(g), "m"(h), "m"(i), "m"(j));
    return opaque(block);
}

FRAME static struct large returns_much(uint64_t seed)
{
    struct large large = {{seed, seed + 1, seed + 2}};
    opaque(saves_all(1, 2, 3, 4, 5, seed));
    large.words[11] = seed;
    return large;
}

FRAME static void takes_large(struct large large)
{
    struct large other = returns_much(large.words[11]);
    opaque(&other);
    TAKE();
    HERE();
}

FRAME static void varied(int count, ...)
{
    va_list list;
    va_start(list, count);
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += va_arg(list, double);
    va_end(list);
    takes_large((struct large){{(uint64_t)sum}});
    HERE();
}

FRAME static void wide(void)
{
    char room[40 << 10];
    opaque(room);
    varied(3, 1.0, 2.0, 3.0);
    opaque(room);
}

FRAME static void wider(void)
{
    char room[300 << 10];
    opaque(room);
    wide();
    opaque(room);
}

FRAME static int compare(const void *a, const void *b)
{
    TAKE();
    return *(const int *)a - *(const int *)b;
}

// Large enough for qsort to be its own caller.
FRAME static void sort(void)
{
    int numbers[] = {5, 3, 9, 1, 7, 2, 8};
    qsort(numbers, sizeof numbers / sizeof numbers[0], sizeof numbers[0], compare);
    int wanted = 8;
    opaque(bsearch(&wanted, numbers, sizeof numbers / sizeof numbers[0], sizeof numbers[0], compare));
}

FRAME static void *down_again(void *argument)
{
    (void)argument;
    wider();
    sort();
    return opaque(plt_leaf());
}

FRAME static void tables(void)
{
    opaque(plt_chosen());
    opaque(plt_back(down_again, NULL));
    opaque(plt_deeper(12, in_a_tail, NULL));
    opaque(plt_deeper(3, down_again, NULL));
}

static void body(uint64_t number)
{
    (void)number;
    leaf();
    HERE();
    // The second time all tables are bound.
    for (int i = 0; i < 2; i++) {
        wider();
        sort();
        tables();
    }
}

int main(int count, char **arguments)
{
    serve_stacks(count, arguments, body);
}
