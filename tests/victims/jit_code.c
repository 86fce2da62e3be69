// Makes code as it runs, as a JIT compiler does: three functions, of which a perf map names one before it is called and
// one after.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "victim.h"

enum { FUNCTION_BYTES = 64 };

// push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret
static const unsigned char CODE[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};

static char *made;

__attribute__((noinline)) static void allocate(void)
{
    if (!malloc(1000))
        broken("malloc");
    __asm__ volatile("");
}

static void call(int function)
{
    ((void (*)(void (*)(void)))(made + function * FUNCTION_BYTES))(allocate);
}

static void put_hexadecimal(uint64_t number)
{
    char digits[17] = {0};
    for (int at = 15; at >= 0; at--, number >>= 4)
        digits[at] = "0123456789abcdef"[number & 15];
    put(digits);
}

static void name(int function, const char *text)
{
    char path[64] = "/tmp/perf-";
    put_number(getpid());
    line_text[line_length] = 0;
    strcat(strcat(path, line_text), ".map");
    line_length = 0;
    put_hexadecimal((uint64_t)(made + function * FUNCTION_BYTES));
    put(" 8 ");
    put(text);
    put("\n");
    int map = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (map < 0 || write(map, line_text, line_length) != (ssize_t)line_length)
        broken("the perf map");
    close(map);
    line_length = 0;
}

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (!strcmp(command, "named")) {
        name(0, "Lazy:~early /app/a b.js:1:2");
        call(0);
    } else if (!strcmp(command, "late")) {
        call(1);
        name(1, "late");
    } else if (!strcmp(command, "nameless")) {
        call(2);
    } else {
        return 0;
    }
    return 1;
}

int main(void)
{
    made = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        broken("mmap");
    for (int function = 0; function < 3; function++)
        memcpy(made + function * FUNCTION_BYTES, CODE, sizeof CODE);
    serve(obey);
}
