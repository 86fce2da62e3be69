// Every way to end: `exit N`, `abort`, `eat` (until there is no memory), `exec` (becomes this program again).
#include <sys/resource.h>

#include "queue.h"

// Blocks that are touched as soon as they exist, each told of before it is touched.
FRAME static void eat(void)
{
    enum { MIB = 1 << 20 };
    for (;;) {
        char *block = opaque(malloc(MIB));
        if (!block)
            broken("malloc failed before the kernel ran out of memory");
        took(MIB);
        tell_books();
        memset(block, 'e', MIB);
    }
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "exit"))
        exit((int)number);
    if (!strcmp(command, "abort"))
        abort();
    if (!strcmp(command, "eat"))
        eat();
    if (!strcmp(command, "exec")) {
        execl("/proc/self/exe", "ends", "again", NULL);
        broken("exec");
    }
    return obey_queue(command, number);
}

int main(void)
{
    // Nothing is learnt from a core file.
    struct rlimit none = {0};
    setrlimit(RLIMIT_CORE, &none);
    serve(obey);
}
