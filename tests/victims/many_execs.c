// `many_execs N MIB` calls exec N times; the last program holds MIB mebibytes a moment later, and ends.
#include <stdio.h>

#include "victim.h"

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    int left = atoi(arguments[1]);
    if (left > 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", left - 1);
        execl("/proc/self/exe", arguments[0], number, arguments[2], (char *)NULL);
        return 9;
    }
    usleep(1000000);
    size_t size = (size_t)atoi(arguments[2]) << 20;
    memset(opaque(malloc(opaque_size(size))), 1, size);
    usleep(200000);
    return 0;
}
