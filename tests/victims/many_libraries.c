// `many_libraries DIRECTORY COUNT` loads DIRECTORY/0000.so and so on; `take` has the function `take` of each allocate a block.
#include <dlfcn.h>
#include <stdio.h>

#include "books.h"

enum { MOST = 10000, SIZE = 1000 };

static void *(*functions[MOST])(size_t size);
static size_t count;

static int obey(const char *command, uint64_t number UNUSED)
{
    if (strcmp(command, "take"))
        return 0;
    for (size_t i = 0; i < count; i++)
        booked(opaque(functions[i](SIZE)), SIZE);
    tell_books();
    return 1;
}

int main(int argument_count, char **arguments)
{
    if (argument_count != 3 || atoi(arguments[2]) > MOST)
        broken("the arguments are a directory and a number of libraries");
    count = atoi(arguments[2]);
    for (size_t i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%04zu.so", arguments[1], i);
        void *library = dlopen(path, RTLD_NOW);
        if (!library)
            broken(dlerror());
        functions[i] = (void *(*)(size_t))dlsym(library, "take");
    }
    serve(obey);
}
