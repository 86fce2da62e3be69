// Blocks that come through something other than a direct call: C++ operators, containers, strdup.
#include <new>
#include <string>
#include <vector>

#include "books.h"

FRAME static void go()
{
    int *one = (int *)opaque(new int(1));
    took(sizeof(int));
    char *many = (char *)opaque(new char[777]);
    took(777);
    void *quiet = opaque(::operator new(88, std::nothrow));
    took(88);
    void *aligned = opaque(::operator new(640, std::align_val_t(64)));
    took(640);

    static std::vector<uint64_t> *numbers = new std::vector<uint64_t>;
    took(sizeof *numbers);
    numbers->reserve(1000);
    took(8000);
    static std::string *text = new std::string(99, 'x');
    took(sizeof *text);
    took(100);

    char *copy = (char *)opaque(strdup("twenty characters ok"));
    took(21);
    char *part = (char *)opaque(strndup("twenty characters ok", 6));
    took(7);

    gave(sizeof(int));
    delete one;
    gave(777);
    delete[] many;
    gave(88);
    ::operator delete(quiet, size_t(88));
    gave(640);
    ::operator delete(aligned, std::align_val_t(64));
    gave(21);
    free(copy);
    opaque(part);
}

static int obey(const char *command, uint64_t)
{
    if (strcmp(command, "go"))
        return 0;
    go();
    tell_books();
    return 1;
}

int main()
{
    serve(obey);
}
