// A victim of one command, `go`, that tells the truth about its stacks in the file that its first argument names.
#ifndef STACK_VICTIM_H
#define STACK_VICTIM_H

#include "backtrace.h"
#include "victim.h"

// Allocates here, and tells of it.
#define TAKE() opaque(take(another_size()))

// A call that is not the last thing that its caller does.
#define HERE() __asm__ volatile("" : : : "memory")

static void (*stack_body)(uint64_t number);

static int obey_go(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return 0;
    start_telling();
    stack_body(number);
    uint64_t blocks = write_truth();
    TRUTH({"blocks", blocks});
    return 1;
}

UNUSED __attribute__((noreturn)) static void serve_stacks(int count, char **arguments, void (*body)(uint64_t number))
{
    begin_truth(count > 1 ? arguments[1] : NULL);
    stack_body = body;
    serve(obey_go);
}

#endif
