"""Losses on an imitated GPU: the same tests as on CPUs, in each way that threads share rows."""

from fractions import Fraction

import numpy as np
import pytest
from gpu_arrays import each
from gpu_imitation import Array, imitate
from halves import half
from numpy.testing import assert_array_equal

import fastbp
from fastbp import reference
from fastbp.cuda import element_calls, losses, run
from fastbp.cuda.pairs import as_pair
from fastbp.testing import OPS

inf, nan = np.inf, np.nan
DTYPES = ("float32", "float64", "float16", "bfloat16")
# A few rows more than blocks have at once, and more columns than a group has threads.
SHAPES = {run.TILE: (34, 5), run.WARP: (3, 40), run.BLOCK: (2, 133), run.LONG: (3, 133)}
REGIMES = list(SHAPES)

with_grad = fastbp.softmax_cross_entropy_with_grad
on_each_regime = pytest.mark.parametrize("regime", REGIMES, ids=lambda r: r.name)


def by_options(*functions):
    """What the table has of these functions, by their options."""
    found = {}
    for name in OPS:
        function, _, options = name.partition("[")
        if function in functions:
            found.setdefault(options, []).append(name)
    return list(found.values())


def in_turn(variants):
    """A case for all options in each regime and type: the functions take turns."""
    return [
        pytest.param(name, regime, dtype, id=f"{name}-{regime.name}-{dtype}")
        for i, names in enumerate(variants)
        for j, regime in enumerate(REGIMES)
        for k, dtype in enumerate(DTYPES[:2])
        for name in [names[(i + j + k) % len(names)]]
    ]


def of_function(name):
    return [name, f"{name}_with_grad", f"{name}_backward"]


OF_ROWS = by_options(*of_function("softmax_cross_entropy"))
OF_PROBABILITIES = by_options(*of_function("cross_entropy"))
OF_ELEMENTS = [
    name
    for loss in ("sigmoid_cross_entropy", "squared_error", "binary_cross_entropy")
    for names in by_options(*of_function(loss))
    for name in names
]


@pytest.fixture
def gpu(monkeypatch):
    """A function that has arrays computed on an imitated GPU."""

    def start(regime):
        imitate(monkeypatch, regime)

    return start


def on_device(value):
    """Arrays as the GPU's."""
    return each(lambda v: Array(v) if isinstance(v, np.ndarray) else v, value)


def to_host(value):
    return each(lambda v: v.values if isinstance(v, Array) else v, value)


def call(function, *args, **named):
    """The function's result for arrays on the GPU, brought back."""
    named = {name: on_device(v) for name, v in named.items()}
    return to_host(function(*map(on_device, args), **named))


@pytest.mark.parametrize(("name", "regime", "dtype"), in_turn(OF_ROWS))
def test_table(gpu, name, regime, dtype):
    run_table(gpu, name, regime, dtype)


def run_table(gpu, name, regime, dtype):
    """What the table of operations promises of CPUs holds here."""
    gpu(regime)
    operation = OPS[name]
    given = operation.inputs(np.random.default_rng(3), SHAPES[regime], np.dtype(dtype))
    result = call(operation.function, *given.args, **given.kwargs)
    assert operation.measure(given, result) <= operation.promise_of(result)


@pytest.mark.parametrize(("name", "regime", "dtype"), in_turn(OF_PROBABILITIES))
def test_table_of_probabilities(gpu, name, regime, dtype):
    run_table(gpu, name, regime, dtype)


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_table_of_elements(gpu, monkeypatch, name, dtype):
    monkeypatch.setattr(element_calls, "PER_BLOCK", 4 * 32 + 8)  # four rounds at once, and some
    run_table(gpu, name, run.TILE, dtype)


def test_elements_become_their_gradients(gpu):
    """In place, several in flight."""
    gpu(run.TILE)
    rng = np.random.default_rng(10)
    x, t = rng.normal(size=300).astype(np.float32), rng.random(300).astype(np.float32)
    loss, dx = call(fastbp.sigmoid_cross_entropy_with_grad, x, t)
    given = Array(x)
    own_loss, own = fastbp.sigmoid_cross_entropy_with_grad(given, Array(t), out=given)
    assert own is given
    assert_array_equal(own.values, dx)
    assert_array_equal(own_loss.values, loss)


