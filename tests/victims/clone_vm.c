// `go N`: a child in the same memory, by `clone(CLONE_VM)`, holds N blocks of a megabyte, and ends.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "books.h"

enum { SIZE = 1000000, STACK = 1 << 18 };

static char stack[STACK] __attribute__((aligned(16)));

static int live_in_parents_memory(void *count)
{
    for (uint64_t i = 0; i < *(uint64_t *)count; i++)
        booked(opaque(malloc(opaque_size(SIZE))), SIZE);
    return 0;
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return 0;
    int status;
    pid_t child = clone(live_in_parents_memory, stack + STACK, CLONE_VM | SIGCHLD, &number);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        broken("a child");
    tell_books();
    return 1;
}

int main(void)
{
    serve(obey);
}
