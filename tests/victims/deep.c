// `deep N` allocates one block N calls down; the block stays.
#include "books.h"

FRAME static void *descend(uint64_t depth)
{
    if (!depth)
        return opaque(malloc(100));
    return opaque(descend(depth - 1));
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "deep"))
        return 0;
    if (!descend(number))
        broken("malloc");
    took(100);
    tell_books();
    return 1;
}

int main(void)
{
    serve(obey);
}
