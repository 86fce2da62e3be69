// Bears the note by which a Go program is known. A real one moves its stacks, which return probes do not survive.
#include "queue.h"

__asm__(".section .note.go.buildid, \"a\", @note\n"
        ".balign 4\n"
        ".long 4, 8, 4\n"
        ".asciz \"Go\"\n"
        ".balign 4\n"
        ".ascii \"highwatr\"\n"
        ".previous\n");

int main(void)
{
    serve(obey_queue);
}
