"""Tests with budgets, as an example."""

import pytest

TABLE = bytes(20_000_000)


@pytest.mark.highwater(max_peak="3MB")
def test_one_copy_is_within_the_budget():
    # TABLE was there before, and does not count.
    assert len(bytearray(2_000_000)) < len(TABLE)


@pytest.mark.highwater(max_peak="3MB")
def test_two_copies_at_once_are_not():
    rows = [bytearray(2_000_000) for _ in range(2)]
    assert len(rows) == 2


def test_others_run_as_always():
    assert TABLE[0] == 0
