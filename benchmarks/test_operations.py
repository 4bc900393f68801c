"""Operations x libraries x shapes, timed by pytest-benchmark.

    pytest benchmarks                                      all of them: about ten minutes
    pytest benchmarks -k "softmax_backward and 8192x128"   some of them
    pytest benchmarks --benchmark-disable                  each once, for its answer only
    pytest benchmarks --benchmark-disable --quick-shapes   the same on small shapes, as CI does

A group holds one operation on one shape: a copy of as many bytes as the operation must move, plain
NumPy, fastbp, and every other library that is installed; the others are skipped. Inputs are made
outside the timed call, and no library is timed before its answer has been found right.

`fastbp bench` measures the same in less time, as all libraries of a group take turns.
"""

import time
from functools import lru_cache

import pytest

from fastbp.bench.libraries import make_call
from fastbp.bench.measure import QUICK, measure
from fastbp.bench.peers import LIBRARIES, copies
from fastbp.bench.problems import COPY, make_problem, shape_name

# What other libraries warn of is theirs.
pytestmark = pytest.mark.filterwarnings("default")

# One after the other asks for the same problem; the large ones take too much memory to keep two.
problem_of = lru_cache(maxsize=1)(make_problem)


@lru_cache
def load(name, threads):
    """The library, or None where it is not installed."""
    (library,) = (library for library in LIBRARIES if library.name == name)
    try:
        return library(threads)
    except ImportError:
        return None


def make_copy(n_bytes, threads, *, fastest):
    """A way to copy so many bytes; the fastest one on this machine, if it is to be timed."""
    torch = load("torch", threads)
    calls = copies(n_bytes, threads, [torch] if torch else [])
    times = measure(calls, QUICK) if fastest else dict.fromkeys(calls, 0)
    return calls[min(times, key=times.get)]


def test_speed(operation, shape, library, threads, benchmark):
    """Times the call."""
    problem = problem_of(operation, shape)
    if library == COPY:
        call = make_copy(problem.bytes_moved, threads, fastest=benchmark.enabled)
    else:
        loaded = load(library, threads)
        if loaded is None:
            pytest.skip(f"{library} is not installed")
        call = make_call(loaded, problem)
    benchmark.group = f"{operation} {shape_name(shape)}"
    benchmark.extra_info.update(library=library, threads=threads, bytes_moved=problem.bytes_moved)
    if benchmark.enabled:
        time.sleep(QUICK.pause)  # until the threads of the library before have gone to sleep
    benchmark(call)
