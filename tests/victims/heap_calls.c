// Each call of the allocator, one row of the table "What each call means" at a time: `heap_calls ROW`.
#include <malloc.h>

#include "books.h"

// More than any object may be: malloc refuses it without trying.
#define TOO_LARGE opaque_size((size_t)PTRDIFF_MAX + 1)
// Allowed as a size, but more than the address space has.
#define NO_ROOM opaque_size((size_t)1 << 47)

enum { EARLY = 3 };
static const size_t early_size[EARLY] = {100, 3000, 400000};
static void *early[EARLY];
static uint64_t unmatched, unmatched_chunk_bytes, unmatched_requested_bytes;

static void *got(void *block, size_t size)
{
    return booked(opaque(block), size);
}

static void failed(void *block)
{
    if (opaque(block))
        broken("a call that must fail succeeded");
    books.failed++;
}

static void give(void *block, size_t size)
{
    gave(size);
    free(opaque(block));
}

// The block was allocated before anyone could trace it.
static void give_early(int which)
{
    unmatched++;
    unmatched_requested_bytes += early_size[which];
    unmatched_chunk_bytes += ((size_t *)early[which])[-1] & ~(size_t)7;
}

FRAME static void malloc_zero(void)
{
    void *blocks[4];
    for (int i = 0; i < 3; i++)
        blocks[i] = got(malloc(opaque_size(0)), 0);
    blocks[3] = got(malloc(100), 100);
    give(blocks[3], 100);
    give(blocks[0], 0);
}

FRAME static void calloc_multiplies(void)
{
    void *first = got(calloc(opaque_size(30), 100), 3000);
    got(calloc(opaque_size(7), 1), 7);
    got(calloc(opaque_size(1), 500000), 500000);
    give(first, 3000);
    got(calloc(opaque_size(0), 10), 0);
}

FRAME static void calloc_overflows(void)
{
    got(calloc(opaque_size(3), 5), 15);
    failed(calloc(opaque_size(SIZE_MAX / 2), 3));
    failed(calloc(opaque_size((size_t)1 << 32), (size_t)1 << 32));
    // The product wraps round to a small number.
    failed(calloc(opaque_size(((size_t)1 << 63) + 8), 2));
}

FRAME static void malloc_fails(void)
{
    got(malloc(123), 123);
    failed(malloc(TOO_LARGE));
    failed(malloc(NO_ROOM));
    failed(malloc(opaque_size(SIZE_MAX)));
    got(malloc(321), 321);
}

FRAME static void realloc_grows(void)
{
    static const size_t sizes[] = {100, 101, 5000, 90000, 1 << 20, 9 << 20, 64 << 20};
    void *wall = NULL;
    size_t size = 24;
    void *block = got(malloc(size), size);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        // Something behind the block now and then, so that it must move.
        if (i % 2)
            wall = got(malloc(40), 40);
        block = opaque(realloc(block, sizes[i]));
        if (!block)
            broken("realloc");
        resized(size, sizes[i]);
        size = sizes[i];
    }
    give(wall, 40);
}

FRAME static void realloc_shrinks(void)
{
    static const size_t sizes[] = {8 << 20, 1 << 20, 90000, 5000, 50, 1};
    size_t size = 64 << 20;
    void *block = got(malloc(size), size);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        block = opaque(realloc(block, sizes[i]));
        if (!block)
            broken("realloc");
        resized(size, sizes[i]);
        size = sizes[i];
    }
}

FRAME static void realloc_null(void)
{
    void *block = got(realloc(opaque(NULL), 77), 77);
    give(block, 77);
    got(realloc(opaque(NULL), 600000), 600000);
    got(realloc(opaque(NULL), opaque_size(0)), 0);
    failed(realloc(opaque(NULL), TOO_LARGE));
}

FRAME static void realloc_zero(void)
{
    void *block = got(malloc(333), 333);
    got(malloc(222), 222);
    gave(333);
    if (opaque(realloc(block, opaque_size(0))))
        broken("this libc does not free at realloc(p, 0)");
}

FRAME static void realloc_fails(void)
{
    char *block = (char *)got(malloc(1000), 1000);
    block[999] = 'x';
    failed(realloc(opaque(block), TOO_LARGE));
    failed(realloc(opaque(block), NO_ROOM));
    if (block[999] != 'x')
        broken("a failed realloc changed the block");
    char *second = (char *)got(malloc(2000), 2000);
    failed(realloc(opaque(second), TOO_LARGE));
    give(second, 2000);
}

FRAME static void reallocarray_multiplies(void)
{
    void *block = got(reallocarray(opaque(NULL), 10, 20), 200);
    block = opaque(reallocarray(block, 300, 40));
    resized(200, 12000);
    block = opaque(reallocarray(block, 3, 5));
    resized(12000, 15);
    gave(15);
    if (opaque(reallocarray(block, opaque_size(0), 5)))
        broken("this libc does not free at reallocarray(p, 0, n)");
    got(reallocarray(opaque(NULL), 2, 21), 42);
}

