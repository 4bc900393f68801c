"""Huge rows on an imitated GPU, which blocks share by ranges of columns."""

import functools
from importlib import import_module

import gpu_imitation
import numpy as np
import pytest
from gpu_imitation import Array, imitate
from gpu_threads import OutOfBoundsError, RaceError
from gpu_words import simulated
from halves import assert_same_bits, half
from numpy.testing import assert_array_equal
from test_gpu_kernels import PROMISES, only, rebuilt
from test_gpu_losses import call, exact, with_grad

import fastbp
from fastbp.cuda import driver, label_ranges, range_calls, ranges, run, staging
from fastbp.testing import OPS, Arguments
from fastbp.testing.errors import ulps

softmax_page = import_module("fastbp.ops.softmax")  # the page, not the function

inf, nan = np.inf, np.nan
WIDTH, HUGE = 70, 72  # here
NAMES = [
    "softmax", "log_softmax", "logsumexp", "softmax_backward", "log_softmax_backward",
    "logsumexp_backward",
]  # fmt: skip
DTYPES = ("float32", "float64", "float16", "bfloat16")
dtypes = pytest.mark.parametrize("dtype", DTYPES)


@pytest.fixture
def launched(monkeypatch):
    """Start a GPU whose ranges are short; what it has launched, as (kernel, regime, blocks)."""
    imitate(monkeypatch)
    monkeypatch.setattr(range_calls, "WIDTH", WIDTH)
    monkeypatch.setattr(range_calls, "HUGE", HUGE)
    found, execute = [], run.execute

    def noting(kernel, regime, shape, *rest):
        found.append((kernel, regime.name, shape.blocks))
        return execute(kernel, regime, shape, *rest)

    monkeypatch.setattr(run, "execute", noting)
    return found


def on_chip(monkeypatch, staged):
    """Whether ranges are to come to the chip."""
    device = driver.Device(0, (9, 0), 232_448 if staged else 0, 1)
    monkeypatch.setattr(driver, "device", lambda _index: device)
    monkeypatch.setattr(range_calls, "CHIP", 0)


def computed(name, values):
    """The result of an operation on the imitated GPU."""
    return OPS[name].call(rebuilt(name, [Array(v) for v in values])).values


def given(name, shape, dtype, seed):
    arguments = OPS[name].inputs(np.random.default_rng(seed), shape, half(dtype))
    return [*arguments.args, *arguments.kwargs.values()]


def assert_right(name, values, result):
    promise = OPS[name].promise_of(result)
    if result.itemsize == 2:
        promise = PROMISES.get(name, promise)
    assert OPS[name].measure(rebuilt(name, values), result) <= promise


COLUMNS = (HUGE, 2 * WIDTH, 2 * WIDTH + 1, 4 * WIDTH - 1)


@pytest.mark.parametrize("staged", [True, False], ids=["on the chip", "where they are"])
@dtypes
@pytest.mark.parametrize("name", NAMES)
def test_ranges(name, dtype, staged, launched, monkeypatch):
    on_chip(monkeypatch, staged)
    for columns in COLUMNS if dtype == "float32" else COLUMNS[-1:]:
        values = given(name, (3, columns), dtype, seed=columns)
        launched.clear()
        result = computed(name, values)
        assert_right(name, values, result)
        by_range = [regime for _, regime, blocks in launched if blocks > 3]
        assert set(by_range) == {"block" if staged else "long"}
        per_row = -(-columns // WIDTH)
        assert {blocks for *_, blocks in launched[:1]} == {3 * per_row}


# the same bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_the_same_bits_wherever_it_is(name, launched, monkeypatch):
    values = given(name, (3, 5 * WIDTH + 7), "float32", seed=1)
    on_chip(monkeypatch, True)
    together = computed(name, values)
    on_chip(monkeypatch, False)
    assert_same_bits(computed(name, values), together)
    on_chip(monkeypatch, True)
    for i in range(3):
        alone = [v[i : i + 1] for v in values]
        assert_same_bits(computed(name, alone), together[i : i + 1])
    apart = [np.ascontiguousarray(np.insert(v, v.shape[-1], 0, axis=-1)) for v in values]
    if name != "logsumexp_backward":  # of numbers of rows, too
        moved = [Array(v) for v in apart]
        for v in moved:
            v.values = v.values[..., :-1]
        result = OPS[name].call(rebuilt(name, moved)).values
        assert_same_bits(result, together)


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_blocks_may_have_several_ranges(name, blocks, launched, monkeypatch):
    execute = run.execute

    def with_fewer(kernel, regime, shape, *rest):
        execute(kernel, regime, shape._replace(blocks=blocks), *rest)

    values = given(name, (2, 3 * WIDTH + 1), "float32", seed=2)
    expected = computed(name, values)
    monkeypatch.setattr(run, "execute", with_fewer)
    assert_same_bits(computed(name, values), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("logsumexp")])
