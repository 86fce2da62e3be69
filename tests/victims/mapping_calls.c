// Each call by which an address space changes, one row at a time: `mapping_calls libc|raw ROW`. `raw` makes the system
// calls by an instruction of its own.
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "ranges.h"

static int raw;

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    if (!raw) {
        switch (number) {
        case SYS_mmap:
            return (long)mmap((void *)a, b, c, d, e, f);
        case SYS_munmap:
            return munmap((void *)a, b);
        case SYS_mremap:
            return (long)mremap((void *)a, b, c, d, (void *)e);
        case SYS_shmat:
            return (long)shmat(a, (void *)b, c);
        case SYS_shmdt:
            return shmdt((void *)a);
        default:
            return mprotect((void *)a, b, c);
        }
    }
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result < 0 && result > -4096 ? -1 : result;
}

enum { RW = PROT_READ | PROT_WRITE, PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS };

// Addresses that are free: only what a row maps itself lies there.
static char *room;
enum { ROOM_PAGES = 1 << 19 };
#define AT(page) (room + (size_t)(page) * PAGE)

// Maps pages of the room, with flags of its own.
static void map_as(enum kind kind, size_t page, size_t pages, int protection, int flags, int file)
{
    if (call(SYS_mmap, (long)AT(page), pages * PAGE, protection, flags | MAP_FIXED, file, 0) != (long)AT(page))
        broken("mmap");
    came(kind, page, pages);
    books.mmaps++;
}

static void map(size_t page, size_t pages)
{
    map_as(MAPPING, page, pages, RW, PRIVATE, -1);
}

static void unmap(size_t page, size_t pages)
{
    if (call(SYS_munmap, (long)AT(page), pages * PAGE, 0, 0, 0, 0))
        broken("munmap");
    unmapped(page, pages);
}

static void protect(size_t page, size_t pages, int protection)
{
    if (call(SYS_mprotect, (long)AT(page), pages * PAGE, protection, 0, 0, 0))
        broken("mprotect");
    protected(page, pages, protection != PROT_NONE);
}

// Moves to `to`, or stays where it is.
static void remap(size_t page, size_t old_pages, size_t to, size_t pages)
{
    int flags = to == page ? 0 : MREMAP_MAYMOVE | MREMAP_FIXED;
    if (call(SYS_mremap, (long)AT(page), old_pages * PAGE, pages * PAGE, flags, (long)AT(to), 0) != (long)AT(to))
        broken("mremap");
    remapped(page, old_pages, to, pages);
}

static void fails(long result)
{
    if (result != -1)
        broken("a call that must fail succeeded");
}

FRAME static void whole_ranges(void)
{
    map(0, 10);
    map(20, 300);
    map(400, 1);
    unmap(20, 300);
    map(20, 5);
}

FRAME static void parts_of_ranges(void)
{
    map(0, 64);
    unmap(0, 3);
    unmap(60, 4);
    unmap(20, 10);
    map(100, 8);
    unmap(103, 1);
    // The length is rounded up to a page.
    if (call(SYS_munmap, (long)AT(105), 1, 0, 0, 0, 0))
        broken("munmap");
    unmapped(105, 1);
}

FRAME static void several_at_once(void)
{
    map(0, 4);
    map(4, 4);
    map(10, 6);
    map(30, 5);
    map(33, 1);
    // From inside the first to inside the last, over a hole.
    unmap(2, 30);
    // Of nothing but a hole.
    unmap(10, 10);
}

FRAME static void over_older_ones(void)
{
    map(0, 40);
    map(10, 5);
    map(38, 10);
    map_as(RESERVED, 12, 10, PROT_NONE, PRIVATE, -1);
    map_as(MAPPING, 13, 2, RW, PRIVATE, -1);
    // And what must not replace anything.
    fails(call(SYS_mmap, (long)AT(39), 4 * PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0));
    fails(call(SYS_mmap, 0, 1L << 56, RW, PRIVATE, -1, 0));
}