FRAME static void reallocarray_overflows(void)
{
    void *block = got(malloc(64), 64);
    failed(reallocarray(opaque(block), opaque_size(SIZE_MAX / 2), 3));
    failed(reallocarray(opaque(NULL), opaque_size((size_t)1 << 32), (size_t)1 << 33));
    // The product wraps round to 16.
    failed(reallocarray(opaque(block), opaque_size(((size_t)1 << 63) + 8), 2));
}

FRAME static void memalign_family(void)
{
    void *blocks[8];
    blocks[0] = got(memalign(64, 1000), 1000);
    blocks[1] = got(aligned_alloc(4096, 8192), 8192);
    if (posix_memalign(&blocks[2], 128, 333))
        broken("posix_memalign");
    took(333);
    blocks[3] = got(valloc(5000), 5000);
    // Rounded up to a page inside; what was asked for is what counts.
    blocks[4] = got(pvalloc(100), 100);
    // Alignments that malloc gives anyway: glibc calls malloc for them.
    blocks[5] = got(memalign(8, 40), 40);
    if (posix_memalign(&blocks[6], 16, 56))
        broken("posix_memalign");
    took(56);
    blocks[7] = got(aligned_alloc(1 << 16, 1 << 20), 1 << 20);
    give(blocks[1], 8192);
    give(blocks[2], 333);
    give(blocks[5], 40);
}

FRAME static void memalign_fails(void)
{
    got(malloc(10), 10);
    failed(memalign(64, TOO_LARGE));
    failed(aligned_alloc(64, NO_ROOM));
    failed(valloc(NO_ROOM));
    failed(pvalloc(TOO_LARGE));
    // A failed posix_memalign leaves its result alone, which here is a live block.
    void *result = got(malloc(20), 20);
    void *before = result;
    if (posix_memalign(&result, 64, NO_ROOM) != ENOMEM)
        broken("posix_memalign");
    books.failed++;
    if (posix_memalign(&result, opaque_size(3), 100) != EINVAL)
        broken("posix_memalign");
    books.failed++;
    if (result != before)
        broken("a failed posix_memalign changed its result");
}

FRAME static void free_null(void)
{
    got(malloc(11), 11);
    for (int i = 0; i < 5; i++)
        free(opaque(NULL));
}

FRAME static void free_early(void)
{
    got(malloc(55), 55);
    for (int i = 0; i < EARLY; i++) {
        give_early(i);
        free(opaque(early[i]));
    }
    got(malloc(44), 44);
}

FRAME static void realloc_early(void)
{
    got(malloc(55), 55);
    // Fails: the block from before attach stays what it was.
    failed(realloc(opaque(early[0]), TOO_LARGE));
    give_early(1);
    early[1] = got(realloc(early[1], 70000), 70000);
    give(early[1], 70000);
}

static const struct row {
    const char *name;
    void (*run)(void);
} rows[] = {
    {"malloc_zero", malloc_zero},
    {"calloc_multiplies", calloc_multiplies},
    {"calloc_overflows", calloc_overflows},
    {"malloc_fails", malloc_fails},
    {"realloc_grows", realloc_grows},
    {"realloc_shrinks", realloc_shrinks},
    {"realloc_null", realloc_null},
    {"realloc_zero", realloc_zero},
    {"realloc_fails", realloc_fails},
    {"reallocarray_multiplies", reallocarray_multiplies},
    {"reallocarray_overflows", reallocarray_overflows},
    {"memalign_family", memalign_family},
    {"memalign_fails", memalign_fails},
    {"free_null", free_null},
    {"free_early", free_early},
    {"realloc_early", realloc_early},
};

static void (*row)(void);

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (strcmp(command, "go"))
        return 0;
    row();
    tell_books();
    TRUTH({"unmatched", unmatched}, {"unmatched_requested_bytes", unmatched_requested_bytes},
          {"unmatched_chunk_bytes", unmatched_chunk_bytes});
    return 1;
}

int main(int count, char **arguments)
{
    for (size_t i = 0; count == 2 && i < sizeof rows / sizeof rows[0]; i++)
        if (!strcmp(rows[i].name, arguments[1]))
            row = rows[i].run;
    if (!row)
        broken("the argument is no row");
    for (int i = 0; i < EARLY; i++) {
        early[i] = opaque(malloc(early_size[i]));
        memset(early[i], 'e', early_size[i]);
    }
    // The kernel's own count of what a process holds lags by up to 64 pages: with this it tells of more than the early blocks.
    memset(opaque(malloc(1 << 20)), 'e', 1 << 20);
    serve(obey);
}
