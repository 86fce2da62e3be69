"""The story of `story.py` as it first was: with numpy."""

import sys

import numpy as np


def load_data(megabytes):
    return np.ones(megabytes * 125_000)


def subtract_scalar(data):
    return data - 1.5


def raise_to_power(data):
    return data**2


def duplicate_data(data):
    return np.concatenate([data])


def add_scalar(data):
    return data + 7.0


def process_data(megabytes):
    data = load_data(megabytes)
    data = subtract_scalar(data)
    data_pow = raise_to_power(data)
    return add_scalar(duplicate_data(data_pow))


def main():
    print("READY", flush=True)
    for line in sys.stdin:
        verb, megabytes = line.split()
        result = process_data(int(megabytes))
        print("TRUTH", f"array={result.nbytes}")
        print("DONE", verb, flush=True)


main()