def test_in_place(name, dtype, launched):
    values = given(name, (2, 3 * WIDTH + 1), dtype, seed=3)
    expected = computed(name, values)
    arrays = [Array(v) for v in values]
    function = getattr(fastbp, name)
    assert function(*arrays, out=arrays[0]) is arrays[0]
    assert_same_bits(arrays[0].values, expected)


@pytest.mark.parametrize("name", ["log_softmax", "softmax_backward", "log_softmax_backward"])
def test_more_ranges_than_threads(name, launched, monkeypatch):
    """Four for each of a block's 32 threads, and some."""
    monkeypatch.setattr(range_calls, "WIDTH", 3)
    monkeypatch.setitem(gpu_imitation.FEWER_THREADS, "block", 32)
    values = given(name, (1, 3 * 140 + 2), "float32", seed=4)
    assert_right(name, values, computed(name, values))


# hard rows ----------------------------------------------------------------------------------------


@functools.cache
def hard_rows(dtype):
    """Rows whose ranges differ; a few with more than one thing in a range."""
    most = {"float16": 65504, "bfloat16": 3.3e38, "float32": 3e38, "float64": 1.7e308}[dtype]
    columns = 4 * WIDTH + 1
    x = np.resize(np.random.default_rng(5).standard_normal((1, columns)), (16, columns))
    ranges_ = [slice(k * WIDTH, (k + 1) * WIDTH) for k in range(5)]
    first, second, third, _, last = ranges_
    x[0, second] = -inf
    x[1, second], x[1, WIDTH + 3] = -inf, nan
    x[2, last] = nan
    x[3, third] = -inf
    x[3, last] = -inf
    x[4] = -inf
    x[5] = -inf
    x[5, last] = 3
    x[6, 0] = inf
    x[7, 0], x[7, last] = inf, nan
    x[8, 3], x[8, 2 * WIDTH], x[8, last] = most, most, -most
    x[9] = most
    x[10, third] = 7  # one of many equal maxima, in two ranges
    x[10, 1] = 7
    x[11, first] += 88  # what the others add is subnormal, one by one
    x[12, first] += 60
    x[13] = -200.0
    x[13, last] = 0
    x[14, second] -= 103.5
    x[15] *= 1e-3
    with np.errstate(over="ignore"):
        return x.astype(half(dtype))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@dtypes
def test_hard_rows(name, dtype, launched):
    x = hard_rows(dtype)
    result = computed(name, [x])
    exact = OPS[name].exact(Arguments((x,)))
    error = ulps(result, exact, np.fmax(np.abs(exact), 1) if name == "logsumexp" else None)
    assert np.max(error) <= 2


@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_a_bad_row_reaches_no_other(name, launched):
    dy, y = given(name, (5, 2 * WIDTH + 1), "float32", seed=6)
    expected = computed(name, [dy, y])
    dy[1, 2], y[3] = nan, nan
    result = computed(name, [dy, y])
    assert np.all(np.isnan(result[[1, 3]]))
    assert_same_bits(result[[0, 2, 4]], expected[[0, 2, 4]])


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_gradients_whose_largest_probabilities_are_far_apart(scale, launched):
    """Every range shifts by another number, and most of what they add cancels."""
    rng = np.random.default_rng(7)
    y = rng.random((4, 4 * WIDTH + 5)).astype(np.float32)
    y[1, WIDTH:] *= 1e-6
    y[2, :] = 1e-12
    y[2, -1] = 1
    y[3] = 1
    y /= y.sum(1, keepdims=True, dtype=np.float64)
    dy = rng.standard_normal(y.shape).astype(np.float32) + np.float32(scale)
    for k in range(4):  # where y is largest, dy is another one
        at = y[0, k * WIDTH : (k + 1) * WIDTH].argmax() + k * WIDTH
        dy[0, at] *= 1000
    values = [dy, y.astype(np.float32)]
    assert_right("softmax_backward", values, computed("softmax_backward", values))