@pytest.mark.parametrize("positive", [(4, 1, 1), (3, 1), (5,), (1, 3, 5), (4, 3, 5), ()])
def test_weights_of_elements_broadcast(gpu, positive):
    gpu(run.TILE)
    rng = np.random.default_rng(6)
    x, t = rng.normal(size=(4, 3, 5)), rng.random((4, 3, 5))
    weights = {"pos_weight": rng.random(positive), "sample_weight": rng.random((4, 3, 1))}
    result = call(fastbp.sigmoid_cross_entropy_with_grad, x, t, **weights)
    expected = reference.sigmoid_cross_entropy_with_grad(x, t, **weights)
    for part, exact_part in zip(result, expected, strict=True):
        np.testing.assert_allclose(part, exact_part, rtol=1e-14, atol=1e-16)


KINDS_OF_ROWS = [  # which of the kernels, and with what
    ("labels", {}),
    ("labels", {"softcap": 15.0, "z_loss": 0.02}),
    ("labels", {"label_smoothing": 0.1}),
    ("probabilities", {}),
]


@on_each_regime
@pytest.mark.parametrize("dtype", DTYPES[2:])
def test_halves(gpu, dtype, regime):
    """They are computed as float32, and the gradient is rounded once."""
    gpu(regime)
    turn = REGIMES.index(regime) + DTYPES.index(dtype)
    kind, options = KINDS_OF_ROWS[turn % len(KINDS_OF_ROWS)]
    rng = np.random.default_rng(4)
    x = rng.normal(size=SHAPES[regime]).astype(half(dtype))
    labels = rng.integers(0, x.shape[1], len(x))
    targets = {"labels": labels, "probabilities": np.eye(x.shape[1], dtype=x.dtype)[labels]}[kind]
    loss, dx = call(with_grad, x, targets, **options)
    wide = targets if kind == "labels" else targets.astype(np.float32)
    wide_loss, wide_dx = call(with_grad, x.astype(np.float32), wide, **options)
    assert loss.dtype == np.float32
    assert_array_equal(loss, wide_loss)
    assert dx.dtype == x.dtype
    assert_array_equal(dx, wide_dx.astype(x.dtype))


@pytest.mark.parametrize("dtype", DTYPES[2:])
@pytest.mark.parametrize(
    "name", ["cross_entropy_backward[labels]", "cross_entropy_backward[probabilities,rows]",
             "sigmoid_cross_entropy_with_grad[soft,weights]",
             "squared_error_with_grad[whole]", "binary_cross_entropy_backward[hard]"],
)  # fmt: skip
def test_halves_of_other_losses(gpu, name, dtype):
    gpu(run.TILE)
    given = OPS[name].inputs(np.random.default_rng(3), SHAPES[run.TILE], half(dtype))
    result = call(OPS[name].function, *given.args, **given.kwargs)
    args = [a.astype(np.float32) if a.dtype == half(dtype) else a for a in given.args]
    named = {k: v.astype(np.float32) if isinstance(v, np.ndarray) else v
             for k, v in given.kwargs.items()}  # fmt: skip
    wide = call(OPS[name].function, *args, **named)
    result, wide = (r[-1] if isinstance(r, tuple) else r for r in (result, wide))
    assert result.dtype == half(dtype)
    assert_array_equal(result, wide.astype(result.dtype))


def exact(x, targets, **options):
    """The loss and its gradient by the reference, of float64."""
    return reference.softmax_cross_entropy_with_grad(x.astype(np.float64), targets, **options)


@on_each_regime
def test_special_values(gpu, regime):
    gpu(regime)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(9, SHAPES[regime][1])).astype(np.float32)
    x[1, 2], x[2, 3], x[3, 1], x[4] = nan, inf, -inf, -inf
    x[5, :3] = 20, 0, 0
    x[5, 3:] = -inf
    x[6, :2] = 3e38, -3e38
    labels = np.array([1, 2, 3, 1, 0, 0, 1, 2, 3])
    loss, dx = call(with_grad, x, labels, reduction="none")
    expected, gradient = exact(x, labels, reduction="none")
    with np.errstate(over="ignore"):
        expected = expected.astype(np.float32)
    np.testing.assert_allclose(loss, expected, rtol=3e-7)
    np.testing.assert_allclose(dx, gradient, rtol=5e-7, atol=1e-44)


