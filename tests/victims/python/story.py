"""Loads 100 MB and passes it through four steps, each of which returns a new array.

Its author expects two arrays at once: what a step was given, and what it makes. But each name holds on to its array until the
function ends, so four are alive as the last step makes its own. Both repaired versions keep to two.

    story.py VERSION MEGABYTES      runs one of them and ends
    story.py                        runs what it is told to on its input: process MEGABYTES [VERSION]
"""

import contextlib
import os
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


def process_nested(megabytes):
    return add_scalar(duplicate_data(raise_to_power(subtract_scalar(load_data(megabytes)))))


def process_with_one_name(megabytes):
    data = load_data(megabytes)
    data = subtract_scalar(data)
    data = raise_to_power(data)
    data = duplicate_data(data)
    return add_scalar(data)


VERSIONS = {"written": process_data, "nested": process_nested, "one-name": process_with_one_name}


@contextlib.contextmanager
def span(name):
    """Names what happens within it in whatever recording is under way; elsewhere it does nothing."""
    for end in ("begin", "end"):
        with contextlib.suppress(OSError):
            os.write(-1, f"highwater:{end}:{name}".encode())
        if end == "begin":
            yield


def process(megabytes, version="written"):
    with span("process"):
        result = VERSIONS[version](int(megabytes))
    print("TRUTH", f"array={sys.getsizeof(result)}", flush=True)


def main():
    if len(sys.argv) > 1:
        version, megabytes = sys.argv[1:]
        process(megabytes, version)
        return
    print("READY", flush=True)
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "process":
            process(*words)
        print("DONE", verb, flush=True)


main()
