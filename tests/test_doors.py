"""Doors: what they compute on their own, and what they must not mistake."""

import gc
import math
import pickle
import sys
import threading
import time

import numpy as np
import pytest
from both_ways import check_changes, outcome, plain_way
from hypothesis import given, settings, strategies as st

import fastbp
from fastbp.cpu.doors import MOST_ENTRIES
from fastbp.cpu.plain_losses import exact_total
from fastbp.cpu.run import shared_function
from fastbp.testing import as_dtype

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
numbers = st.floats(-1e290, 1e290) | st.sampled_from(
    [1.0, -1.0, 2.0**-53, -(2.0**-53), 2.0**-106, 1 + 2.0**-52, 1e16, -1e16, 0.0, -0.0, 5e-324]
)


def as_sums(values):
    return np.array(values, float).reshape(-1, 2)


# sums of blocks -----------------------------------------------------------------------------------


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=40))
def test_the_sum_of_blocks_is_rounded_once(pairs):
    sums = as_sums(pairs)
    found = shared_function(exact_total, sums)(sums)
    assert found == math.fsum(sums.ravel())
    assert not np.signbit(found) or found != 0


@pytest.mark.parametrize(
    "values",
    [
        (1.0, 2.0**-53, 2.0**-110, 0.0),  # more than half-way
        (1.0, 2.0**-53, -(2.0**-110), 0.0),  # less
        (1.0, 2.0**-53, 0.0, 0.0),  # half-way, to even
        (1 + 2.0**-52, 2.0**-53, 0.0, 0.0),
        (-1.0, -(2.0**-53), -(2.0**-110), 0.0),
        (1e16, 1.0, 1e-16, -1e16),
        (1.0, -1.0, -0.0, 0.0),
    ],
)
def test_sums_that_lie_half_way_between_two_numbers(values):
    sums = as_sums(values)
    assert shared_function(exact_total, sums)(sums) == math.fsum(values)


# large inputs -------------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("targets", ["labels", "probabilities"])
@pytest.mark.parametrize("shape", [(3000, 10), (700, 300)], ids=str)
def test_losses_of_several_blocks_of_rows(shape, targets, dtype, monkeypatch):
    rng = np.random.default_rng(2)
    x = (3 * rng.standard_normal(shape)).astype(as_dtype(dtype))
    t = rng.integers(shape[1], size=shape[0])
    if targets == "probabilities":
        t = rng.uniform(0, 1, shape).astype(x.dtype)
    both_ways(fastbp.softmax_cross_entropy_with_grad, x, t, monkeypatch)


@dtypes
@pytest.mark.parametrize("size", [40_000, 3_000_001])
def test_losses_of_several_blocks_of_elements(size, dtype, monkeypatch):
    rng = np.random.default_rng(3)
    x, t = rng.uniform(0.1, 0.9, (2, size)).astype(as_dtype(dtype))
    both_ways(fastbp.sigmoid_cross_entropy_with_grad, x, t, monkeypatch)


def both_ways(function, x, t, patch):
    def arguments():
        return {"_x": x.copy(), "_targets": t}

    # (The first call may start threads, and only then may doors use them.)
    outcome(function, arguments)
    check_changes(function, arguments, (), patch, function.__name__)


# what an entry must not be taken for --------------------------------------------------------------


def test_a_copy_of_a_dtype_is_that_dtype(monkeypatch):
    """As arrays have it that come from another process."""
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    fastbp.softmax(x)
    copy = pickle.loads(pickle.dumps(x))  # noqa: S301
    expected = fastbp.softmax(x)
    with plain_way(monkeypatch):
        found = fastbp.softmax(copy, out=np.empty_like(copy))
    np.testing.assert_array_equal(found, expected)


def test_the_other_byte_order_is_another_kind():
    x = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    for name in ("softmax", "sigmoid", "logsumexp"):
        function = getattr(fastbp, name)
        expected = function(x)
        np.testing.assert_array_equal(function(x.astype(x.dtype.newbyteorder())), expected)


def test_integers_of_two_names_each_find_their_entry(monkeypatch):
    """On most systems `long` and `long long` are one type of two numbers."""
    x = np.zeros((2, 3), np.float32)
    for code in "lq":
        labels = np.array([0, 2], code)
        fastbp.softmax_cross_entropy(x, labels)
        with plain_way(monkeypatch):
            assert fastbp.softmax_cross_entropy(x, labels) == np.float32(math.log(3))