def test_the_likely_column_may_be_in_any_range(launched):
    x = np.zeros((5, 4 * WIDTH + 1), np.float32)
    x[range(5), np.arange(5) * WIDTH] = 30, 20, 12, 7, 9
    y = fastbp.log_softmax(x)
    dy = np.random.default_rng(8).standard_normal(x.shape).astype(np.float32)
    values = [dy, y]
    assert_right("log_softmax_backward", values, computed("log_softmax_backward", values))


# losses -------------------------------------------------------------------------------------------

LOSSES = [
    name
    for name in OPS
    if name.startswith("softmax_cross_entropy") and "[labels" in name
    and not {"label_smoothing", "temperature"} & set(name.rstrip("]").split(","))
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, dtype, launched):
    arguments = OPS[name].inputs(np.random.default_rng(3), (4, 2 * WIDTH + 1), np.dtype(dtype))
    result = call(OPS[name].function, *arguments.args, **arguments.kwargs)
    assert OPS[name].measure(arguments, result) <= OPS[name].promise_of(result)
    kernels = {kernel for kernel, *_ in launched}
    assert label_ranges.label_totals in kernels
    assert (label_ranges.label_ranges in kernels) == ("_with" in name or "_back" in name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_losses_of_halves(dtype, launched):
    """They are computed as float32, and the gradient is rounded once."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(3, 2 * WIDTH + 1)).astype(half(dtype))
    labels = rng.integers(0, x.shape[1], len(x))
    loss, dx = call(with_grad, x, labels)
    wide_loss, wide_dx = call(with_grad, x.astype(np.float32), labels)
    assert loss.dtype == np.float32
    assert_array_equal(loss, wide_loss)
    assert_array_equal(dx, wide_dx.astype(x.dtype))


@pytest.mark.parametrize("staged", [True, False], ids=["on the chip", "where they are"])
def test_losses_of_hard_rows(staged, launched, monkeypatch):
    on_chip(monkeypatch, staged)
    x = hard_rows("float32")
    labels = np.arange(len(x)) * 19 % x.shape[1]
    labels[[5, 6, 8, 10, 13]] = x.shape[1] - 1, 0, 3, 1, x.shape[1] - 1
    loss, dx = call(with_grad, x, labels, reduction="none")
    expected, gradient = exact(x, labels, reduction="none")
    with np.errstate(over="ignore"):
        expected = expected.astype(np.float32)
    np.testing.assert_allclose(loss, expected, rtol=3e-7)
    np.testing.assert_allclose(dx, gradient, rtol=5e-7, atol=1e-44)
    for i in range(len(x)):  # the same bits, and where logits become gradients
        given_ = Array(x[i : i + 1])
        alone, own = with_grad(given_, Array(labels[i : i + 1]), reduction="none", out=given_)
        assert own is given_
        assert_same_bits(own.values, dx[i : i + 1])
        assert_same_bits(alone.values, loss[i : i + 1])


def test_labels_that_do_not_count(launched):
    rng = np.random.default_rng(6)
    x = rng.normal(size=(7, 2 * WIDTH + 1)).astype(np.float32)
    labels = np.array([1, 2 * WIDTH, -5, WIDTH, 101, 0, 101], np.int32)
    x[2], x[4] = nan, nan
    with pytest.raises(IndexError, match="label -5 at row 2; expected 0 to"):
        call(with_grad, x, labels, ignore_index=101)
    for option, reduction in [("nan", "mean"), ("nan", "none"), ("ignore", "mean")]:
        options = {"ignore_index": 101, "on_bad_label": option, "reduction": reduction}
        loss, dx = call(with_grad, x, labels, **options)
        expected, gradient = exact(x, labels, **options)
        np.testing.assert_allclose(loss, expected, rtol=5e-7)
        np.testing.assert_allclose(dx, gradient, rtol=1e-6)


def test_the_gradient_at_a_label_is_its_range_s(launched, monkeypatch):
    """The wrong place is out of bounds or gives a wrong gradient."""
    x = np.random.default_rng(13).normal(size=(1, 3 * WIDTH)).astype(np.float32)
    labels = np.array([WIDTH + 5])
    _, right = call(with_grad, x, labels)
    put = simulated(label_ranges.label_ranges).__globals__["put"]
    planted(monkeypatch, label_ranges.label_ranges, "put", lambda p, k, v: put(p, k + 1, v))
    _, wrong = call(with_grad, x, labels)
    assert_array_equal(np.flatnonzero(right != wrong), [WIDTH + 5, WIDTH + 6])


# which rows are shared ----------------------------------------------------------------------------


def test_shorter_rows_are_not_shared(launched, monkeypatch):
    for columns, kernels in ((HUGE - 1, 1), (HUGE, 3)):
        launched.clear()
        fastbp.softmax(Array(np.zeros((2, columns), np.float32)))
        assert len(launched) == kernels
    launched.clear()
    monkeypatch.setattr(run, "regime_on", lambda *_: run.LONG)
    mask = Array(np.ones((2, HUGE), bool))
    fastbp.softmax(Array(np.zeros((2, HUGE), np.float32)), where=mask)
    assert len(launched) == 1
    launched.clear()
    assert fastbp.softmax(Array(np.zeros((0, HUGE), np.float32))).shape == (0, HUGE)
    assert not launched


def test_no_gpu_has_room_for_a_huge_row():
    assert run.regime_of(ranges.HUGE, 1, "float32", 256 * 1024) is run.LONG


# mistakes are found -------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [[0], [1]], ids=["after a copy", "before a copy"])
def test_nobody_may_forget_to_wait(kept, launched, monkeypatch):
    names = simulated(staging.copy_in).__globals__
    monkeypatch.setitem(names, "wait", only(names["wait"], *kept))
    execute = run.execute
    monkeypatch.setattr(
        run, "execute", lambda k, r, shape, *rest: execute(k, r, shape._replace(blocks=1), *rest)
    )
    with pytest.raises(RaceError):
        computed("softmax", given("softmax", (1, 3 * WIDTH), "float32", seed=9))


def planted(monkeypatch, function, name, other):
    """In the simulator, the function uses another one of that name."""
    monkeypatch.setitem(simulated(function).__globals__, name, other)


@pytest.mark.parametrize("which", ["reduce", "apply"])
def test_a_range_ends_with_its_row(which, launched, monkeypatch):
    kernel = getattr(range_calls.ways_of(softmax_page.softmax_rows), which)
    planted(monkeypatch, kernel, "min", lambda width, _rest: width)
    with pytest.raises(OutOfBoundsError):
        computed("softmax", given("softmax", (1, 2 * WIDTH + 1), "float32", seed=10))


def test_one_thread_leaves_what_a_range_has(launched, monkeypatch):
    planted(monkeypatch, ranges.leave_3, "thread", lambda: 0)
    with pytest.raises(RaceError):
        computed("softmax", given("softmax", (1, 2 * WIDTH), "float32", seed=11))


@pytest.mark.parametrize(
    ("name", "joining", "formula", "forgets"),
    [
        ("softmax", ranges.join_totals, "rescaled_total", lambda _of, s, s_lo, _m: (s, s_lo)),
        ("softmax_backward", ranges.join_dots, "shifted_to", lambda dot, lo, *_rest: (dot, lo)),
    ],
    ids=["maxima", "shifts"],
)
def test_ranges_are_brought_together(name, joining, formula, forgets, launched, monkeypatch):
    planted(monkeypatch, joining, formula, forgets)
    values = given(name, (1, 3 * WIDTH), "float32", seed=12)
    result = computed(name, values)
    assert OPS[name].measure(rebuilt(name, values), result) > 100
