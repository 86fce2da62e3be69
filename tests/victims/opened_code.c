// Libraries opened and closed while it runs, in turns and at the same address: `opened_code TRUTH ONE OTHER`. `go N` opens
// each N times; a block is taken in it at once, and others after a while.
#include <dlfcn.h>

#include "stack_victim.h"

static const char *libraries[2];
static uint64_t same_address;

FRAME static void call(void (*opened)(int), int depth)
{
    opened(depth);
    HERE();
}

FRAME static void open_and_call(const char *path)
{
    static void *last;
    void *library = dlopen(path, RTLD_NOW);
    if (!library)
        broken(dlerror());
    void (*opened)(int) = (void (*)(int))dlsym(library, "opened_first");
    same_address += last == (void *)opened;
    last = (void *)opened;
    code_changed();
    code_is_fresh(1);
    call(opened, 2);
    call(opened, 5);
    // For tables to be built.
    leave_time(200);
    code_is_fresh(0);
    for (int depth = 0; depth < 6; depth++)
        call(opened, depth);
    dlclose(library);
    code_changed();
}

static void body(uint64_t number)
{
    for (uint64_t i = 0; i < number; i++)
        for (int which = 0; which < 2; which++)
            open_and_call(libraries[which]);
    TRUTH({"opened", 2 * number}, {"same_address", same_address});
}

int main(int count, char **arguments)
{
    if (count != 4)
        broken("the arguments are the truth and two libraries");
    libraries[0] = arguments[2];
    libraries[1] = arguments[3];
    serve_stacks(count, arguments, body);
}
