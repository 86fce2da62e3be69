// Each thread has one burst and keeps one block in two hundred; malloc keeps the rest.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 8, TILES = 2000 };
static pthread_barrier_t all;

__attribute__((noinline)) static void *decode_tile(size_t size)
{
    void *tile = malloc(size);
    memset(tile, 1, size);
    return tile;
}

__attribute__((noinline)) static void *remember(size_t size)
{
    return memset(malloc(size), 2, size);
}

static void *work(void *unused)
{
    static __thread void *tiles[TILES];
    for (int i = 0; i < TILES; i++) {
        tiles[i] = decode_tile(4000);
        if (i % 200 == 0)
            remember(64);
    }
    pthread_barrier_wait(&all);
    for (int i = 0; i < TILES; i++)
        free(tiles[i]);
    pthread_barrier_wait(&all);
    pause();
    return unused;
}

int main(void)
{
    pthread_t thread;
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread, NULL, work, NULL);
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    sleep(4);
    puts("done");
}
