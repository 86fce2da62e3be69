// Makes a thread for each tone, and neither joins it nor gives back what it plays: stacks and samples stay.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *tone(void *of)
{
    char buffer[65536];
    memset(buffer, 1, sizeof buffer);
    __asm__ volatile("" ::"r"(buffer) : "memory");
    return of;
}

__attribute__((noinline)) static void play(void)
{
    pthread_t thread;
    char *samples = malloc(40000);
    memset(samples, 1, 40000);
    pthread_create(&thread, NULL, tone, samples);
}

int main(void)
{
    for (int i = 0; i < 100; i++) {
        play();
        usleep(5000);
    }
    sleep(2);
    puts("done");
}
