"""Rows that lie apart in memory, along an axis that is not the last, and what they cost."""

import tracemalloc
from functools import partial

import numpy as np
import pytest

import fastbp
from fastbp.cpu import panels
from fastbp.cpu.run import usable_threads

F32 = np.dtype(np.float32)
DTYPES = [F32, np.dtype(np.float64), np.dtype(np.float16)]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# Short rows and long ones; strips, squares, parts of squares and numbers one by one; panels that
# end within an `outer`, and at none of a cache's lines; several axes.
SHAPES = [
    ((5, 7), 0), ((40, 50), 0), ((33, 64, 17), 1), ((33, 20, 17), 1), ((3, 20, 100), 1),
    ((3, 16, 64), 1), ((2, 70, 65), 1), ((2, 1000, 3), 1), ((7, 1, 9), 1), ((1000, 130), 0),
    ((2, 21, 3, 49), 1), ((17, 3000), 0), ((70, 1500), 0), ((4, 5, 6, 7), (1, 2)),
    ((4, 5, 6, 7), (0, 1)), ((4, 5, 6, 7), (0, 2)),
]  # fmt: skip
LOSS_SHAPES = [(shape, axis) for shape, axis in SHAPES if isinstance(axis, int)]


def bits(a):
    a = np.asarray(a)
    return np.where(np.isnan(a), np.nan, a).astype(a.dtype).tobytes()


