"""Kernels for GPUs, run by the simulator, against the reference; and what the simulator finds."""

import functools
import importlib

import numpy as np
import pytest
from gpu_simulator import in_memory, run_simulated, simulated
from gpu_threads import (
    DisagreementError,
    DivergentError,
    MisalignedError,
    OutOfBoundsError,
    RaceError,
)
from greenlet import getcurrent
from halves import assert_same_bits, half

from fastbp import reference
from fastbp.cpu.vectors import (
    lanes,
    load_some,
    max_across,
    pick,
    put,
    row,
    store_some,
)
from fastbp.cuda import staging
from fastbp.cuda.calls import on_gpu, on_gpu_when_long
from fastbp.cuda.run import BLOCK, LONG, REGIMES, TILE, WARP
from fastbp.cuda.words import (
    chip,
    columns,
    copy_16,
    copy_place,
    first_row,
    read_row,
    row_at,
    row_step,
    rows,
    thread,
    wait_block,
    write_row,
)
from fastbp.testing import OPS, Arguments
from fastbp.testing.errors import ulps

inf, nan = np.inf, np.nan
softmax = importlib.import_module("fastbp.ops.softmax")
sigmoid = importlib.import_module("fastbp.ops.sigmoid")

# name -> the CPU's kernel, from whose functions the GPU's is made.
ROWS = {
    "softmax": softmax.softmax_rows,
    "softmax_backward": softmax.softmax_backward_rows,
    "log_softmax": softmax.log_softmax_rows,
    "log_softmax_backward": softmax.log_softmax_backward_rows,
    "logsumexp": softmax.logsumexp_rows,
    "logsumexp_backward": softmax.logsumexp_backward_rows,
}
WHERE = {
    "softmax": softmax.softmax_rows_where,
    "log_softmax": softmax.log_softmax_rows_where,
    "logsumexp": softmax.logsumexp_rows_where,
}
ELEMENTS = {
    "sigmoid": sigmoid.sigmoid_kernel,
    "sigmoid_backward[y]": sigmoid.sigmoid_backward_of_output_kernel,
    "sigmoid_backward[x]": sigmoid.sigmoid_backward_of_input_kernel,
    "log_sigmoid": sigmoid.log_sigmoid_kernel,
    "log_sigmoid_backward": sigmoid.log_sigmoid_backward_kernel,
}
DTYPES = ("float32", "float64", "float16", "bfloat16")
# More rows than all groups of threads compute at once, more columns than four of their rounds.
SHAPES = {"tile": (40, 7), "warp": (6, 133), "block": (3, 261), "long": (3, 261)}
THREADS = {"tile": 32, "warp": 64, "block": 64, "long": 64}

# Of 16 bits, the y given do not sum to 1, on which the formula relies; on CPUs it is the same.
PROMISES = {"softmax_backward": 0.65}


def cases(names, regimes=REGIMES):
    return [
        pytest.param(name, regime, id=f"{name}-{regime.name}")
        for name in names
        for regime in regimes
    ]


dtypes = pytest.mark.parametrize("dtype", DTYPES)


def given(name, shape, dtype, seed):
    """Hard arguments of an operation."""
    arguments = OPS[name].inputs(np.random.default_rng(seed), shape, half(dtype))
    return [*arguments.args, *arguments.kwargs.values()]


def rebuilt(name, values):
    """Arguments of an operation again, of which the last may be known by its name alone."""
    variant = name.partition("[")[2].removesuffix("]")
    return Arguments((values[0],), {variant: values[1]}) if variant else Arguments(tuple(values))


def run_rows(name, regime, values, beyond=(0, 0, 0), gaps=(0, 0, 0), in_place=False, **options):
    """The result of a kernel of rows; arrays begin and lie as `in_memory` says."""
    inputs = [in_memory(v, b, g) for v, b, g in zip(values, beyond, gaps, strict=False)]
    matrices = [v for v in inputs if v.ndim == 2]
    rows, columns = matrices[0].shape
    empty = np.full((rows, columns), 12345, values[0].dtype)
    if name == "logsumexp":
        empty = np.full(rows, 12345, values[0].dtype)
    result = inputs[0] if in_place else in_memory(empty, beyond[-1], gaps[-1])
    kernel = on_gpu_when_long(ROWS[name])[0] if regime is LONG else on_gpu(ROWS[name])
    arguments = (inputs[2], inputs[0], inputs[1]) if name == "logsumexp_backward" else inputs
    run_simulated(
        kernel, [*arguments, result], regime, rows, columns, len(matrices), empty.dtype,
        threads=THREADS[regime.name], **options,
    )  # fmt: skip
    for before, after in zip(values, inputs, strict=True):
        assert after is result or np.array_equal(after, before, equal_nan=True)
    return result.copy()


