// The truth about an address space, kept the naive way: what each page is.
#ifndef RANGES_H
#define RANGES_H

#include "victim.h"

#define PAGE ((size_t)4096)

// A reserved stack becomes a thread's stack when it is committed.
enum kind { NOTHING, MAPPING, THREAD_STACK, RESERVED, RESERVED_STACK, FILES, SHARED, KINDS };

enum { PAGES_LIMIT = 1 << 19 };
static unsigned char pages_of[PAGES_LIMIT];

static struct {
    uint64_t mmaps, mapped, unmaps, unmapped, unmatched_unmaps, unmatched;
    uint64_t live[KINDS];
    uint64_t peak_mapping;
} books;

static void become(enum kind kind, size_t page)
{
    books.live[pages_of[page]] -= PAGE;
    books.live[kind] += PAGE;
    pages_of[page] = kind;
}

static void note_peak(void)
{
    if (books.live[MAPPING] > books.peak_mapping)
        books.peak_mapping = books.live[MAPPING];
}

// Pages that are gone; answers how many there were.
static size_t went(size_t page, size_t pages)
{
    size_t known = 0;
    for (size_t at = page; at < page + pages; at++) {
        known += pages_of[at] != NOTHING;
        become(NOTHING, at);
    }
    books.unmapped += known * PAGE;
    return known;
}

// New pages, in place of whatever was there.
UNUSED static void came(enum kind kind, size_t page, size_t pages)
{
    went(page, pages);
    for (size_t at = page; at < page + pages; at++)
        become(kind, at);
    books.mapped += pages * PAGE;
    note_peak();
}

UNUSED static void unmapped(size_t page, size_t pages)
{
    size_t known = went(page, pages);
    books.unmaps += known > 0;
    books.unmatched_unmaps += known < pages;
    books.unmatched += (pages - known) * PAGE;
}

// What `mremap` moves is all of one kind here.
UNUSED static void remapped(size_t page, size_t old_pages, size_t to, size_t pages)
{
    enum kind kind = pages_of[page];
    went(page, old_pages);
    came(kind, to, pages);
}

UNUSED static void protected(size_t page, size_t pages, int committed)
{
    static const unsigned char when_committed[KINDS] = {
        NOTHING, MAPPING, THREAD_STACK, MAPPING, THREAD_STACK, FILES, SHARED};
    static const unsigned char when_not[KINDS] = {
        NOTHING, RESERVED, RESERVED_STACK, RESERVED, RESERVED_STACK, FILES, SHARED};
    for (size_t at = page; at < page + pages; at++)
        become((committed ? when_committed : when_not)[pages_of[at]], at);
    note_peak();
}

static void tell_ranges(void)
{
    TRUTH({"mmaps", books.mmaps}, {"mapped_bytes", books.mapped}, {"unmaps", books.unmaps},
          {"unmapped_bytes", books.unmapped}, {"unmatched_unmaps", books.unmatched_unmaps},
          {"unmatched_unmapped_bytes", books.unmatched});
    TRUTH({"mapping", books.live[MAPPING]}, {"thread_stack", books.live[THREAD_STACK]},
          {"reserved", books.live[RESERVED] + books.live[RESERVED_STACK]}, {"file", books.live[FILES]},
          {"shared", books.live[SHARED]}, {"peak_mapping", books.peak_mapping});
}

#endif