def test_an_integer_beyond_64_bits_is_no_option_seen_before():
    x, labels = np.eye(2, 3, dtype=np.float32), np.array([0, 2])
    ignored = fastbp.softmax_cross_entropy(x, labels, ignore_index=0)
    assert fastbp.softmax_cross_entropy(x, labels, ignore_index=2**64) != ignored


# objects ------------------------------------------------------------------------------------------


def count_of(function):
    """How many blocks of memory a thousand calls leave behind."""
    for _ in range(10):
        function()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        function()
    gc.collect()
    return sys.getallocatedblocks() - before


def test_calls_leave_nothing_behind():
    x, labels = np.zeros((2, 3), np.float32), np.array([0, 2])
    out, bad, frozen = np.empty_like(x), np.array([0, 3]), np.empty_like(x)
    frozen.flags.writeable = False
    overlapping = np.zeros(7, np.float32)
    a, b = overlapping[:6].reshape(2, 3), overlapping[1:].reshape(2, 3)

    def refused(function, *arguments, **options):
        with pytest.raises((ValueError, IndexError), match=r"expected|writ|overlap"):
            function(*arguments, **options)

    calls = {
        "a result": lambda: fastbp.softmax(x),
        "out": lambda: fastbp.softmax(x, out=out),
        "a loss": lambda: fastbp.softmax_cross_entropy(x, labels),
        "each loss": lambda: fastbp.softmax_cross_entropy(x, labels, reduction="none"),
        "a pair": lambda: fastbp.softmax_cross_entropy_with_grad(x, labels),
        "a pair with out": lambda: fastbp.softmax_cross_entropy_with_grad(x, labels, out=out),
        "pairs": lambda: fastbp.softmax_cross_entropy_with_grad(x, labels, reduction="none"),
        "bad labels": lambda: refused(fastbp.softmax_cross_entropy_with_grad, x, bad),
        "read-only": lambda: refused(fastbp.softmax, x, out=frozen),
        "an overlap": lambda: refused(fastbp.sigmoid, a, out=b),
    }
    for what, call in calls.items():
        references = [sys.getrefcount(o) for o in (x, labels, out, bad, frozen, x.dtype)]
        assert count_of(call) < 500, what
        found = [sys.getrefcount(o) for o in (x, labels, out, bad, frozen, x.dtype)]
        assert max(map(abs, np.subtract(found, references))) < 500, what


def test_results_own_their_memory():
    x = np.zeros((2, 3), np.float32)
    fastbp.softmax(x)
    for y in (fastbp.softmax(x), fastbp.logsumexp(x), fastbp.sigmoid(x)):
        assert y.flags.owndata
        assert y.flags.c_contiguous
        assert y.flags.writeable
        assert y.base is None


# threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [4, 5000], ids=["small", "large"])
def test_entries_that_come_and_go_while_others_compute(n_rows):
    """More temperatures than a table has entries, in threads that drive out each other's."""
    rng = np.random.default_rng(4)
    x, labels = rng.standard_normal((n_rows, 10), np.float32), rng.integers(10, size=n_rows)
    temperatures = [1.0 + i for i in range(2 * MOST_ENTRIES)]

    def loss(t):
        return fastbp.softmax_cross_entropy_with_grad(x, labels, temperature=t)

    expected = {t: loss(t) for t in temperatures}
    wrong, start = [], threading.Barrier(4)

    def work(seed):
        start.wait()
        for t in np.random.default_rng(seed).permutation(temperatures * 4).tolist():
            value, gradient = loss(t)
            if value != expected[t][0] or gradient.tobytes() != expected[t][1].tobytes():
                wrong.append(t)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


def test_while_a_door_computes_other_threads_run(threads, monkeypatch):
    """If it kept Python's lock, the other thread could do nothing halfway through a call.

    (In one thread: the parallel loop gives the lock away by itself.)
    """
    x = np.zeros((4000, 5000), np.float32)
    out = np.empty_like(x)
    for _ in range(2):
        fastbp.softmax(x, out=out)
    threads(1)
    ticks, calls, done, interval = [], [], threading.Event(), sys.getswitchinterval()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(1e-4)

    ticking = threading.Thread(target=tick)
    with plain_way(monkeypatch):
        sys.setswitchinterval(100)  # nobody is made to give the lock away
        try:
            ticking.start()
            for _ in range(5):
                start = time.perf_counter()
                fastbp.softmax(x, out=out)
                calls.append((start, time.perf_counter() - start))
        finally:
            sys.setswitchinterval(interval)
            done.set()
            ticking.join()
    # (A call begins by asking how many threads it may use, for which Python may give it away.)
    assert any(s + d / 4 < t < s + d * 3 / 4 for s, d in calls for t in ticks)
