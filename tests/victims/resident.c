// Holds memory that is really there: `fill N` takes N million bytes more and writes to all of them.
#include "books.h"

static int obey(const char *command, uint64_t megabytes)
{
    if (strcmp(command, "fill"))
        return 0;
    for (uint64_t i = 0; i < megabytes; i++) {
        char *block = opaque(malloc(1000000));
        if (!block)
            broken("no memory");
        memset(block, 1, 1000000);
        took(1000000);
    }
    tell_books();
    return 1;
}

int main(void)
{
    serve(obey);
}