@pytest.mark.parametrize(
    ("regime", "label_type"),
    [*zip(REGIMES, ["int8", "uint8", "int32", "uint64"], strict=True)],
    ids=["tile", "warp", "block", "long"],
)
def test_labels_that_do_not_count(gpu, regime, label_type):
    gpu(regime)
    rng = np.random.default_rng(6)
    x = rng.normal(size=(9, SHAPES[regime][1])).astype(np.float32)
    labels = np.array([1, 2, 100, 3, 101, 0, 101, 2, 3], label_type)
    x[2], x[4] = nan, nan
    x = x[:, :50]
    with pytest.raises(IndexError, match="label 100 at row 2; expected 0 to"):
        call(with_grad, x, labels, ignore_index=101)
    for option, reduction in [("nan", "mean"), ("nan", "none"), ("ignore", "mean")]:
        given = {"ignore_index": 101, "on_bad_label": option, "reduction": reduction}
        loss, dx = call(with_grad, x, labels, **given)
        expected, gradient = exact(x, labels, **given)
        np.testing.assert_allclose(loss, expected, rtol=5e-7)
        np.testing.assert_allclose(dx, gradient, rtol=1e-6)


@pytest.mark.parametrize(
    ("reduction", "weighted"), [("mean", True), ("mean", False), ("sum", True)]
)
def test_many_rows(gpu, monkeypatch, reduction, weighted):
    """More than one block sums."""
    gpu(run.TILE)
    monkeypatch.setattr(losses, "PER_BLOCK", 16)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(75, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 75)
    given = {"sample_weight": rng.random(75).astype(np.float32)} if weighted else {}
    targets = np.eye(3, dtype=np.float32)[labels]
    for t in (labels, targets):
        loss, dx = call(with_grad, x, t, reduction=reduction, **given)
        expected, gradient = exact(x, t, reduction=reduction, **given)
        np.testing.assert_allclose(loss, expected, rtol=2e-7)
        np.testing.assert_allclose(dx, gradient, rtol=5e-7)
    labels[40] = 3
    with pytest.raises(IndexError, match="label 3 at row 40"):
        call(with_grad, x, labels)


@pytest.mark.parametrize("empty", ["nan", "zero"])
def test_nothing_to_count(gpu, empty):
    gpu(run.TILE)
    x = np.ones((3, 2), np.float32)
    labels = np.array([-1, -1, -1])
    loss, dx = call(with_grad, x, labels, ignore_index=-1, empty=empty)
    assert_array_equal(loss, nan if empty == "nan" else 0.0)
    assert_array_equal(dx, 0)
    loss, dx = call(with_grad, x[:0], labels[:0], empty=empty)
    assert_array_equal(loss, nan if empty == "nan" else 0.0)
    assert dx.shape == (0, 2)


def test_upstream(gpu):
    """A number, or an array on the GPU."""
    gpu(run.TILE)
    rng = np.random.default_rng(8)
    x = rng.normal(size=(5, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 5)
    backward = fastbp.softmax_cross_entropy_backward
    expected = reference.softmax_cross_entropy_backward
    for dloss in (0.1, np.array(0.5, np.float32)):
        dx = call(backward, dloss, x, labels)
        gradient = expected(float(dloss), x.astype(np.float64), labels)
        np.testing.assert_allclose(dx, gradient, rtol=5e-7)
    dloss = rng.normal(size=5).astype(np.float32)
    dx = call(backward, dloss, x, labels, reduction="none")
    gradient = expected(dloss, x.astype(np.float64), labels, reduction="none")
    np.testing.assert_allclose(dx, gradient, rtol=5e-7)
    with pytest.raises(TypeError, match="expected an array on the GPU"):
        call(backward, 1.0, x, labels, reduction="none")


def test_axis_and_out(gpu):
    gpu(run.TILE)
    rng = np.random.default_rng(9)
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 4, (3, 5)).astype(np.uint8)
    given, on_gpu = Array(x), Array(labels)
    loss, dx = with_grad(given, on_gpu, axis=1, out=given)
    expected, gradient = exact(x, labels, axis=1)
    assert dx is given
    np.testing.assert_allclose(loss.values, expected, rtol=5e-7)
    np.testing.assert_allclose(dx.values, gradient, rtol=5e-7)


@pytest.mark.parametrize(("dtype", "digits"), [("float32", 47), ("float64", 105)])
def test_pairs_hold_twice_the_digits(dtype, digits):
    exact = Fraction(0.3) / 7 - Fraction(0.1)
    pair = as_pair(0.3, 7.0, dtype, -0.1)
    assert pair.dtype == dtype
    assert all(np.dtype(dtype).type(part) == part for part in pair.values)
    assert abs(sum(map(Fraction, pair.values)) - exact) <= abs(exact) / 2**digits
    for special in (nan, inf, -inf):
        assert_array_equal(as_pair(special, 3.0, dtype).values, (special, 0))