def run_elements(name, values, beyond=(0, 0, 0), into=None, **options):
    inputs = [in_memory(v, b) for v, b in zip(values, beyond, strict=False)]
    result = in_memory(np.zeros_like(values[0]), beyond[-1]) if into is None else inputs[into]
    run_simulated(
        on_gpu(ELEMENTS[name]), [len(values[0]), *inputs, result], None, 1, 0, 0, None,
        threads=32, **options,
    )  # fmt: skip
    return result.copy()


def assert_right(name, values, result):
    arguments = rebuilt(name, values)
    promise = OPS[name].promise_of(result)
    if result.itemsize == 2:
        promise = PROMISES.get(name, promise)
    assert OPS[name].measure(arguments, result) <= promise


# rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "regime"), cases(ROWS))
@dtypes
def test_rows(name, regime, dtype):
    values = given(name, SHAPES[regime.name], dtype, seed=len(name) + DTYPES.index(dtype))
    result = run_rows(name, regime, values, beyond=(1, 3, 2), gaps=(2, 0, 3), blocks=2)
    assert_right(name, values, result)
    if dtype in ("float32", "float16"):
        # The same bits, wherever rows stand and in whatever order threads and blocks come.
        assert_same_bits(run_rows(name, regime, values, seed=1, blocks=3), result)


@pytest.mark.parametrize(
    ("name", "regime"), cases(sorted(set(ROWS) - {"logsumexp", "logsumexp_backward"}))
)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_rows_in_place(name, regime, dtype):
    values = given(name, SHAPES[regime.name], dtype, seed=2)
    result = run_rows(name, regime, values, beyond=(1, 1, 0), in_place=True, blocks=1)
    assert_right(name, values, result)


LENGTHS = [(TILE, n) for n in (1, 2, 31, 32)] + [(WARP, n) for n in (33, 64, 129)]
LENGTHS += [(BLOCK, n) for n in (1, 63, 65)] + [(LONG, n) for n in (1, 64, 256)]


@pytest.mark.parametrize("name", ["log_softmax", "log_softmax_backward", "logsumexp"])
@pytest.mark.parametrize(("regime", "columns"), LENGTHS, ids=[f"{r.name}-{n}" for r, n in LENGTHS])
def test_lengths(name, regime, columns):
    values = given(name, (3, columns), "float32", seed=columns)
    result = run_rows(name, regime, values, beyond=(1, 1, 1), gaps=(1, 1, 1))
    assert_right(name, values, result)


