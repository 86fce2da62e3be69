// Blocks of many sizes, some hundred megabytes of them: `seed N`, `hold N` keeps N, `churn N` replaces N of those at random,
// `resize N` resizes as many, `drop` frees them all.
#include "books.h"

enum { SLOTS = 1 << 15 };

static struct slot {
    unsigned char *block;
    size_t size;
} slots[SLOTS];

// Powers of two with what lies between: as many blocks of each, so that most bytes are in few blocks.
static size_t draw_size(void)
{
    // Large ones are rarer: of those of half a megabyte and more, some two hundred.
    static const unsigned char shifts[] = {4, 5, 6, 6, 7, 8, 8, 9, 10, 10, 11, 12, 12, 13, 14, 15};
    unsigned shift = shifts[random_below(sizeof shifts)];
    if (random_below(256) == 0)
        shift = 16 + random_below(4);
    return ((size_t)1 << shift) + random_below((size_t)1 << shift);
}

static void allocate(struct slot *slot)
{
    slot->size = draw_size();
    slot->block = booked(opaque(malloc(slot->size)), slot->size);
}

static void release(struct slot *slot)
{
    if (!slot->block)
        return;
    gave(slot->size);
    free(opaque(slot->block));
    slot->block = NULL;
}

FRAME static void hold(uint64_t count)
{
    for (uint64_t i = 0; i < count && i < SLOTS; i++)
        if (!slots[i].block)
            allocate(&slots[i]);
}

FRAME static void churn(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct slot *slot = &slots[random_below(SLOTS)];
        release(slot);
        allocate(slot);
    }
}

FRAME static void resize(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct slot *slot = &slots[random_below(SLOTS)];
        if (!slot->block)
            continue;
        size_t size = draw_size();
        unsigned char *block = opaque(realloc(slot->block, size));
        if (!block)
            broken("realloc");
        resized(slot->size, size);
        slot->block = block;
        slot->size = size;
    }
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "seed"))
        random_state ^= number * 0x2545f4914f6cdd1d;
    else if (!strcmp(command, "hold"))
        hold(number);
    else if (!strcmp(command, "churn"))
        churn(number);
    else if (!strcmp(command, "resize"))
        resize(number);
    else if (!strcmp(command, "drop"))
        for (int i = 0; i < SLOTS; i++)
            release(&slots[i]);
    else
        return 0;
    tell_books();
    return 1;
}

int main(void)
{
    serve(obey);
}
