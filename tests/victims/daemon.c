// A program that goes into the background as daemons do: after some time, in which its probes go in, it takes 20 blocks of
// 1 000 000 bytes, forks and ends at once. Its child holds them for two seconds.
#include "victim.h"

#define BLOCKS 20
#define BLOCK 1000000

FRAME static void hold(void)
{
    for (int i = 0; i < BLOCKS; i++)
        memset(opaque(malloc(opaque_size(BLOCK))), 1, BLOCK);
}

int main(void)
{
    leave_time(500);
    hold();
    if (fork() != 0)
        _exit(0);
    sleep(2);
}
