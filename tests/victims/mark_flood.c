// Floods its recorder with marks: `flood N` makes N children that name moments as fast as they can, `quiet N` names N moments itself,
// `stop` ends the children and tells how many marks they made.
#include <sys/mman.h>
#include <sys/wait.h>

#include "victim.h"

enum { MOST = 16 };

static pid_t children[MOST];
static uint64_t count;

// Shared with the children, each of which counts its own.
static volatile uint64_t *made;
static volatile uint64_t *stopped;

static void mark(const char *text)
{
    if (write(-1, text, strlen(text)) >= 0)
        broken("write to no file");
}

static void flood(volatile uint64_t *mine)
{
    while (!*stopped) {
        mark(*mine % 2 ? "highwater:end:flood" : "highwater:begin:flood");
        ++*mine;
    }
    _exit(0);
}

static int obey(const char *command, uint64_t number)
{
    if (!strcmp(command, "flood") && number <= MOST) {
        for (count = 0; count < number; count++) {
            children[count] = fork();
            if (children[count] < 0)
                broken("fork");
            if (!children[count])
                flood(made + count);
        }
        return 1;
    }
    if (!strcmp(command, "quiet")) {
        while (number--)
            mark("highwater:quiet");
        return 1;
    }
    if (!strcmp(command, "stop")) {
        *stopped = 1;
        uint64_t sum = 0;
        for (uint64_t i = 0; i < count; i++) {
            if (waitpid(children[i], NULL, 0) != children[i])
                broken("waitpid");
            sum += made[i];
        }
        TRUTH({"made", sum});
        return 1;
    }
    return 0;
}

int main(void)
{
    made = mmap(NULL, (MOST + 1) * sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        broken("mmap");
    stopped = made + MOST;
    serve(obey);
}
