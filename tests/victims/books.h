// The truth about a heap, kept the naive way, by a program that uses it from one thread at a time.
#ifndef BOOKS_H
#define BOOKS_H

#include "victim.h"

struct books {
    uint64_t allocations, allocated_bytes;
    uint64_t frees, freed_bytes;
    uint64_t failed;
    uint64_t live_blocks, live_bytes;
    uint64_t peak_blocks, peak_bytes;
};

static struct books books;

// A block of `size` bytes exists from here on. Of two equal peaks the later one counts.
UNUSED static void took(size_t size)
{
    books.allocations++;
    books.allocated_bytes += size;
    books.live_blocks++;
    books.live_bytes += size;
    if (books.live_bytes >= books.peak_bytes) {
        books.peak_bytes = books.live_bytes;
        books.peak_blocks = books.live_blocks;
    }
}

// The same of a block that an allocator has just returned: the block.
UNUSED static void *booked(void *block, size_t size)
{
    if (!block)
        broken("a block");
    took(size);
    return block;
}

// A block of `size` bytes is about to be handed back.
UNUSED static void gave(size_t size)
{
    books.frees++;
    books.freed_bytes += size;
    books.live_blocks--;
    books.live_bytes -= size;
}

// A successful realloc: one allocation of the new size and one free of the old, the two never live at once.
UNUSED static void resized(size_t old_size, size_t new_size)
{
    gave(old_size);
    took(new_size);
}

UNUSED static void tell_books(void)
{
    TRUTH({"allocations", books.allocations}, {"allocated_bytes", books.allocated_bytes},
          {"frees", books.frees}, {"freed_bytes", books.freed_bytes}, {"failed", books.failed},
          {"live_blocks", books.live_blocks}, {"live_bytes", books.live_bytes},
          {"peak_blocks", books.peak_blocks}, {"peak_bytes", books.peak_bytes});
}

#endif
