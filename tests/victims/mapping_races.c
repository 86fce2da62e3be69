// `go`: four threads that map, move and unmap as fast as they can, so that each is given addresses that another has just
// left. `realloc`: four threads that resize and free one another's blocks.
#include <stdatomic.h>
#include <sys/mman.h>

#include "victim.h"
#include "crew.h"

#define PAGE ((size_t)4096)

enum { THREADS = 4, SLOTS = 32, ROUNDS = 5000, BLOCKS = 256, RESIZES = 50000 };
enum { RW = PROT_READ | PROT_WRITE, PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS };

struct range {
    char *start;
    size_t pages;
};

static struct worker {
    uint64_t random;
    struct range ranges[SLOTS];
    uint64_t mmaps, mapped, unmaps, unmapped;
    uint64_t allocations, allocated_bytes, frees, freed_bytes;
} workers[THREADS];

// A block begins with its own size.
static _Atomic(uint64_t *) blocks[BLOCKS];

static void *new_range(struct worker *worker, size_t pages)
{
    void *start = mmap(NULL, pages * PAGE, RW, PRIVATE, -1, 0);
    if (start == MAP_FAILED)
        broken("mmap");
    worker->mmaps++;
    worker->mapped += pages * PAGE;
    return start;
}

FRAME static void race_ranges(int member)
{
    struct worker *worker = &workers[member];
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t drawn = random_from(&worker->random);
        struct range *range = &worker->ranges[(drawn >> 40) % SLOTS];
        size_t pages = 2 + (drawn >> 20) % 30;
        if (!range->start) {
            *range = (struct range){new_range(worker, pages), pages};
        } else if (drawn % 4 == 0) {
            char *moved = mremap(range->start, range->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
            if (moved == MAP_FAILED)
                broken("mremap");
            // As with realloc: the whole old range is gone, the whole new one has come.
            worker->unmapped += range->pages * PAGE;
            worker->mapped += pages * PAGE;
            *range = (struct range){moved, pages};
        } else if (drawn % 4 == 1) {
            // Refused: there is not so much room.
            if (mremap(range->start, range->pages * PAGE, (size_t)1 << 46, 0) != MAP_FAILED)
                broken("mremap");
        } else {
            size_t gone = drawn % 8 == 2 ? (range->pages + 1) / 2 : range->pages;
            if (munmap(range->start, gone * PAGE))
                broken("munmap");
            worker->unmaps++;
            worker->unmapped += gone * PAGE;
            range->pages -= gone;
            range->start = range->pages ? range->start + gone * PAGE : NULL;
        }
    }
}

FRAME static void race_blocks(int member)
{
    struct worker *worker = &workers[member];
    for (int i = 0; i < RESIZES; i++) {
        uint64_t drawn = random_from(&worker->random);
        _Atomic(uint64_t *) *slot = &blocks[(drawn >> 40) % BLOCKS];
        uint64_t *block = atomic_exchange(slot, NULL);
        size_t old = block ? *block : 0;
        size_t size = sizeof(uint64_t) + (drawn >> 20) % (drawn % 64 ? 3000 : 400000);
        if (block) {
            worker->frees++;
            worker->freed_bytes += old;
        }
        if (block && drawn % 4 == 0) {
            free(opaque(block));
            continue;
        }
        block = opaque(realloc(block, size));
        if (!block)
            broken("realloc");
        worker->allocations++;
        worker->allocated_bytes += size;
        *block = size;
        block = atomic_exchange(slot, block);
        if (block) {
            worker->frees++;
            worker->freed_bytes += *block;
            free(opaque(block));
        }
    }
}

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (!strcmp(command, "go"))
        have_crew_do(race_ranges);
    else if (!strcmp(command, "realloc"))
        have_crew_do(race_blocks);
    else
        return 0;
    struct worker all = {0};
    uint64_t mapping = 0, live_blocks = 0, live_bytes = 0;
    for (int i = 0; i < THREADS; i++) {
        all.mmaps += workers[i].mmaps;
        all.mapped += workers[i].mapped;
        all.unmaps += workers[i].unmaps;
        all.unmapped += workers[i].unmapped;
        all.allocations += workers[i].allocations;
        all.allocated_bytes += workers[i].allocated_bytes;
        all.frees += workers[i].frees;
        all.freed_bytes += workers[i].freed_bytes;
        for (int slot = 0; slot < SLOTS; slot++)
            mapping += workers[i].ranges[slot].pages * PAGE;
    }
    for (int i = 0; i < BLOCKS; i++) {
        uint64_t *block = atomic_load(&blocks[i]);
        live_blocks += block != NULL;
        live_bytes += block ? *block : 0;
    }
    TRUTH({"mmaps", all.mmaps}, {"mapped_bytes", all.mapped}, {"unmaps", all.unmaps}, {"unmapped_bytes", all.unmapped},
          {"mapping", mapping});
    TRUTH({"allocations", all.allocations}, {"allocated_bytes", all.allocated_bytes}, {"frees", all.frees},
          {"freed_bytes", all.freed_bytes}, {"live_blocks", live_blocks}, {"live_bytes", live_bytes});
    return 1;
}

int main(void)
{
    for (int i = 0; i < THREADS; i++)
        workers[i].random = 0x1234567 + i;
    hire_crew(THREADS);
    serve(obey);
}
