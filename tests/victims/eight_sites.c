// Eight call sites on eight distinct stacks. `rise` goes to 10 000 live blocks of random sizes, with frees on the way,
// `fall` frees most of them and goes on a little.
#include "victim.h"

enum { SITES = 8, BLOCKS = 10000, LAST_RISE = 2000, KEPT = 270 };

static struct site {
    uint64_t bytes, blocks;
} live[SITES], peak[SITES];
static uint64_t live_bytes, peak_bytes;

static struct held {
    void *block;
    size_t size;
    size_t site;
} held[BLOCKS];
static size_t held_count;

#define SITE(number)                            \
    FRAME static void *site_##number(size_t size) \
    {                                           \
        return opaque(malloc(size));            \
    }

SITE(0)
SITE(1)
SITE(2)
SITE(3)
SITE(4)
SITE(5)
SITE(6)
SITE(7)

static void *(*const sites[SITES])(size_t) = {site_0, site_1, site_2, site_3, site_4, site_5, site_6, site_7};

// The stack of site N has 2 N of these.
FRAME static void *descend(size_t depth, size_t site, size_t size)
{
    if (!depth)
        return opaque(sites[site](size));
    return opaque(descend(depth - 1, site, size));
}

static void allocate(void)
{
    size_t site = random_below(SITES);
    size_t size = 1 + random_below(8192);
    void *block = descend(2 * site, site, size);
    if (!block)
        broken("malloc");
    held[held_count++] = (struct held){block, size, site};
    live[site].bytes += size;
    live[site].blocks++;
    live_bytes += size;
    if (live_bytes >= peak_bytes) {
        peak_bytes = live_bytes;
        memcpy(peak, live, sizeof peak);
    }
}

static void release(void)
{
    size_t at = random_below(held_count);
    struct held gone = held[at];
    held[at] = held[--held_count];
    live[gone.site].bytes -= gone.size;
    live[gone.site].blocks--;
    live_bytes -= gone.size;
    free(opaque(gone.block));
}

FRAME static void rise(void)
{
    while (held_count < BLOCKS) {
        if (held_count && held_count < BLOCKS - LAST_RISE && random_below(3) == 0)
            release();
        else
            allocate();
    }
}

FRAME static void fall(void)
{
    while (held_count > KEPT)
        release();
    for (int i = 0; i < 1000; i++) {
        allocate();
        release();
    }
}

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (!strcmp(command, "rise"))
        rise();
    else if (!strcmp(command, "fall"))
        fall();
    else
        return 0;
    for (size_t site = 0; site < SITES; site++)
        TRUTH({"site", site}, {"peak_bytes", peak[site].bytes}, {"peak_blocks", peak[site].blocks},
              {"live_bytes", live[site].bytes}, {"live_blocks", live[site].blocks});
    return 1;
}

int main(void)
{
    serve(obey);
}
