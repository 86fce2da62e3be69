// What all victims share: hearing commands and telling the truth, without ever allocating.
//
// A victim says READY and then obeys one command a line, `NAME` or `NAME NUMBER`, from its standard input. Each is
// answered with `TRUTH key=number …` lines and a `DONE` line. `quit`, or the end of the input, ends it.
#ifndef VICTIM_H
#define VICTIM_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// A function that keeps its own frame and its own name.
#define FRAME __attribute__((noinline, noipa))
#define UNUSED __attribute__((unused))

// Keeps the compiler from knowing what a pointer is or is not used for.
static inline void *opaque(void *pointer)
{
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

// A size that the compiler cannot see through, and so neither warn of nor optimise for.
static inline size_t opaque_size(size_t size)
{
    __asm__ volatile("" : "+r"(size));
    return size;
}

// Leaves the tracer so much time, milliseconds; on an emulated processor ten times as much.
UNUSED static void leave_time(uint64_t milliseconds)
{
    if (getenv("HIGHWATER_EMULATED"))
        milliseconds *= 10;
    struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR)
        ;
}

// xorshift64*: the same numbers in every run.
static uint64_t random_state = 0x9e3779b97f4a7c15;

UNUSED static uint64_t random_from(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1d;
}

UNUSED static uint64_t random_below(uint64_t limit)
{
    return (random_from(&random_state) >> 11) % limit;
}

static char line_text[1024];
static size_t line_length;

static void put(const char *text)
{
    while (*text && line_length < sizeof line_text - 1)
        line_text[line_length++] = *text++;
}

static void put_number(uint64_t number)
{
    char digits[24];
    char *at = digits + sizeof digits;
    *--at = 0;
    do
        *--at = '0' + number % 10;
    while (number /= 10);
    put(at);
}

static void put_end(void)
{
    line_text[line_length++] = '\n';
    for (size_t written = 0; written < line_length;) {
        ssize_t count = write(1, line_text + written, line_length - written);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            _exit(66);
        written += count;
    }
    line_length = 0;
}

UNUSED static void say(const char *text)
{
    put(text);
    put_end();
}

// Something the test must hear of and that must never happen.
UNUSED __attribute__((noreturn)) static void broken(const char *what)
{
    line_length = 0;
    put("BROKEN ");
    put(what);
    put_end();
    _exit(70);
}

struct fact {
    const char *key;
    uint64_t value;
};

UNUSED static void tell(const struct fact *facts, size_t count)
{
    put("TRUTH");
    for (size_t i = 0; i < count; i++) {
        put(" ");
        put(facts[i].key);
        put("=");
        put_number(facts[i].value);
    }
    put_end();
}

#define TRUTH(...)                                          \
    do {                                                    \
        const struct fact facts[] = {__VA_ARGS__};          \
        tell(facts, sizeof facts / sizeof facts[0]);        \
    } while (0)

static char heard[256];

// The next command, or NULL at the end of the input.
static const char *hear(void)
{
    size_t length = 0;
    for (;;) {
        char byte;
        ssize_t count = read(0, &byte, 1);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return NULL;
        if (byte == '\n')
            break;
        if (length < sizeof heard - 1)
            heard[length++] = byte;
    }
    heard[length] = 0;
    return heard;
}

// Obeys commands for ever. `obey` answers whether it knows the command.
UNUSED __attribute__((noreturn)) static void serve(int (*obey)(const char *command, uint64_t number))
{
    say("READY");
    for (;;) {
        const char *line = hear();
        if (!line || !strcmp(line, "quit"))
            _exit(0);
        char command[sizeof heard];
        size_t length = strcspn(line, " ");
        memcpy(command, line, length);
        command[length] = 0;
        uint64_t number = 0;
        for (const char *digit = line + length + (line[length] == ' '); *digit >= '0' && *digit <= '9'; digit++)
            number = number * 10 + (*digit - '0');
        if (!obey(command, number))
            broken("no such command");
        put("DONE ");
        put(command);
        put_end();
    }
}

#endif
