// Holds 200 000 blocks of 1000 bytes before it is ready: its heap grows in the first milliseconds of the program. `tell` tells
// them.
#include "books.h"

enum { BLOCKS = 200000, SIZE = 1000 };

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (strcmp(command, "tell"))
        return 0;
    tell_books();
    return 1;
}

int main(void)
{
    for (int i = 0; i < BLOCKS; i++)
        booked(opaque(malloc(opaque_size(SIZE))), SIZE);
    serve(obey);
}
