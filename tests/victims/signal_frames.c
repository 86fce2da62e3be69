// Signal handlers that allocate, on the stack that they interrupted or on one above or below it: `signal_frames TRUTH
// same|above|below`. `go N` raises N signals at chosen places and lets a timer interrupt N times anywhere.
#include <sys/time.h>
#include <time.h>

#include "stack_victim.h"
#include "stacks.h"

static volatile sig_atomic_t handled;

FRAME static void from_handler(void)
{
    TAKE();
    handled++;
}

static void handle(int signal_number)
{
    (void)signal_number;
    int saved = errno;
    from_handler();
    errno = saved;
}

static void handle_with_context(int signal_number, siginfo_t *info, void *context)
{
    (void)info;
    opaque(context);
    handle(signal_number);
}

FRAME static void raises(uint64_t depth)
{
    if (depth)
        raises(depth - 1);
    else
        raise(SIGUSR1);
    HERE();
}

// Interrupted at the very first and at the last instruction, and where it has room on the stack: by a fault, so that the
// place is the same in every run.
void faults_first(void);
void faults_with_room(void);
void faults_last(void);
__asm__(".text\n"
        ".globl faults_first\n.type faults_first, @function\n"
        "faults_first: .cfi_startproc\n ud2\n ret\n .cfi_endproc\n.size faults_first, .-faults_first\n"
        ".globl faults_with_room\n.type faults_with_room, @function\n"
        "faults_with_room: .cfi_startproc\n"
        " push %rbx\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset %rbx, 0\n"
        " sub $72, %rsp\n .cfi_adjust_cfa_offset 72\n"
        " ud2\n"
        " add $72, %rsp\n .cfi_adjust_cfa_offset -72\n"
        " pop %rbx\n .cfi_adjust_cfa_offset -8\n .cfi_restore %rbx\n"
        " ret\n .cfi_endproc\n.size faults_with_room, .-faults_with_room\n"
        ".globl faults_last\n.type faults_last, @function\n"
        "faults_last: .cfi_startproc\n"
        " push %rbp\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset %rbp, 0\n"
        " pop %rbp\n .cfi_adjust_cfa_offset -8\n .cfi_restore %rbp\n"
        " ud2\n ret\n .cfi_endproc\n.size faults_last, .-faults_last\n");

static void step_over(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)info;
    from_handler();
    ucontext_t *interrupted = (ucontext_t *)context;
    interrupted->uc_mcontext.gregs[REG_RIP] += 2;
}

FRAME static void faults(void)
{
    faults_first();
    faults_with_room();
    faults_last();
    HERE();
}

// What the timer finds: a loop, calls, a clock in the vdso.
FRAME static uint64_t leaf(uint64_t value)
{
    volatile uint64_t room[40];
    for (int i = 0; i < 40; i++)
        room[i] = value * i;
    for (int i = 0; i < 40; i++)
        value += room[i];
    return value;
}

FRAME static uint64_t calls(uint64_t depth)
{
    uint64_t value = depth ? calls(depth - 1) : 1;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return leaf(value + now.tv_nsec);
}

static void every(long microseconds)
{
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void body(uint64_t number)
{
    for (uint64_t i = 0; i < number; i++) {
        raises(i % 8);
        faults();
    }
    handled = 0;
    every(500);
    for (uint64_t sum = 0; handled < (sig_atomic_t)number;)
        opaque_size(sum += calls(random_below(10)));
    every(0);
}

static char **all_arguments;

// The thread that the timer interrupts: the first one leaves the signal to it.
static void in_thread(void)
{
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    serve_stacks(2, all_arguments, body);
}

int main(int count, char **arguments)
{
    all_arguments = arguments;
    enum placement placement = placement_named(count == 3 ? arguments[2] : NULL);
    int on_stack = placement == SAME_STACK ? 0 : SA_ONSTACK;
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART | on_stack};
    sigaction(SIGUSR1, &action, NULL);
    struct sigaction with_context = {
        .sa_sigaction = handle_with_context, .sa_flags = SA_RESTART | SA_SIGINFO | on_stack};
    sigaction(SIGALRM, &with_context, NULL);
    struct sigaction fault = {.sa_sigaction = step_over, .sa_flags = SA_SIGINFO | on_stack};
    sigaction(SIGILL, &fault, NULL);
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    run_arranged(placement, in_thread);
}
