// A library that is opened and closed again and again, as plugins are: `reopened LIBRARY`. `go N` opens it N times, takes a block in it
// each time and keeps it.
#include <dlfcn.h>
#include <time.h>

#include "victim.h"

static const char *library;

// Long enough for its mappings to be read; an emulated machine takes some ten times as long.
static void wait_a_while(void)
{
    struct timespec time = {0, 30 * 1000 * 1000};
    if (getenv("HIGHWATER_EMULATED"))
        time.tv_nsec *= 10;
    while (nanosleep(&time, &time) && errno == EINTR)
        ;
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return 0;
    for (uint64_t i = 0; i < number; i++) {
        void *opened = dlopen(library, RTLD_NOW);
        if (!opened)
            broken(dlerror());
        wait_a_while();
        void *(*take)(size_t) = (void *(*)(size_t))dlsym(opened, "take");
        if (!opaque(take(opaque_size(3000))))
            broken("no memory");
        wait_a_while();
        if (dlclose(opened))
            broken(dlerror());
    }
    TRUTH({"loads", number}, {"bytes", 3000 * number});
    return 1;
}

int main(int count, char **arguments)
{
    if (count != 2)
        broken("the argument is a library");
    library = arguments[1];
    serve(obey);
}