FRAME static void moves(void)
{
    map(0, 10);
    remap(0, 10, 0, 25);
    remap(0, 25, 0, 7);
    remap(0, 7, 100, 7);
    map(200, 30);
    // Onto another one, longer than it was.
    remap(100, 7, 205, 9);
    // A part of one, shorter than it was.
    remap(220, 6, 300, 2);
    // The old range stays there, empty.
    long moved = call(SYS_mremap, (long)AT(300), 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                      (long)AT(400), 0);
    if (moved != (long)AT(400))
        broken("mremap");
    came(MAPPING, 400, 2);
}

FRAME static void failures(void)
{
    map(0, 20);
    map(20, 5);
    map_as(RESERVED, 40, 10, PROT_NONE, PRIVATE, -1);
    fails(call(SYS_munmap, (long)AT(3) + 1, PAGE, 0, 0, 0, 0));
    fails(call(SYS_munmap, (long)AT(3), 0, 0, 0, 0, 0));
    // More than there is with five levels of page tables, too.
    fails(call(SYS_munmap, (long)AT(0), 1L << 56, 0, 0, 0, 0));
    // No room to grow, over a hole, of nothing, onto itself.
    fails(call(SYS_mremap, (long)AT(0), 20 * PAGE, 30 * PAGE, 0, 0, 0));
    fails(call(SYS_mremap, (long)AT(21), 10 * PAGE, 40 * PAGE, MREMAP_MAYMOVE, 0, 0));
    fails(call(SYS_mremap, (long)AT(1000), PAGE, 2 * PAGE, MREMAP_MAYMOVE, 0, 0));
    fails(call(SYS_mremap, (long)AT(40), 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (long)AT(42), 0));
    fails(call(SYS_mprotect, (long)AT(40) + 1, PAGE, RW, 0, 0, 0));
    // The last call of the thread: nothing tells its end but its failure.
    fails(call(SYS_munmap, (long)AT(0), 1L << 56, 0, 0, 0, 0));
}

// As a virtual machine does: much is set aside, committed in steps, and partly given back.
FRAME static void reservations(void)
{
    map_as(RESERVED, 0, 1 << 18, PROT_NONE, PRIVATE | MAP_NORESERVE, -1);
    for (size_t page = 0; page < 4096; page += 16)
        protect(page, 16, RW);
    protect(1000, 100, PROT_NONE);
    protect(1050, 200, PROT_READ);
    // Go commits by mapping anew.
    map(100000, 64);
    map_as(RESERVED, 100010, 4, PROT_NONE, PRIVATE | MAP_NORESERVE, -1);
    // V8 aligns its cage by unmapping both ends.
    map_as(RESERVED, 300000, 512, PROT_NONE, PRIVATE, -1);
    unmap(300000, 100);
    unmap(300356, 156);
    protect(300100, 1, RW);
    // A page that only runs is committed as well.
    protect(300101, 3, PROT_READ | PROT_EXEC);
    unmap(2000, 1000);
}

