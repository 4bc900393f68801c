"""Columns of a few huge rows, shared among threads: the bits of rows that are not, and the layouts.

Where a row is shared depends on how many threads there are; these tests say how many there seem to
be, as a range for each of them is all that a kernel sees.
"""

import importlib
from functools import partial

import numpy as np
import pytest
from halves import assert_same_bits, half

import fastbp
from fastbp.cpu import run
from fastbp.cpu.rows import BLOCK
from fastbp.cpu.wide_rows import WIDE, are_better_shared
from fastbp.ops import calls, wide_rows
from fastbp.testing import OPS

inf, nan = np.inf, np.nan
# Whole blocks, and a last one of one column and of a part of a vector.
WIDTHS = (WIDE, WIDE + 1, 12 * BLOCK - 5)
NAMES = [
    "softmax", "log_softmax", "logsumexp", "softmax_backward", "log_softmax_backward",
    "softmax_cross_entropy[labels]", "softmax_cross_entropy_with_grad[labels]",
    "softmax_cross_entropy_backward[labels]",
]  # fmt: skip
names = pytest.mark.parametrize("name", NAMES)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])


@pytest.fixture
def threads(monkeypatch):
    """Says how many threads there seem to be, and returns a list of the plans that then run."""

    def use(n):
        taken = []
        monkeypatch.setattr(run, "usable_threads", lambda: n)
        monkeypatch.setattr(calls, "usable_threads", lambda: n)
        spied = {k: partial(spy, plan, taken) for k, plan in plans.items()}
        monkeypatch.setattr(wide_rows, "PLANS", spied)
        return taken

    def spy(plan, taken, *arguments):
        taken.append(plan)
        plan(*arguments)

    plans = wide_rows.PLANS
    return use


def check(call, threads, numbers=(2, 3, 7)):
    """The call gives the same bits with any number of threads; returns its result."""
    taken = threads(1)
    expected = call()
    assert not taken
    for n in numbers:
        taken = threads(n)
        assert_same_bits(call(), expected)
        assert len(taken) == 1
    return expected


def inputs_of(name, shape, dtype):
    """Arguments by name, by whose dtype the operation computes."""
    rng = np.random.default_rng(list(shape))
    named = OPS[name].named(OPS[name].inputs(rng, shape, np.dtype(np.float32)))
    return {
        key: v.astype(dtype) if key in ("x", "y", "dy", "logits") else v for key, v in named.items()
    }


# the bits -----------------------------------------------------------------------------------------


@dtypes
@names
def test_rows_that_are_shared_have_the_bits_of_others(name, dtype, threads):
    for n in WIDTHS:
        for n_rows in (1, 3):
            named = inputs_of(name, (n_rows, n), half(dtype))
            numbers = (2, 4, 7) if n_rows == 3 else (2, 3, 7)
            check(partial(OPS[name].function, **named), threads, numbers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_options_of_losses(dtype, threads):
    """All but those that change the logits; a sum, a mean, and each row's own loss."""
    shape = (3, WIDE + 100)
    rng = np.random.default_rng(1)
    x = (rng.normal(size=shape) * 4).astype(dtype)
    weights = {
        "class_weight": rng.uniform(0.1, 2, shape[1]), "sample_weight": np.array([0.5, 0, 3]),
    }  # fmt: skip
    labels = np.array([0, BLOCK, shape[1] - 1])
    out_of_range = np.array([5, -7, shape[1]])
    for y, options in [
        (labels, weights),
        (labels, {"z_loss": 0.01}),
        (labels, {"label_smoothing": 0.1}),
        (labels, {"label_smoothing": 0.2, "z_loss": 0.1, "reduction": "none"}),
        (labels, {"ignore_index": BLOCK, **weights}),
        (labels.astype(np.int32), {"ignore_index": 0, "reduction": "sum"}),
        (out_of_range, {"on_bad_label": "nan", "reduction": "none"}),
        (out_of_range, {"on_bad_label": "ignore"}),
    ]:
        check(partial(fastbp.softmax_cross_entropy, x, y, **options), threads, (2, 4))
        call = partial(fastbp.softmax_cross_entropy_with_grad, x, y, **options)
        _, gradient = check(call, threads, (2, 4))
        in_place = x.copy()
        threads(2)
        fastbp.softmax_cross_entropy_with_grad(in_place, y, out=in_place, **options)
        assert_same_bits(in_place, gradient)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.3}], ids=["", "smoothing"])
