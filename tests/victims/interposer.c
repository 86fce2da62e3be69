// An allocator of its own for LD_PRELOAD: chunks of a mapping, never used twice, and mappings for large blocks. What it
// cannot do itself (aligned blocks) stays libc's.
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define EXPORT __attribute__((visibility("default")))

enum { HEADER = 16, LARGE = 128 << 10, PAGE = 4096 };
#define ARENA ((size_t)4 << 20)

static char *arena;
static size_t used = ARENA;
static char lock;

// What it has mapped and not unmapped, bytes.
EXPORT uint64_t interposer_mapped;

static size_t whole_pages(size_t size)
{
    return (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static char *map(size_t size)
{
    char *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    __atomic_fetch_add(&interposer_mapped, size, __ATOMIC_RELAXED);
    return start;
}

EXPORT void *malloc(size_t size)
{
    size_t room = (size + HEADER + 15) & ~(size_t)15;
    char *start;
    if (room >= LARGE) {
        start = map(whole_pages(room));
    } else {
        while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE)) {
        }
        if (used + room > ARENA) {
            arena = map(ARENA);
            used = 0;
        }
        start = arena ? arena + used : NULL;
        used += room;
        __atomic_clear(&lock, __ATOMIC_RELEASE);
    }
    if (!start)
        return NULL;
    *(size_t *)start = size;
    return start + HEADER;
}

EXPORT void free(void *block)
{
    if (!block)
        return;
    char *start = (char *)block - HEADER;
    size_t room = (*(size_t *)start + HEADER + 15) & ~(size_t)15;
    if (room < LARGE)
        return;
    munmap(start, whole_pages(room));
    __atomic_fetch_sub(&interposer_mapped, whole_pages(room), __ATOMIC_RELAXED);
}

EXPORT void *calloc(size_t count, size_t size)
{
    size_t product;
    if (__builtin_mul_overflow(count, size, &product))
        return NULL;
    // New memory is zero.
    return malloc(product);
}

EXPORT void *realloc(void *block, size_t size)
{
    void *new = malloc(size);
    if (new && block) {
        size_t old = *(size_t *)((char *)block - HEADER);
        memcpy(new, block, old < size ? old : size);
        free(block);
    }
    return new;
}