@functools.cache
def special_rows(columns, dtype):
    limits = {"float16": 65504, "bfloat16": 3.3e38, "float32": 3e38, "float64": 1.7e308}
    most = limits[dtype]
    rng = np.random.default_rng(3)
    x = np.resize(rng.standard_normal((1, columns)), (9, columns))
    x[0, -1] = nan
    x[1, ::2] = -inf
    x[2] = -inf
    x[3, columns // 2] = inf
    x[4, :2] = nan, inf
    x[5, :3] = most, -most, 0
    x[6], x[6, 0] = -inf, 5
    x[7] = most
    with np.errstate(over="ignore"):
        return x.astype(half(dtype))


@pytest.mark.parametrize(("name", "regime"), cases(["softmax", "log_softmax", "logsumexp"]))
@dtypes
def test_special_rows(name, regime, dtype):
    x = special_rows({"tile": 5, "warp": 33}.get(regime.name, 67), dtype)
    result = run_rows(name, regime, [x], beyond=(1, 0), blocks=1)
    exact = OPS[name].exact(Arguments((x,)))
    error = ulps(result, exact, np.fmax(np.abs(exact), 1) if name == "logsumexp" else None)
    assert np.max(error) <= 2


@pytest.mark.parametrize(("name", "regime"), cases(["softmax_backward", "log_softmax_backward"]))
def test_a_bad_row_reaches_no_other(name, regime):
    columns = 5 if regime is TILE else 67
    dy, y = given(name, (5, columns), "float32", seed=4)
    expected = run_rows(name, regime, [dy, y], blocks=1)
    dy, y = dy.copy(), y.copy()
    dy[1, 2], y[3] = nan, nan
    result = run_rows(name, regime, [dy, y], blocks=1)
    assert np.all(np.isnan(result[[1, 3]]))
    assert_same_bits(result[[0, 2, 4]], expected[[0, 2, 4]])


@pytest.mark.parametrize("regime", [WARP, BLOCK, LONG], ids=lambda r: r.name)
def test_gradient_of_equal_probabilities(regime):
    y = np.full((1, 64), 1 / 64, np.float32)
    dy = np.random.default_rng(6).standard_normal(y.shape).astype(np.float32)
    assert_right("softmax_backward", [dy, y], run_rows("softmax_backward", regime, [dy, y]))


@pytest.mark.parametrize("regime", REGIMES, ids=lambda r: r.name)
@pytest.mark.parametrize("name", WHERE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_where(name, regime, dtype):
    rows, columns = (40, 5) if regime is TILE else (4, 70)
    rng = np.random.default_rng(7)
    x = (3 * rng.standard_normal((rows, columns))).astype(half(dtype))
    mask = rng.random(x.shape) < 0.7
    mask[1], mask[2] = False, True
    x = np.where(mask, x, x.dtype.type(nan))  # which must reach nothing
    result = np.full(rows if name == "logsumexp" else x.shape, 12345, x.dtype)
    kernel, with_room = (
        on_gpu_when_long(WHERE[name]) if regime is LONG else (on_gpu(WHERE[name]), 0)
    )
    room = [np.zeros(x.shape, np.float32)] if with_room else []
    run_simulated(
        kernel, [in_memory(x, 1), in_memory(mask, 3, 1), *room, result], regime, rows, columns, 1,
        x.dtype, blocks=1, threads=THREADS[regime.name],
    )  # fmt: skip
    exact = getattr(reference, name)(x.astype(np.float64), where=mask)
    scale = np.fmax(np.abs(exact), 1) if name == "logsumexp" else None
    assert np.max(ulps(result, exact, scale)) <= (2 if dtype == "float32" else 0.501)


@pytest.mark.parametrize("regime", REGIMES, ids=lambda r: r.name)
def test_no_rows(regime):
    x = np.zeros((0, 5), np.float32)
    assert run_rows("log_softmax", regime, [x]).shape == (0, 5)
    assert run_rows("logsumexp", regime, [x]).shape == (0,)


# elements -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ELEMENTS)
@dtypes
def test_elements(name, dtype):
    values = [v[0] for v in given(name, (1, 157), dtype, seed=5)]
    result = run_elements(name, values)
    assert_right(name, values, result)
    for beyond in ((1, 1, 1), (1, 2, 3)):
        assert_same_bits(run_elements(name, values, beyond, seed=1, blocks=3), result)
    for into in range(len(values)):
        assert_same_bits(run_elements(name, [v[:41] for v in values], into=into), result[:41])
    for n in (0, 1, 3):
        short = [v[:n] for v in values]
        assert_same_bits(run_elements(name, short, (1, 1, 1)), result[:n])


# what the simulator finds -------------------------------------------------------------------------

X = np.arange(80, dtype=np.float32).reshape(2, 40)


def launch(kernel, *arguments, regime=BLOCK, threads=64, columns=40, dtype="float32", **options):
    run_simulated(
        kernel, arguments, regime, 2, columns, 1, dtype, threads=threads, blocks=1, **options
    )


def copies(x, y):
    n = columns(x)
    for i in range(first_row(x), rows(x), row_step(x)):
        p = read_row(x, i, n, 0)
        for j in range(0, n, lanes(p)):
            store_some(p, j, n - j, load_some(p, j, n - j, 0))
        write_row(p, y, i, n)


def test_a_copy_is_right():
    for regime in (WARP, BLOCK):
        y = np.zeros_like(X)
        launch(copies, X, y, regime=regime, threads=32)
        assert np.array_equal(y, X)


def copied(dtype, regime, columns, beyond_x, beyond_y):
    x = np.arange(2 * columns).reshape(2, columns).astype(half(dtype))
    y = in_memory(np.zeros_like(x), beyond_y, 1)
    launch(
        copies, in_memory(x, beyond_x, 3), y, regime=regime, threads=32, columns=columns,
        dtype=half(dtype),
    )  # fmt: skip
    return x, y


@pytest.mark.parametrize(("beyond_x", "beyond_y"), [(0, 0), (1, 1), (3, 2)])
@pytest.mark.parametrize("columns", [387, 391, 900, 1023])
@pytest.mark.parametrize("regime", [WARP, BLOCK], ids=lambda r: r.name)
@dtypes
def test_copies_of_several_at_once(dtype, regime, columns, beyond_x, beyond_y):
    x, y = copied(dtype, regime, columns, beyond_x, beyond_y)
    assert np.array_equal(x, y)


@pytest.mark.parametrize("regime", [WARP, BLOCK], ids=lambda r: r.name)
@dtypes
def test_several_are_copied_at_once(dtype, regime, monkeypatch):
    """Those copies are missed, and one with another step finds no multiple of 16 bytes."""
    names = simulated(staging.copy_in).__globals__
    copy = names["copy_16_at_once"]
    monkeypatch.setitem(names, "copy_16_at_once", lambda *_: None)
    x, y = copied(dtype, regime, 900, 1, 1)
    assert np.mean(x[1] != y[1]) > 0.5
    monkeypatch.setitem(names, "copy_16_at_once", lambda p, q, j, step: copy(p, q, j, step + 1))
    with pytest.raises(MisalignedError):
        copied(dtype, regime, 900, 1, 1)


def only(word, *kept):
    """The word, meaning something in these of its calls in turn, and nothing in others."""
    calls = {}

    def sometimes(*arguments):
        me = getcurrent().moment[:2]
        calls[me] = calls.get(me, -1) + 1
        if calls[me] % 2 in kept:
            word(*arguments)

    return sometimes


@pytest.mark.parametrize(
    ("function", "word", "kept"),
    [
        (staging.copy_in, "wait", [0]),
        (staging.copy_in, "wait", [1]),
        (staging.copy_out, "wait", []),
    ],
    ids=["after a copy", "before a copy", "before a row is written"],
)
@pytest.mark.parametrize("regime", [WARP, BLOCK], ids=lambda r: r.name)
def test_nobody_may_forget_to_wait(function, word, kept, regime, monkeypatch):
    names = simulated(function).__globals__
    monkeypatch.setitem(names, word, only(names[word], *kept))
    with pytest.raises(RaceError):
        launch(copies, X, in_memory(X * 0, 1), regime=regime, threads=32)


@pytest.mark.parametrize("kept", [[0], [1], []], ids=str)
def test_nobody_may_forget_to_wait_for_a_tile(kept, monkeypatch):
    x = np.arange(400, dtype=np.float32).reshape(80, 5)
    names = simulated(staging.move_tile).__globals__
    monkeypatch.setitem(names, "wait_block", only(names["wait_block"], *kept))
    with pytest.raises(RaceError):
        run_simulated(
            copies, [x, x * 0], TILE, 80, 5, 1, np.float32, threads=32, blocks=1
        )  # fmt: skip


def mistake(*, found):
    """A kernel of x and y that the simulator must stop, and the error that it raises."""

    def remember(kernel):
        MISTAKES[kernel.__name__] = kernel, found
        return kernel

    return remember


MISTAKES = {}


@mistake(found=OutOfBoundsError)
def reads_behind_a_row(x, y):
    load_some(row_at(x, 0), 0, 41, 0)


@mistake(found=OutOfBoundsError)
def reads_before_an_array(x, y):
    pick(row_at(x, 0), -1)


@mistake(found=OutOfBoundsError)
def reads_too_far_on_the_chip(x, y):
    pick(chip(row_at(x, 0), 0), 48)


@mistake(found=OutOfBoundsError)
def reads_before_the_chip(x, y):
    chip(row_at(x, 0), -1)


@mistake(found=MisalignedError)
def copies_16_bytes_from_anywhere(x, y):
    copy_16(chip(row_at(x, 0), 1), row_at(x, 0), 1)


@mistake(found=RaceError)
def writes_by_all_threads(x, y):
    copy_place(row_at(y, 0), 3, row_at(x, 0), 3)


@mistake(found=DivergentError)
def waits_by_some(x, y):
    if thread() < 40:
        wait_block()


@mistake(found=DivergentError)
def waits_in_two_places(x, y):
    if thread() < 40:
        wait_block()
    else:
        wait_block()


@mistake(found=DivergentError)
def waits_for_two_groups(x, y):
    if thread() < 40:
        pick(row_at(x, 0), 0)
    else:
        wait_block()


@mistake(found=DisagreementError)
def folds_nan(x, y):
    p = row_at(x, 0)
    max_across(p, load_some(p, 0, 5, nan))


@mistake(found=TypeError)
def mixes_types(x, y):
    put(row_at(y, 0), 0, load_some(x, 0, 1, 0))


@mistake(found=NotImplementedError)
def says_what_means_nothing(x, y):
    row(x, 0)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found(name):
    kernel, found = MISTAKES[name]
    x = in_memory(X, gap=1)
    if kernel is mixes_types:
        x = X[0].astype(np.float64)
    with pytest.raises(found):
        launch(kernel, x, X * 0)


def reads_what_nobody_wrote(x, y):
    p = chip(row_at(x, 0), 0)
    store_some(row_at(y, 0), 0, 40, load_some(p, 0, 40, 0))


def test_the_chip_holds_nothing_at_first():
    y = X * 0
    launch(reads_what_nobody_wrote, X, y)
    assert np.all(np.isnan(y[0]))
    assert np.all(y[1] == 0)
