// C++ exceptions while the allocator is traced: out of operator new, and through frames that allocate.
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "victim.h"

enum { ROUNDS = 2000 };

static uint64_t refused, caught, unwound;

struct Counted {
    ~Counted() { unwound++; }
};

FRAME static void ask_too_much()
{
    Counted counted;
    std::string alive(200, 'x');
    opaque(::operator new(opaque_size(size_t(1) << 47)));
}

FRAME static void descend(int depth)
{
    Counted counted;
    std::vector<int> alive(100 + depth);
    opaque(alive.data());
    if (depth == 0)
        throw std::runtime_error("a message that is too long to be kept inside the string object itself");
    descend(depth - 1);
}

static int obey(const char *command, uint64_t)
{
    if (strcmp(command, "go"))
        return 0;
    for (int i = 0; i < ROUNDS; i++) {
        try {
            ask_too_much();
        } catch (const std::bad_alloc &) {
            refused++;
        }
        try {
            try {
                descend(5);
            } catch (const std::runtime_error &) {
                throw;
            }
        } catch (const std::exception &error) {
            caught += strlen(error.what()) > 0;
        }
        if (::operator new(opaque_size(size_t(1) << 47), std::nothrow))
            broken("operator new");
    }
    // What operator new refuses, malloc refused first: once for each.
    TRUTH({"refused", refused}, {"caught", caught}, {"unwound", unwound}, {"failed", 2 * ROUNDS});
    return 1;
}

int main()
{
    serve(obey);
}
