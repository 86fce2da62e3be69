"""Loads of a Python program, each timed by itself, and a thread that ticks a thousand times a second."""

import json
import sys
import threading
import time

DOCUMENT = json.dumps(
    [
        {
            "id": number,
            "name": f"customer {number}",
            "address": {"street": "x" * (number % 90), "zip": str(number)},
            "orders": [number + 0.5, number * 3, None, True],
        }
        for number in range(2000)
    ]
)


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def parse(count):
    for _ in range(count):
        json.loads(DOCUMENT)


def build(count):
    for _ in range(count):
        words = {}
        for number in range(50_000):
            words[f"word {number}"] = [number]


def tick(milliseconds):
    """The longest time between two ticks that should be a millisecond apart, nanoseconds."""
    longest = 0

    def run():
        nonlocal longest
        before = time.monotonic_ns()
        end = before + milliseconds * 1_000_000
        while before < end:
            time.sleep(0.001)
            now = time.monotonic_ns()
            longest = max(longest, now - before)
            before = now

    ticking = threading.Thread(target=run)
    ticking.start()
    ticking.join()
    return longest


LOADS = {"fib": fib, "json": parse, "dicts": build}


def main():
    print("READY", flush=True)
    for line in sys.stdin:
        name, number = line.split()
        if name == "tick":
            print(f"TRUTH longest_ns={tick(int(number))}")
        else:
            wall, processor = time.monotonic_ns(), time.process_time_ns()
            LOADS[name](int(number))
            wall, processor = time.monotonic_ns() - wall, time.process_time_ns() - processor
            print(f"TRUTH wall_ns={wall} cpu_ns={processor}")
        print("DONE", name, flush=True)


main()
