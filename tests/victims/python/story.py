"""Loads 100 MB and passes it through four steps, each of which returns a new array.

Its author expects two arrays at once: what a step was given, and what it makes. But each name holds on to its array until the
function ends, so four are alive as the last step makes its own.
"""

import sys

MEGABYTE = 1_000_000
LESS = bytes((value - 1) % 256 for value in range(256))
SQUARE = bytes(value * value % 256 for value in range(256))
MORE = bytes((value + 1) % 256 for value in range(256))


def load_data(megabytes):
    return bytearray(megabytes * MEGABYTE)


def subtract_scalar(data):
    return data.translate(LESS)


def raise_to_power(data):
    return data.translate(SQUARE)


def duplicate_data(data):
    return data[:]


def add_scalar(data):
    return data.translate(MORE)


def process_data(megabytes):
    data = load_data(megabytes)
    data = subtract_scalar(data)
    raised = raise_to_power(data)
    duplicated = duplicate_data(raised)
    return add_scalar(duplicated)


def main():
    print("READY", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "process":
            process_data(int(words[1]))
        print("DONE", words[0], flush=True)


main()
