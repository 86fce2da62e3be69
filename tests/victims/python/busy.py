"""Python code that calls much and allocates little, and then some that allocates until it is killed."""

import sys
import time


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def keep(held):
    held.append(bytearray(4096))


def objects(count):
    return [bytes(100) for _ in range(count)]


def grow():
    held = []
    while True:
        keep(held)
        exec("def made(held):\n    held.append(bytearray(2048))\nmade(held)")
        time.sleep(0.0005)


def main():
    print("READY", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "fib":
            before = time.process_time_ns()
            fib(int(words[1]))
            print("TRUTH", f"ns={time.process_time_ns() - before}")
        elif words[0] == "objects":
            held = objects(int(words[1]))
        elif words[0] == "grow":
            grow()
        print("DONE", words[0], flush=True)


main()
