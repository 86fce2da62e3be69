// Pairs of malloc and free in threads of its own, below so many frames as it is told, for `cargo xtask bench`: `depth N`,
// `threads N` and `shape N` say how, `go N` does it for N milliseconds. `hold N` allocates N blocks and keeps them.
//
// Compiled without frame pointers. Its own time a pair is some 15 ns; what is more is a tracer's.
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>

#include "victim.h"

enum shape { SAME_STACK, MANY_STACKS, MIXED_SIZES };

// Frames of a thread that are there anyway: clone3, start_thread, run, the loop, and that of its shape.
#define OTHER_FRAMES 5
#define MOST_THREADS 16
// Between two looks at the clock.
#define CHUNK 64
#define RING 64

static uint64_t depth = 10;
static uint64_t threads = 1;
static uint64_t shape = SAME_STACK;
static uint64_t end;

struct worker {
    pthread_t thread;
    uint64_t pairs, wall_ns, cpu_ns, longest_ns;
};
static struct worker workers[MOST_THREADS];

static uint64_t read_clock(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void pair(size_t size)
{
    free(opaque(malloc(opaque_size(size))));
}

FRAME static void same_stack(void)
{
    for (int i = 0; i < CHUNK; i++)
        pair(64);
}

// Eight call sites, each at another depth: no stack is that of the call before.
FRAME static void site(int number)
{
    char frame[16 + 8 * 7];
    opaque(frame);
    switch (number) {
    case 0: pair(64); break;
    case 1: pair(65); break;
    case 2: pair(66); break;
    case 3: pair(67); break;
    case 4: pair(68); break;
    case 5: pair(69); break;
    case 6: pair(70); break;
    default: pair(71); break;
    }
    opaque(frame);
}

FRAME static void deeper(int frames, int number)
{
    char frame[40];
    opaque(frame);
    if (frames)
        deeper(frames - 1, number);
    else
        site(number);
    opaque(frame);
}

FRAME static void many_stacks(void)
{
    for (int i = 0; i < CHUNK; i++)
        deeper(i * 5 % 8, i % 8);
}

// Sizes of small blocks, the oldest of a few live ones freed each time.
FRAME static void mixed_sizes(void)
{
    void *blocks[RING] = {0};
    uint64_t state = 0x9e3779b97f4a7c15;
    for (int i = 0; i < CHUNK; i++) {
        blocks[i % RING] = opaque(malloc(opaque_size(16 + (random_from(&state) >> 54))));
        if (i >= RING / 2) {
            free(blocks[i - RING / 2]);
            blocks[i - RING / 2] = NULL;
        }
    }
    for (int i = 0; i < RING; i++)
        if (blocks[i])
            free(blocks[i]);
}

FRAME static void loop(struct worker *worker)
{
    uint64_t start = read_clock(CLOCK_MONOTONIC), cpu = read_clock(CLOCK_THREAD_CPUTIME_ID);
    uint64_t now = start, longest = 0, pairs = 0;
    while (now < end) {
        if (shape == SAME_STACK)
            same_stack();
        else if (shape == MANY_STACKS)
            many_stacks();
        else
            mixed_sizes();
        pairs += CHUNK;
        uint64_t then = now;
        now = read_clock(CLOCK_MONOTONIC);
        if (now - then > longest)
            longest = now - then;
    }
    worker->cpu_ns = read_clock(CLOCK_THREAD_CPUTIME_ID) - cpu;
    worker->wall_ns = now - start;
    worker->pairs = pairs;
    worker->longest_ns = longest;
}

static void descend(struct worker *worker, uint64_t frames);

// Frames of other sizes, some of them in need of a register for that.
#define FRAME_OF(name, bytes)                                       \
    FRAME static void name(struct worker *worker, uint64_t frames)  \
    {                                                               \
        char frame[bytes];                                          \
        opaque(frame);                                              \
        descend(worker, frames);                                    \
        opaque(frame);                                              \
    }
FRAME_OF(small_frame, 24)
FRAME_OF(middle_frame, 120)
FRAME_OF(large_frame, 376)

// Always inlined: a frame of its own would make the depth another one.
__attribute__((always_inline)) static inline void descend(struct worker *worker, uint64_t frames)
{
    if (!frames)
        loop(worker);
    else if (frames % 3 == 0)
        large_frame(worker, frames - 1);
    else if (frames % 3 == 1)
        small_frame(worker, frames - 1);
    else
        middle_frame(worker, frames - 1);
}

static void *run(void *worker)
{
    descend(worker, depth - OTHER_FRAMES);
    opaque(worker);
    return NULL;
}

static void go(uint64_t milliseconds)
{
    end = read_clock(CLOCK_MONOTONIC) + milliseconds * 1000000;
    for (uint64_t i = 0; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, run, &workers[i]))
            broken("no thread");
    struct worker sum = {0};
    for (uint64_t i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        sum.pairs += workers[i].pairs;
        sum.wall_ns += workers[i].wall_ns;
        sum.cpu_ns += workers[i].cpu_ns;
        if (workers[i].longest_ns > sum.longest_ns)
            sum.longest_ns = workers[i].longest_ns;
    }
    TRUTH({"pairs", sum.pairs}, {"wall_ns", sum.wall_ns}, {"cpu_ns", sum.cpu_ns}, {"longest_ns", sum.longest_ns});
}

static void hold(uint64_t blocks)
{
    void **held = mmap(NULL, blocks * sizeof *held, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (held == MAP_FAILED)
        broken("no memory");
    for (uint64_t i = 0; i < blocks; i++)
        held[i] = opaque(malloc(opaque_size(64)));
    TRUTH({"blocks", blocks});
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "depth") && number >= OTHER_FRAMES)
        depth = number;
    else if (!strcmp(command, "threads") && number <= MOST_THREADS)
        threads = number;
    else if (!strcmp(command, "shape") && number <= MIXED_SIZES)
        shape = number;
    else if (!strcmp(command, "go"))
        go(number);
    else if (!strcmp(command, "hold"))
        hold(number);
    else
        return 0;
    return 1;
}

int main(void)
{
    serve(obey);
}
