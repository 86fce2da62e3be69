// Threads that are there before the first command and never end: each time they are told to, all do their work at once.
#include <pthread.h>

static pthread_barrier_t crew_start, crew_done;
static void (*crew_work)(int member);

static void *crew_member(void *number)
{
    for (;;) {
        pthread_barrier_wait(&crew_start);
        crew_work((int)(intptr_t)number);
        pthread_barrier_wait(&crew_done);
    }
    return NULL;
}

static void hire_crew(int members)
{
    pthread_barrier_init(&crew_start, NULL, members + 1);
    pthread_barrier_init(&crew_done, NULL, members + 1);
    for (int i = 0; i < members; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, crew_member, (void *)(intptr_t)i))
            broken("pthread_create");
    }
}

// Has each member do it, and waits until all have.
static void have_crew_do(void (*work)(int member))
{
    crew_work = work;
    pthread_barrier_wait(&crew_start);
    pthread_barrier_wait(&crew_done);
}