def test_sums_of_blocks_are_added_in_the_same_order(options, threads, monkeypatch):
    """In float64, before float32 hides it: the label is nearly certain, its loss a small sum."""
    losses = importlib.import_module("fastbp.ops.softmax_cross_entropy")
    monkeypatch.setattr(losses, "reduced", lambda sums, _: sums.copy())
    for seed in range(5):
        x = np.random.default_rng(seed).normal(0, 5, (1, 12 * BLOCK)).astype(np.float32)
        x[0, 0] = 30.0  # (Exponentials of one size would be summed exactly, in any order.)
        sums = check(partial(fastbp.softmax_cross_entropy, x, [0], **options), threads)
        assert sums.dtype == np.float64


def test_options_that_change_the_logits_are_for_whole_rows(threads):
    x, y = np.zeros((1, WIDE), np.float32), [3]
    for options in ({"temperature": 2.0}, {"softcap": 5.0}):
        taken = threads(2)
        fastbp.softmax_cross_entropy(x, y, **options)
        assert not taken


def test_a_second_traversal_of_rows_far_from_their_largest(threads):
    """softmax_backward where Σ y·dy and dy at the largest y are nearly the same; in one of rows."""
    shape = (3, WIDE + 3)
    y = fastbp.softmax(np.where(np.arange(shape[1]) == 7 * BLOCK + 5, 30.0, 0.0)).astype(np.float32)
    y = np.array([fastbp.softmax(np.linspace(0, 9, shape[1])), y, y], np.float32)
    dy = np.full(shape, 1e6, np.float32)
    dy[0] = np.linspace(-3, 4, shape[1])
    dy[2, 9] += 1.0
    dx = check(partial(fastbp.softmax_backward, dy, y), threads, (2, 4, 7))
    assert not dx[1].any()
    np.testing.assert_allclose(dx[2, 9], y[2, 9], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_exponentials_that_are_kept_or_computed_again(dtype, threads, monkeypatch):
    x = np.random.default_rng(8).normal(size=(1, WIDE + 9)).astype(half(dtype))
    kept = check(partial(fastbp.softmax, x), threads)
    monkeypatch.setattr(wide_rows, "MOST_KEPT", x.size)
    assert_same_bits(check(partial(fastbp.softmax, x), threads), kept)


# special values -----------------------------------------------------------------------------------


def special_rows(dtype):
    """Rows with a value in one block, in all of a block, in the last column, in all of the row."""
    n = 9 * BLOCK + 7
    base = np.random.default_rng(4).normal(size=n).astype(dtype)
    rows = []
    for value in (nan, inf, -inf):
        for where in (3 * BLOCK + 1, slice(2 * BLOCK, 3 * BLOCK), n - 1, slice(BLOCK, n), slice(n)):
            rows.append(base.copy())
            rows[-1][where] = value
    rows[-1][:BLOCK], rows[-1][BLOCK] = -inf, nan
    for several in ([5, 4 * BLOCK + 3, n - 1], [-1, 0]):  # of the same maximum
        rows.append(base.copy())
        rows[-1][several] = 9.0
    rows += [np.full(n, -inf, dtype), np.zeros(n, dtype), np.copysign(np.zeros(n, dtype), base)]
    return np.array(rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values(dtype, threads):
    rows = special_rows(dtype)
    dy = np.random.default_rng(5).normal(size=rows.shape[1]).astype(dtype)[None]
    for row in rows:
        x = row[None]
        y = check(partial(fastbp.softmax, x), threads, (2,))
        log_y = check(partial(fastbp.log_softmax, x), threads, (2,))
        total = check(partial(fastbp.logsumexp, x), threads, (2,))
        check(partial(fastbp.softmax_backward, dy, y), threads, (2,))
        check(partial(fastbp.softmax_backward, x, np.abs(dy)), threads, (2,))
        check(partial(fastbp.log_softmax_backward, dy, log_y), threads, (2,))
        check(partial(fastbp.log_softmax_backward, x, log_y), threads, (2,))
        for label in (0, 3 * BLOCK + 1, row.size - 1):
            call = partial(fastbp.softmax_cross_entropy_with_grad, x, [label])
            check(call, threads, (2,))
        undefined = np.isnan(row).any() or row.max() == inf or row.max() == -inf
        assert np.isnan(y).all() == np.isnan(log_y).all() == undefined
        if undefined:
            assert_same_bits(total, fastbp.reference.logsumexp(x).astype(dtype))
        else:
            assert not y[x == -inf].any()
            np.testing.assert_allclose(y.sum(dtype=np.float64), 1, rtol=1e-4)


# layouts ------------------------------------------------------------------------------------------


@names
def test_rows_apart_and_results_in_place(name, threads):
    """Rows with gaps between them, columns that lie apart, and `out` of every kind."""
    shape = (1, WIDE + 40)
    named = inputs_of(name, shape, np.dtype(np.float32))
    function = OPS[name].function
    first = next(iter(named))
    if first == "dloss":
        first = "logits"
    expected = check(partial(function, **named), threads, (2,))

    def gapped(a):
        wide = np.full((3, shape[1] + 9), nan, a.dtype)
        wide[1:2, 5:-4] = a
        return wide[1:2, 5:-4]

    def apart(a):
        return np.repeat(a, 2, axis=1)[:, ::2]

    arrays = [key for key, v in named.items() if np.shape(v) == shape]
    for way in (gapped, apart, np.asfortranarray):
        threads(2)
        moved = {key: way(v) if key in arrays else v for key, v in named.items()}
        assert_same_bits(function(**moved), expected)
    if "logsumexp" in name or name == "softmax_cross_entropy[labels]":
        return
    for out in (gapped(named[first]), apart(named[first]), named[first].copy()):
        threads(2)
        function(**{**named, "out": out})
        result = expected[-1] if isinstance(expected, tuple) else expected
        assert_same_bits(out, result)
    threads(2)
    function(**named, out=named[first])
    assert_same_bits(named[first], result)


def test_other_axes(threads):
    """A whole array, several axes, columns of which there is one."""
    x = np.random.default_rng(2).normal(size=(WIDE // 64, 16, 4)).astype(np.float32)
    flat = fastbp.softmax(x.reshape(1, -1))
    for array, axis in [(x, None), (x, (0, 1, 2)), (x.reshape(-1, 1), 0), (x.reshape(-1), -1)]:
        y = check(partial(fastbp.softmax, array, axis), threads, (2,))
        assert_same_bits(y.reshape(flat.shape), flat)
        total = check(partial(fastbp.logsumexp, array, axis), threads, (2,))
        assert_same_bits(np.reshape(total, 1), fastbp.logsumexp(x.reshape(1, -1)))


@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
@pytest.mark.parametrize("offset", [0, 4, 36])
def test_large_results_past_the_cache(name, offset, threads):
    named = inputs_of(name, (1, 4_300_001), np.dtype(np.float32))
    expected = check(partial(OPS[name].function, **named), threads, (2,))
    buffer = np.zeros(expected.nbytes + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    out = buffer[start : start + expected.nbytes].view(np.float32).reshape(expected.shape)
    threads(3)
    OPS[name].function(**named, out=out)
    assert_same_bits(out, expected)
    assert not buffer[:start].any()
    assert not buffer[start + out.nbytes :].any()


# which rows ---------------------------------------------------------------------------------------


def test_what_is_shared(threads):
    for shape, n_threads, shared in [
        ((1, WIDE), 2, True),
        ((1, WIDE), 1, False),
        ((1, WIDE - 1), 2, False),
        ((2, WIDE), 2, False),
        ((3, WIDE), 2, True),
        ((2, WIDE), 4, True),
        ((0, WIDE), 2, False),
    ]:
        taken = threads(n_threads)
        assert fastbp.softmax(np.zeros(shape, np.float32)).shape == shape
        assert bool(taken) == shared, (shape, n_threads)


def test_whole_rows_are_for_threads_that_are_seldom_idle():
    assert [n for n in range(20) if are_better_shared(n, 1)] == []
    assert [n for n in range(20) if are_better_shared(n, 2)] == [1, 3]
    assert [n for n in range(20) if are_better_shared(n, 8)] == [
        *range(1, 7),
        *range(9, 13),
        17,
        18,
    ]


def test_shared_among_real_threads():
    """Not only seemingly."""
    numba = pytest.importorskip("numba")
    before = numba.get_num_threads()
    x = np.random.default_rng(0).normal(size=(1, 1_000_001)).astype(np.float32)
    results = []
    try:
        for n in range(1, before + 1):
            numba.set_num_threads(n)
            results.append([fastbp.softmax(x), fastbp.log_softmax(x), fastbp.logsumexp(x)])
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert_same_bits(a, b)