FRAME static void files_and_shared(void)
{
    int file = memfd_create("victim", 0);
    if (file < 0 || ftruncate(file, 64 * PAGE))
        broken("memfd_create");
    // It is a file by name alone; what is private is a copy of it.
    map_as(SHARED, 0, 64, PROT_READ, MAP_SHARED, file);
    map_as(FILES, 100, 32, RW, MAP_PRIVATE, file);
    // So is one of POSIX's shared memory, if there is any here; a program is none, unless it lies in such a file system.
    int named = shm_open("/highwater-victim", O_RDWR | O_CREAT, 0600);
    if (named < 0)
        named = memfd_create("named", 0);
    else
        shm_unlink("/highwater-victim");
    int program = open("/proc/self/exe", O_RDONLY);
    struct statfs of_program;
    if (named < 0 || ftruncate(named, 8 * PAGE) || program < 0 || fstatfs(program, &of_program))
        broken("shm_open");
    int is_of_memory = of_program.f_type == TMPFS_MAGIC;
    map_as(SHARED, 500, 8, RW, MAP_SHARED, named);
    map_as(SHARED, 510, 8, RW, MAP_SHARED_VALIDATE, named);
    map_as(FILES, 520, 8, PROT_READ, MAP_PRIVATE, named);
    map_as(is_of_memory ? SHARED : FILES, 530, 2, PROT_READ, MAP_SHARED, program);
    protect(500, 2, PROT_NONE);
    unmap(514, 4);
    close(named);
    close(program);
    map_as(SHARED, 200, 16, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
    map_as(SHARED, 300, 8, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1);
    unmap(10, 5);
    unmap(200, 4);
    remap(100, 32, 400, 16);
    // They stay what they are.
    protect(204, 4, PROT_NONE);
    protect(400, 4, PROT_NONE);
    protect(300, 8, RW);
    close(file);
}

// Panics unless the kernel says the same of these pages.
static void check_access(size_t page, size_t pages, int is_accessible)
{
    int ends[2];
    if (pipe(ends))
        broken("pipe");
    for (size_t at = page; at < page + pages; at++) {
        char byte;
        if ((write(ends[1], AT(at), 1) == 1) != is_accessible || (is_accessible && read(ends[0], &byte, 1) != 1))
            broken("a page is not what it is taken for");
    }
    close(ends[0]);
    close(ends[1]);
}

// A call that fails has changed what lies before the place at which it failed.
FRAME static void partly_protected(void)
{
    map(0, 10);
    fails(call(SYS_mprotect, (long)AT(4), 10 * PAGE, PROT_NONE, 0, 0, 0));
    protected(4, 6, 0);
    check_access(0, 4, 1);
    check_access(4, 6, 0);
    // Several of them, some of which are so already.
    map_as(RESERVED, 100, 4, PROT_NONE, PRIVATE, -1);
    map(104, 3);
    map_as(RESERVED, 107, 2, PROT_NONE, PRIVATE, -1);
    fails(call(SYS_mprotect, (long)AT(101), 20 * PAGE, RW, 0, 0, 0));
    protected(101, 8, 1);
    check_access(100, 1, 0);
    check_access(101, 8, 1);
    // At a file that may not be written.
    int file = memfd_create("victim", 0);
    char path[32] = "/proc/self/fd/";
    path[14] = '0' + file;
    int read_only = file < 10 && !ftruncate(file, PAGE) ? open(path, O_RDONLY) : -1;
    if (read_only < 0)
        broken("memfd_create");
    map_as(RESERVED, 200, 5, PROT_NONE, PRIVATE, -1);
    map_as(SHARED, 205, 1, PROT_READ, MAP_SHARED, read_only);
    map_as(RESERVED, 206, 5, PROT_NONE, PRIVATE, -1);
    fails(call(SYS_mprotect, (long)AT(200), 11 * PAGE, RW, 0, 0, 0));
    protected(200, 5, 1);
    check_access(200, 6, 1);
    check_access(206, 5, 0);
    close(file);
    close(read_only);
    // Nothing lies before a hole, or before a page that cannot be asked for.
    map(301, 2);
    fails(call(SYS_mprotect, (long)AT(300), 3 * PAGE, PROT_NONE, 0, 0, 0));
    fails(call(SYS_mprotect, (long)AT(301) + 1, PAGE, PROT_NONE, 0, 0, 0));
    check_access(301, 2, 1);
}

static void attach(int id, size_t page, size_t pages, int flags)
{
    if (call(SYS_shmat, id, (long)AT(page), flags, 0, 0, 0) != (long)AT(page))
        broken("shmat");
    came(SHARED, page, pages);
    books.mmaps++;
    check_access(page, pages, 1);
}

static void detach(size_t page, size_t pages)
{
    if (call(SYS_shmdt, (long)AT(page), 0, 0, 0, 0, 0))
        broken("shmdt");
    unmapped(page, pages);
    check_access(page, pages, 0);
}

FRAME static void segments(void)
{
    // The length is rounded up to a page.
    int id = shmget(IPC_PRIVATE, 15 * PAGE + 1, 0600);
    if (id < 0)
        broken("shmget");
    attach(id, 0, 16, 0);
    // Side by side with itself.
    attach(id, 16, 16, 0);
    attach(id, 100, 16, SHM_RDONLY);
    map(200, 40);
    attach(id, 210, 16, SHM_REMAP);
    if (shmctl(id, IPC_RMID, NULL))
        broken("shmctl");
    detach(0, 16);
    // In pieces by now, which are all of it.
    protect(104, 4, PROT_NONE);
    detach(100, 16);
    // Of what is no segment, and of nothing.
    fails(call(SYS_shmdt, (long)AT(201), 0, 0, 0, 0, 0));
    fails(call(SYS_shmdt, (long)AT(300), 0, 0, 0, 0, 0));
    fails(call(SYS_shmdt, (long)AT(17), 0, 0, 0, 0, 0));
    unmap(211, 3);
}

FRAME static void thread_stacks(void)
{
    map_as(THREAD_STACK, 0, 256, RW, PRIVATE | MAP_STACK, -1);
    // As glibc does: all of it set aside, and then all but the guard committed.
    map_as(RESERVED_STACK, 300, 257, PROT_NONE, PRIVATE | MAP_STACK, -1);
    protect(301, 256, RW);
    unmap(0, 256);
}

FRAME static void program_break(void)
{
    // The room is where the break is: pages are those of the heap segment, and only whole ones count.
    if (sbrk(100 * PAGE) != room)
        broken("sbrk");
    came(MAPPING, 0, 100);
    if (sbrk(PAGE / 2) == (void *)-1 || sbrk(PAGE / 4) == (void *)-1)
        broken("sbrk");
    came(MAPPING, 100, 1);
    if (sbrk(-(50 * PAGE)) == (void *)-1)
        broken("sbrk");
    went(51, 50);
    if (brk(room + 10 * PAGE))
        broken("brk");
    went(10, 41);
    // Refused: the break stays where it is.
    if (!brk(opaque(room + ((size_t)1 << 46))))
        broken("brk");
    unmap(2, 3);
}

static const struct row {
    const char *name;
    void (*run)(void);
} rows[] = {
    {"whole_ranges", whole_ranges},
    {"parts_of_ranges", parts_of_ranges},
    {"several_at_once", several_at_once},
    {"over_older_ones", over_older_ones},
    {"moves", moves},
    {"failures", failures},
    {"reservations", reservations},
    {"files_and_shared", files_and_shared},
    {"partly_protected", partly_protected},
    {"segments", segments},
    {"thread_stacks", thread_stacks},
    {"program_break", program_break},
};

static void (*row)(void);

static int obey(const char *command, uint64_t number)
{
    (void)number;
    if (strcmp(command, "go"))
        return 0;
    row();
    tell_ranges();
    return 1;
}

int main(int count, char **arguments)
{
    if (count != 3)
        broken("there are two arguments");
    raw = !strcmp(arguments[1], "raw");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (!strcmp(rows[i].name, arguments[2]))
            row = rows[i].run;
    if (!row)
        broken("the argument is no row");
    if (row == program_break) {
        char *end = sbrk(0);
        intptr_t rest = -(uintptr_t)end & (PAGE - 1);
        room = (char *)sbrk(rest) + rest;
    } else {
        room = mmap(NULL, ROOM_PAGES * PAGE, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0);
        if (room == MAP_FAILED || munmap(room, ROOM_PAGES * PAGE))
            broken("no room");
    }
    serve(obey);
}
