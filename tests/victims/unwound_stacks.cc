// C++ exceptions thrown through several frames: blocks taken in destructors while they are, in catch blocks, and by the
// runtime for the exception itself.
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "stack_victim.h"

extern "C" void *__real___cxa_allocate_exception(size_t size) noexcept;

// The runtime's own header lies before the exception: __cxa_refcounted_exception of libstdc++.
enum { HEADER = 128 };

FRAME static void *take_exception(size_t size) noexcept
{
    void *exception = __real___cxa_allocate_exception(size);
    told(exception, size + HEADER);
    return exception;
}

// What the runtime allocates for exceptions is told of too: this stands before its function (see ld(1), --wrap).
extern "C" FRAME void *__wrap___cxa_allocate_exception(size_t size) noexcept
{
    return opaque(take_exception(size));
}

static std::exception_ptr kept[1 << 12];
static size_t kept_count;

struct Takes {
    FRAME ~Takes() { TAKE(); HERE(); }
};

struct Error {
    uint64_t depth;
};

FRAME static void descend(uint64_t depth)
{
    Takes on_the_way_out;
    if (depth == 0)
        throw Error{depth};
    if (depth % 3 == 0) {
        try {
            descend(depth - 1);
        } catch (const Error &) {
            TAKE();
            throw;
        }
    } else {
        descend(depth - 1);
    }
    HERE();
}

FRAME static void caught(uint64_t depth)
{
    try {
        descend(depth);
    } catch (const Error &) {
        TAKE();
        // Stays, so that what the runtime allocated does too.
        kept[kept_count++] = std::current_exception();
    }
    TAKE();
    HERE();
}

// A constructor that throws, below a new expression.
struct Throws {
    Takes member;
    FRAME Throws() { throw Error{1}; }
};

FRAME static void constructed()
{
    try {
        Throws never;
    } catch (...) {
        TAKE();
        kept[kept_count++] = std::current_exception();
    }
    HERE();
}

static void body(uint64_t number)
{
    for (uint64_t i = 0; i < number; i++) {
        caught(i % 12);
        constructed();
    }
}

int main(int count, char **arguments)
{
    serve_stacks(count, arguments, body);
}
