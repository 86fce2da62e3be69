"""A Python program that tells the stack of each of its allocations.

Each has a size of its own, so that a test finds it again. Just before it, in the same line, the program asks its interpreter for
the stack. A line of it: TRUTH, STACK, what it is about, its size, then file, line and function of each frame from the outermost on.
"""

import asyncio
import contextlib
import ctypes
import functools
import sys
import threading
import traceback

held = []
size = 1_000_001
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
said = threading.Lock()


def told(scenario):
    """Tells the caller's stack and gives the size that its next allocation is to have."""
    global size
    frames = traceback.extract_stack()[:-1]
    with said:
        size += 7
        words = ["TRUTH", "STACK", scenario, str(size)]
        for frame in frames:
            words += [frame.filename, str(frame.lineno), frame.name]
        print("\t".join(words), flush=True)
        return size


def grab(scenario):
    held.append(bytearray(told(scenario) - 1))


def plain():
    grab("plain")


def many_lines():
    for _ in range(3):
        grab("loop-first")
        grab("loop-second")


class Shape:
    def __init__(self, depth=2):
        grab("init")
        if depth:
            self.inner = Shape(depth - 1)

    def method(self):
        held.append(bytes(told("method") - 33))

    @classmethod
    def of_class(cls):
        grab("classmethod")

    @staticmethod
    def of_none():
        grab("staticmethod")

    @property
    def area(self):
        grab("property")
        return 1

    def __getattr__(self, name):
        grab("getattr")
        return 1

    def __len__(self):
        grab("len")
        return 1

    def __lt__(self, other):
        grab("less-than")
        return True


class Gone:
    def __del__(self):
        grab("finalizer")


def classes():
    shape = Shape()
    shape.method()
    Shape.of_class()
    Shape.of_none()
    shape.area
    shape.nothing
    len(shape)
    min(shape, shape)

    class Local:
        grab("class-body")

        def __call__(self):
            grab("call")

    Local()()
    gone = Gone()
    del gone


def dying_with_its_frame():
    gone = Gone()
    return 1


def decorated(function):
    @functools.wraps(function)
    def wrapper(*arguments, **named):
        return function(*arguments, **named)

    return wrapper


@decorated
@decorated
def behind_decorators():
    grab("decorators")


def counting(count):
    for number in range(count):
        grab("generator")
        yield number


def delegating():
    yield from counting(2)
    grab("after-yield-from")
    yield 3


def generators():
    list(counting(2))
    for _ in delegating():
        grab("between-yields")
    sum(number for number in delegating() if grab("generator-expression") is None)
    held.append(next(iter(map(lambda _: grab("map-lambda"), [1]))))


def comprehensions():
    [grab("list-comprehension") for _ in range(1)]
    {grab("set-comprehension") for _ in range(1)}
    {1: grab("dict-comprehension") for _ in range(1)}
    [[grab("nested-comprehension") for _ in range(1)] for _ in range(1)]


def exceptions():
    try:
        try:
            raise ValueError("first")
        except ValueError:
            grab("except")
            raise KeyError("second")
        finally:
            grab("finally")
    except KeyError:
        grab("outer-except")
    with contextlib.suppress(ValueError):
        with managed():
            grab("in-with")
            raise ValueError("in with")
    try:
        too_deep()
    except RecursionError:
        grab("after-recursion-error")


def too_deep():
    return too_deep()


@contextlib.contextmanager
def managed():
    grab("with-enter")
    try:
        yield
    finally:
        grab("with-exit")


def callbacks():
    sorted([2, 1], key=lambda value: grab("sorted-key") or value)
    max([1, 2], key=functools.partial(keyed, "max-key"))
    comparing = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    numbers = (ctypes.c_int * 2)(2, 1)
    libc.qsort(numbers, 2, 4, comparing(lambda one, other: grab("qsort") or 0))
    libc.malloc(told("without-the-lock"))
    functools.reduce(lambda one, other: grab("reduce"), [1, 2])


def keyed(scenario, value):
    grab(scenario)
    return value


def recursing(depth):
    if depth:
        recursing(depth - 1)
    else:
        grab("recursion")


def recursing_through_c(depth):
    if depth:
        list(map(recursing_through_c, [depth - 1]))
    else:
        grab("recursion-through-c")


def executed():
    # Code objects that are freed and made anew, at the same addresses, most likely.
    for number in range(20):
        text = "\n" * number + f"def made_{number % 3}():\n    grab('exec')\nmade_{number % 3}()\n"
        exec(compile(text, f"<made {number % 2}>", "exec"), {"grab": grab})
    eval("grab('eval')")
    exec("\n\nfor value in [1]:\n    grab('exec-string')\n")
    names = {"grab": grab}
    exec("def größe():\n  grab('non-ascii')\ngröße()\ndef 名前():\n  grab('wide')\n名前()\n", names)
    long = "long_" * 20
    exec(f"def {long}():\n  grab('long-name')\n{long}()\n", names)
    wide = "\n".join(f"    a{number} = {number} + len('x')" for number in range(2000))
    exec(f"def long_table():\n{wide}\n    grab('long-table')\nlong_table()\n", names)


def reused():
    # At the same addresses as those before, names and all, and of the same size.
    for number in range(300):
        name, names = f"made_{number:03}", {"grab": grab}
        exec(compile(f"def {name}():\n    grab('reused')\n{name}()\n", "<reused>", "exec"), names)
        names.clear()


def threads():
    def body(scenario):
        grab(scenario)
        list(counting(1))

    running = [threading.Thread(target=body, args=("thread",)) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    # A thread that C makes.
    starting = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    start = starting(lambda _: grab("thread-of-c"))
    handle = ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(handle), None, start, None)
    libc.pthread_join(handle, None)


async def leaf(scenario):
    grab(scenario)
    await asyncio.sleep(0)
    grab(scenario + "-resumed")


async def streaming():
    for _ in range(2):
        grab("async-generator")
        yield 1


async def tasks():
    await leaf("await")
    await asyncio.gather(leaf("gather"), leaf("gather"))
    async for _ in streaming():
        grab("async-for")
    await asyncio.get_running_loop().run_in_executor(None, grab, "executor")


def everything():
    plain()
    many_lines()
    classes()
    dying_with_its_frame()
    behind_decorators()
    generators()
    comprehensions()
    exceptions()
    callbacks()
    recursing(500)
    recursing_through_c(40)
    executed()
    reused()
    threads()
    asyncio.run(tasks())


def main():
    print("READY", flush=True)
    for line in sys.stdin:
        command = line.split()
        if command[0] == "everything":
            everything()
        elif command[0] == "warm":
            held.append(bytearray(5000))
        elif command[0] == "plain":
            plain()
        print("DONE", command[0], flush=True)


main()
