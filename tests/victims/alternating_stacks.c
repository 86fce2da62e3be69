// Ways to one place: the leaf lies at the same address and was called from the same instruction, while dead slots above it
// still hold the return addresses of other ways. A stack that is taken for the last one is caught here.
//
// Ways end in a function that moves the stack pointer down to a given address, with its own frame found from rbp, rbx or
// r12: below it nothing tells one way from another but that register. The room that it passes over is never written to.
#include <alloca.h>

#include "stack_victim.h"

typedef void jump(uintptr_t aim, void (*next)(void));

// The stack pointer becomes `aim`, which lies below it, and then `next` is called.
#define JUMP(name, register)                                                                         \
    void name(uintptr_t aim, void (*next)(void));                                                    \
    __asm__(".text\n.globl " #name "\n.type " #name ", @function\n" #name ": .cfi_startproc\n"       \
            " push %" #register "\n .cfi_adjust_cfa_offset 8\n .cfi_rel_offset %" #register ", 0\n"  \
            " mov %rsp, %" #register "\n .cfi_def_cfa_register %" #register "\n"                     \
            " mov %rdi, %rsp\n"                                                                      \
            " call *%rsi\n"                                                                          \
            " mov %" #register ", %rsp\n .cfi_def_cfa_register %rsp\n"                               \
            " pop %" #register "\n .cfi_adjust_cfa_offset -8\n .cfi_restore %" #register "\n"        \
            " ret\n .cfi_endproc\n.size " #name ", .-" #name "\n")

JUMP(jump_by_rbp, rbp);
JUMP(jump_by_rbx, rbx);
JUMP(jump_by_r12, r12);

FRAME static void leaf(void)
{
    TAKE();
    HERE();
}

// Saves rbx and r12, which its caller's frame may be found from.
FRAME static void saving_leaf(void)
{
    uint64_t a = random_below(9), b = a + 1, c = a * 5, d = a ^ b;
    __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));
    leaf();
    __asm__ volatile("" : : "r"(a), "r"(b), "r"(c), "r"(d));
}

// Has a frame of its own from rbp, whose saved rbp is its caller's.
FRAME static void leaf_with_base(void)
{
    char *room = alloca(16 * (1 + random_below(8)));
    opaque(room);
    leaf();
    opaque(room);
}

struct way {
    size_t size;
    uintptr_t aim;
    jump *jump;
    void (*leaf)(void);
};

// As large as it is told, and not written to.
#define WAY(name)                                                 \
    FRAME static void name(int depth, const struct way *way)      \
    {                                                             \
        char *room = alloca(way->size);                           \
        opaque(room);                                             \
        if (depth)                                                \
            name(depth - 1, way);                                 \
        else                                                      \
            way->jump(way->aim, way->leaf);                       \
        opaque(room);                                             \
    }

WAY(one)
WAY(other)
WAY(third)

typedef void walked(int depth, const struct way *way);

// No base register of its own: saves what it finds.
FRAME static void passing(int depth, const struct way *way, walked *walked)
{
    uint64_t a = way->size * 3, b = a ^ depth;
    __asm__ volatile("" : "+r"(a), "+r"(b));
    walked(depth, way);
    __asm__ volatile("" : : "r"(a), "r"(b));
}

static void body(uint64_t number)
{
    static walked *const ways[] = {one, other, third};
    static jump *const jumps[] = {jump_by_rbp, jump_by_rbx, jump_by_r12};
    static void (*const leaves[])(void) = {leaf, saving_leaf, leaf_with_base};
    uintptr_t lowest = ((uintptr_t)__builtin_frame_address(0) - (64 << 10)) & ~(uintptr_t)63;
    struct way way = {64, lowest, jump_by_rbp, leaf};
    // Ways of the same depth and size in turn: everything lies at the same addresses, and few words differ.
    for (uint64_t i = 0; i < number; i++) {
        way.jump = jumps[i / 15 % 3];
        ways[i % 3](i / 3 % 5, &way);
    }
    // One way twice, from another address: the same return addresses, and the frames of the last time are still there.
    for (uint64_t i = 0; i < number; i++) {
        way.jump = jumps[i / 40 % 3];
        way.leaf = leaves[i / 120 % 3];
        way.size = i % 2 ? 64 : 512;
        one(i / 2 % 4, &way);
    }
    // Anything.
    for (uint64_t i = 0; i < number; i++) {
        way.jump = jumps[random_below(3)];
        way.leaf = leaves[random_below(3)];
        way.size = 16 * (1 + random_below(40));
        way.aim = i % 7 ? lowest : lowest - 16 * random_below(64);
        int depth = random_below(12);
        walked *walked = ways[random_below(3)];
        if (random_below(2))
            passing(depth, &way, walked);
        else
            walked(depth, &way);
    }
    // The same bytes by few large frames and by many small ones.
    way.aim = lowest;
    for (uint64_t i = 0; i < number; i++) {
        int depth = 1 << random_below(4);
        way.jump = jumps[random_below(3)];
        way.size = 960 / depth;
        ways[random_below(3)](depth - 1, &way);
    }
}

int main(int count, char **arguments)
{
    serve_stacks(count, arguments, body);
}
