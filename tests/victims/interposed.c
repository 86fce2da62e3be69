// A program under another allocator, interposer.so by LD_PRELOAD: `hold N`, `drop N`, `work N`, `large N`.
#include <dlfcn.h>
#include <malloc.h>

#include "queue.h"

enum { LARGE = 300 << 10, LARGE_LIMIT = 100, ALIGNED = 1000 };

static void *large[LARGE_LIMIT];
static uint64_t large_count, aligned_blocks;

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "large") && number <= LARGE_LIMIT) {
        while (large_count < number)
            large[large_count++] = opaque(malloc(LARGE));
        while (large_count > number)
            free(opaque(large[--large_count]));
    } else if (!strcmp(command, "aligned")) {
        // Goes to libc, which makes memory of its own for it.
        for (; number > 0; number--, aligned_blocks++)
            opaque(memalign(64, ALIGNED));
    } else if (!obey_queue(command, number)) {
        return 0;
    }
    uint64_t *mapped = dlsym(RTLD_DEFAULT, "interposer_mapped");
    if (!mapped)
        broken("it is not preloaded");
    TRUTH({"mapping", *mapped}, {"libc_blocks", aligned_blocks}, {"libc_bytes", aligned_blocks * ALIGNED});
    return 1;
}

int main(void)
{
    serve(obey);
}
