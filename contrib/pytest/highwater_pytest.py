"""A memory budget for a test:

    @pytest.mark.highwater(max_peak="204MB")
    def test_import(): ...

The arguments are those of `highwater check`: max_peak, max_live_at_end, max_allocations. They are of what the test itself
allocates: neither of what fixtures hold nor of what was imported before. It runs in a Python of its own, which highwater
traces from its start. What a failing test says ends with the verdict, and where the recording is.

Put this file beside conftest.py, and `pytest_plugins = ["highwater_pytest"]` into that. HIGHWATER_CHECK is the command, if
it is not `highwater check`: "sudo -E highwater check".
"""

import contextlib
import os
import shlex
import subprocess
import sys

import pytest

SPAN = "pytest"
# Set in the Python that a test runs in.
INSIDE = "HIGHWATER_PYTEST"


def pytest_configure(config):
    config.addinivalue_line("markers", "highwater(max_peak, max_live_at_end, max_allocations): budgets of `highwater check`")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    marker = item.get_closest_marker("highwater")
    if marker and INSIDE in os.environ:
        name_moment("begin")
    elif marker:
        item.runtest = lambda: run_apart(item, marker.kwargs)
    yield
    if marker and INSIDE in os.environ:
        name_moment("end")


def name_moment(kind):
    """highwater reads it where the call begins; there is no such file, so nothing is written."""
    with contextlib.suppress(OSError):
        os.write(-1, f"highwater:{kind}:{SPAN}".encode())


def run_apart(item, budgets):
    check = shlex.split(os.environ.get("HIGHWATER_CHECK", "highwater check"))
    limits = [f"--{name.replace('_', '-')}={limit}" for name, limit in budgets.items()]
    test = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", item.nodeid]
    done = subprocess.run(
        [*check, *limits, "--mark", SPAN, "--", *test],
        cwd=item.config.rootpath, env={**os.environ, INSIDE: "1"}, capture_output=True, text=True,
    )
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