def rows(a, axis):
    """What kernels of contiguous rows are given."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    n = int(np.prod([a.shape[i] for i in axes]))
    return np.ascontiguousarray(np.moveaxis(a, axes, range(-len(axes), 0))).reshape(-1, n)


def numbers(shape, dtype, seed=0, scale=4.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def apart(a):
    """The same numbers, none of them next to each other."""
    return np.repeat(a, 2, axis=-1)[..., ::2]


def fortran_out(function, x):
    out = np.empty_like(x, order="F")
    assert function(x, out=out) is out
    return out


def in_place(function, x):
    x = x.copy()
    assert function(x, out=x) is x
    return x


WAYS = {
    "C": lambda function, x: function(x),
    "Fortran": lambda function, x: function(np.asfortranarray(x)),
    "Fortran out": fortran_out,
    "in place": in_place,
    "apart": lambda function, x: function(apart(x)),
    "broadcast": lambda function, x: function(np.broadcast_to(x[:1], x.shape)),
}


@dtypes
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows_apart_have_the_bits_of_contiguous_ones(name, way, dtype):
    function = getattr(fastbp, name)
    for shape, axis in SHAPES:
        x = numbers(shape, dtype)
        same = np.broadcast_to(x[:1], shape) if way == "broadcast" else x
        got = WAYS[way](partial(function, axis=axis), x)
        assert bits(rows(got, axis)) == bits(function(rows(same, axis))), (shape, axis)


@dtypes
def test_other_operations_of_rows_apart(dtype):
    for shape, axis in SHAPES:
        x, dy, mask = numbers(shape, dtype), numbers(shape, dtype, 1), numbers(shape, F32) > -2
        x_, dy_, mask_ = (rows(a, axis) for a in (x, dy, mask))
        for name in ("softmax", "log_softmax"):
            y = getattr(fastbp, name)(x, axis=axis)
            backward = getattr(fastbp, f"{name}_backward")
            expected = bits(backward(dy_, rows(y, axis)))
            assert bits(rows(backward(dy, y, axis=axis), axis)) == expected, (shape, axis)
            mixed = backward(np.asfortranarray(dy), apart(y), axis=axis)
            assert bits(rows(mixed, axis)) == expected, (shape, axis)
            masked = getattr(fastbp, name)(x, axis=axis, where=mask)
            expected = bits(getattr(fastbp, name)(x_, where=mask_))
            assert bits(rows(masked, axis)) == expected, (shape, axis)
        total = fastbp.logsumexp(x, axis=axis)
        assert bits(total) == bits(fastbp.logsumexp(x_)), (shape, axis)
        out = np.empty_like(total, order="F")
        assert bits(fastbp.logsumexp(x, axis=axis, out=out)) == bits(total)
        masked = fastbp.logsumexp(x, axis=axis, where=mask)
        assert bits(masked) == bits(fastbp.logsumexp(x_, where=mask_)), (shape, axis)
        dtotal = numbers(total.shape, dtype, 2)
        dx = fastbp.logsumexp_backward(dtotal, x, total, axis=axis)
        expected = fastbp.logsumexp_backward(dtotal.reshape(-1), x_, total.reshape(-1))
        assert bits(rows(dx, axis)) == bits(expected), (shape, axis)


# losses -------------------------------------------------------------------------------------------

KINDS = {
    "labels": {},
    "ignored": {"ignore_index": -100, "class_weight": True},
    "bad": {"on_bad_label": "nan", "sample_weight": True},
    "smoothed": {"label_smoothing": 0.1},
    "smoothed with weights": {"label_smoothing": 0.1, "class_weight": True},
    "labels, changed logits": {"softcap": 5.0, "temperature": 2.0, "z_loss": 0.01},
    "probabilities": {"class_weight": True, "sample_weight": True},
    "probabilities, changed logits": {"softcap": 5.0, "temperature": 2.0, "z_loss": 0.01},
    "sparse": {},
}


def loss_case(kind, shape, axis, dtype):
    """(logits, targets and options of rows apart, the same of contiguous ones)."""
    n, others = shape[axis], shape[:axis] + shape[axis + 1 :]
    rng = np.random.default_rng(3)
    labels = rng.integers(0, n, others)
    if kind in ("ignored", "bad"):
        labels.flat[::3] = -100
    targets, by_rows = labels, labels.reshape(-1)
    if kind.startswith("probabilities"):
        targets = rng.random(shape).astype(dtype)
        by_rows = rows(targets, axis)
    elif kind == "sparse":
        targets = rng.integers(0, n, (*others, 2)), rng.random((*others, 2))
        by_rows = tuple(t.reshape(-1, 2) for t in targets)
    options = dict(KINDS[kind])
    if "class_weight" in options:
        options["class_weight"] = rng.random(n)
    flat = dict(options)
    if "sample_weight" in options:
        options["sample_weight"] = rng.random(others)
        flat["sample_weight"] = options["sample_weight"].reshape(-1)
    return numbers(shape, dtype), targets, options, by_rows, flat


@dtypes
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_rows_apart_have_the_bits_of_contiguous_ones(kind, reduction, dtype):
    if dtype != F32 and kind not in ("ignored", "probabilities"):
        pytest.skip("as float32")
    with_grad = partial(fastbp.softmax_cross_entropy_with_grad, reduction=reduction)
    for shape, axis in LOSS_SHAPES:
        x, targets, options, by_rows, flat = loss_case(kind, shape, axis, dtype)
        expected, dx = with_grad(rows(x, axis), by_rows, **flat)
        for arrange in (np.asarray, np.asfortranarray, apart):
            loss, got = with_grad(arrange(x), targets, axis=axis, **options)
            assert bits(loss) == bits(expected), (shape, axis)
            assert bits(rows(got, axis)) == bits(dx), (shape, axis)
        in_place = x.copy()
        assert with_grad(in_place, targets, axis=axis, out=in_place, **options)[1] is in_place
        assert bits(rows(in_place, axis)) == bits(dx), (shape, axis)
        if dtype != F32 or kind not in ("labels", "probabilities", "sparse"):
            continue
        forward = partial(fastbp.softmax_cross_entropy, reduction=reduction)
        assert bits(forward(x, targets, axis=axis, **options)) == bits(loss)
        dloss = numbers(np.shape(loss), F32, 5)
        back = partial(fastbp.softmax_cross_entropy_backward, reduction=reduction)
        got = back(dloss, x, targets, axis=axis, **options)
        of_rows = back(dloss.reshape(np.shape(expected)), rows(x, axis), by_rows, **flat)
        assert bits(rows(got, axis)) == bits(of_rows), (shape, axis)


# threads, caches, memory --------------------------------------------------------------------------


@pytest.mark.parametrize("between", [0, 4])
@pytest.mark.parametrize("offset", [0, 1, 4])
def test_large_results_past_the_cache(offset, between):
    """Whole lines of the cache, and rows that begin within one."""
    n, inner = 300, 7008  # 16.8 MB in all
    buffer = np.zeros(2 * (n * inner + between) + 32, F32)
    start = -buffer.ctypes.data % 64 // 4 + offset
    both = buffer[start : start + 2 * (n * inner + between)].reshape(2, -1)
    out = both[:, : n * inner].reshape(2, n, inner)
    assert np.shares_memory(out, buffer)
    x = numbers(out.shape, F32)
    fastbp.softmax(x, axis=1, out=out)
    assert bits(rows(out, 1)) == bits(fastbp.softmax(rows(x, 1)))
    assert not buffer[:start].any()
    assert not both[:, n * inner :].any()


def test_a_panel_fits_a_cache_and_leaves_work_for_all_threads():
    for n_rows in (1, 16, 100, 1000, 10**6):
        for n in (1, 10, 1000, 10**5):
            size = panels.rows_in_panel(n_rows, 4, 4 * n)
            assert 16 <= size <= 128
            assert size == 16 or (size * 4 * n <= panels.ROOM and size * 32 <= n_rows)


OPERATIONS = {
    "softmax": (1, lambda x, **_: fastbp.softmax(x, axis=1)),
    "log_softmax": (1, lambda x, **_: fastbp.log_softmax(x, axis=1)),
    "logsumexp": (0.1, lambda x, **_: fastbp.logsumexp(x, axis=1)),
    "softmax_backward": (1, lambda x, dy, **_: fastbp.softmax_backward(dy, x, axis=1)),
    "softmax, where": (1, lambda x, mask, **_: fastbp.softmax(x, axis=1, where=mask)),
    "softmax, out": (0, lambda x, dy, **_: fastbp.softmax(x, axis=1, out=dy)),
    "labels": (0, lambda x, k, **_: fastbp.softmax_cross_entropy(x, k, axis=1)),
    "labels, gradient": (
        1, lambda x, k, **_: fastbp.softmax_cross_entropy_with_grad(x, k, axis=1)
    ),
    "probabilities": (0, lambda x, t, **_: fastbp.softmax_cross_entropy(x, t, axis=1)),
}  # fmt: skip


@pytest.mark.parametrize("n", [20, 150])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_copies_of_arrays_that_lie_apart(operation, n):
    """No call allocates more than its results, but for what each thread needs."""
    arrays, call = OPERATIONS[operation]
    shape = (8, n, 6000)
    given = {
        "x": numbers(shape, F32),
        "dy": numbers(shape, F32, 1),
        "mask": np.ones(shape[1:], bool),
        "k": np.zeros((8, 6000), np.int64),
        "t": np.full(shape, 1 / n, F32),
    }
    call(**given)
    tracemalloc.start()
    try:
        call(**given)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    room = usable_threads() * 300_000  # which tracemalloc sees, too
    assert most <= arrays * given["x"].nbytes + room
