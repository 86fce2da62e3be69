// `go N`: N threads, a few at a time, that end in every way: they return, they leave by pthread_exit from far down, their
// handler ends them while they are inside calloc. Destructors of their thread-local data free and allocate.
//
// The fault inside calloc is made as in jump_out_of_calloc.c.
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "victim.h"

enum { AT_ONCE = 4, LARGE = 96 << 10, GUARD = 200, PAGE = 4096, WAYS = 4 };

// What the program's own functions did; starting threads allocates too.
static _Atomic uint64_t kept_blocks, kept_bytes, ended_inside;
static pthread_key_t key;
static __thread char *taken_page;
static __thread sigjmp_buf before_calloc;
static __thread int way;

FRAME static void *keep(size_t size)
{
    void *block = opaque(malloc(size));
    kept_blocks++;
    kept_bytes += size;
    return block;
}

FRAME static void let_go(void *block, size_t size)
{
    kept_blocks--;
    kept_bytes -= size;
    free(opaque(block));
}

// Of three rounds of destructors each frees what is there and allocates again; what the last leaves stays.
static void destroy(void *value)
{
    let_go(value, 500);
    void *next = keep(500);
    static __thread int rounds;
    if (rounds++ < 2)
        pthread_setspecific(key, next);
    keep(40);
}

static void handle(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    if ((char *)info->si_addr < taken_page || (char *)info->si_addr >= taken_page + PAGE)
        _exit(71);
    if (mprotect(taken_page, PAGE, PROT_READ | PROT_WRITE))
        _exit(72);
    ended_inside++;
    if (way == 3)
        siglongjmp(before_calloc, 1);
    // Without a word to libc: the kernel alone knows that the thread is gone.
    syscall(SYS_exit, 0);
}

FRAME static void be_inside_calloc(void)
{
    char *large = keep(LARGE);
    keep(GUARD);
    memset(large, 'x', LARGE);
    taken_page = (char *)(((uintptr_t)large + LARGE / 2) & ~(uintptr_t)(PAGE - 1));
    let_go(large, LARGE);
    if (mprotect(taken_page, PAGE, PROT_NONE))
        broken("mprotect");
    if (sigsetjmp(before_calloc, 1) == 0) {
        opaque(calloc(1, LARGE));
        broken("calloc returned");
    }
}

// Leaves from many frames down.
FRAME static void exit_from_below(int depth)
{
    char room[64];
    opaque(room);
    if (depth == 0) {
        keep(24);
        void (*leave)(void *) = (void (*)(void *))opaque((void *)pthread_exit);
        leave(NULL);
    } else {
        exit_from_below(depth - 1);
    }
    opaque(room);
}

static void *live(void *argument)
{
    way = (uintptr_t)argument % WAYS;
    pthread_setspecific(key, keep(500));
    void *block = keep(3000);
    keep(100);
    if (way == 1)
        exit_from_below(20);
    if (way >= 2)
        be_inside_calloc();
    let_go(block, 3000);
    if (way == 3)
        pthread_exit(NULL);
    return NULL;
}

static int obey(const char *command, uint64_t number)
{
    if (strcmp(command, "go"))
        return 0;
    for (uint64_t first = 0; first < number; first += AT_ONCE) {
        pthread_t threads[AT_ONCE];
        for (uint64_t i = 0; i < AT_ONCE; i++)
            if (pthread_create(&threads[i], NULL, live, (void *)(first + i)))
                broken("pthread_create");
        for (uint64_t i = 0; i < AT_ONCE; i++)
            pthread_join(threads[i], NULL);
    }
    TRUTH({"live_blocks", kept_blocks}, {"live_bytes", kept_bytes}, {"ended_inside", ended_inside});
    return 1;
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    // An arena for each thread, as many as never give theirs back: in a shared one another thread could be handed the block that
    // calloc is to find.
    mallopt(M_ARENA_MAX, 10000);
    pthread_key_create(&key, destroy);
    serve(obey);
}
