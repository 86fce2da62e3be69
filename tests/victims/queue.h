// A queue of blocks, oldest first: `hold N` allocates N more, `drop N` frees the N oldest, `work N` does N pairs.
#ifndef QUEUE_H
#define QUEUE_H

#include "books.h"

enum { QUEUE_LIMIT = 1 << 18, WORK_SLOTS = 1 << 10 };

static struct queued {
    unsigned char *block;
    size_t size;
} queue[QUEUE_LIMIT];
static uint64_t queue_oldest, queue_next;

// What the program computes; the same whether it is traced or not.
static uint64_t checksum = 14695981039346656037u;

static void mix(uint64_t value)
{
    checksum = (checksum ^ value) * 1099511628211u;
}

FRAME UNUSED static void hold(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        size_t size = 1 + random_below(2000);
        unsigned char *block = opaque(malloc(size));
        if (!block || queue_next - queue_oldest == QUEUE_LIMIT)
            broken("hold");
        took(size);
        memset(block, (int)(size & 0xff), size);
        queue[queue_next++ % QUEUE_LIMIT] = (struct queued){block, size};
        mix(size);
    }
}

FRAME UNUSED static void drop(uint64_t count)
{
    for (uint64_t i = 0; i < count && queue_oldest < queue_next; i++) {
        struct queued oldest = queue[queue_oldest++ % QUEUE_LIMIT];
        for (size_t at = 0; at < oldest.size; at++)
            if (oldest.block[at] != (oldest.size & 0xff))
                broken("a block was overwritten");
        mix(oldest.block[0]);
        gave(oldest.size);
        free(opaque(oldest.block));
    }
}

// Pairs of malloc and free in random order, which leave nothing behind.
FRAME UNUSED static void work(uint64_t count)
{
    static struct queued slots[WORK_SLOTS];
    for (uint64_t i = 0; i < count; i++) {
        struct queued *slot = &slots[random_below(WORK_SLOTS)];
        if (slot->block) {
            mix(slot->block[0]);
            gave(slot->size);
            free(opaque(slot->block));
        }
        slot->size = 1 + random_below(1000);
        slot->block = opaque(malloc(slot->size));
        if (!slot->block)
            broken("work");
        took(slot->size);
        slot->block[0] = slot->size & 0xff;
    }
    for (size_t i = 0; i < WORK_SLOTS; i++) {
        if (!slots[i].block)
            continue;
        gave(slots[i].size);
        free(opaque(slots[i].block));
        slots[i].block = NULL;
    }
}

UNUSED static int obey_queue(const char *command, uint64_t number)
{
    if (!strcmp(command, "hold"))
        hold(number);
    else if (!strcmp(command, "drop"))
        drop(number);
    else if (!strcmp(command, "work"))
        work(number);
    else if (!strcmp(command, "checksum")) {
        TRUTH({"checksum", checksum});
        return 1;
    } else
        return 0;
    tell_books();
    return 1;
}

#endif
