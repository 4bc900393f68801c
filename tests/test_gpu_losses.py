"""Losses on an imitated GPU: the same tests as on CPUs, in each way that threads share rows."""

import numpy as np
import pytest
from gpu_arrays import each
from gpu_imitation import Array, imitate
from halves import half
from numpy.testing import assert_array_equal

import fastbp
from fastbp.cuda import element_calls, losses, run
from fastbp.testing import OPS

inf, nan = np.inf, np.nan
DTYPES = ("float32", "float64", "float16", "bfloat16")
SHAPES = {run.TILE: (40, 7), run.WARP: (5, 70), run.BLOCK: (3, 133), run.LONG: (3, 133)}

with_grad = fastbp.softmax_cross_entropy_with_grad
on_each_regime = pytest.mark.parametrize("regime", SHAPES, ids=lambda r: r.name)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
VARIANTS = [
    name for name in OPS
    if name.startswith("softmax_cross_entropy") and "grad_hess" not in name
]  # fmt: skip
OF_PROBABILITIES = [name for name in OPS if name.startswith("cross_entropy")]
OF_ELEMENTS = [
    name for name in OPS
    if name.startswith(("sigmoid_cross_entropy", "squared_error", "binary_cross_entropy"))
    and "grad_hess" not in name
]  # fmt: skip


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


@on_each_regime
@pytest.mark.parametrize("name", VARIANTS)
def test_table(gpu, name, regime):
    run_table(gpu, name, regime)


def run_table(gpu, name, regime):
    """What the table of operations promises of CPUs holds here."""
    gpu(regime)
    operation = OPS[name]
    for dtype in DTYPES[:2]:
        given = operation.inputs(np.random.default_rng(3), SHAPES[regime], np.dtype(dtype))
        result = call(operation.function, *given.args, **given.kwargs)
        assert operation.measure(given, result) <= operation.promise_of(result)


@on_each_regime
@pytest.mark.parametrize("name", OF_PROBABILITIES)
def test_table_of_probabilities(gpu, name, regime):
    run_table(gpu, name, regime)


@pytest.mark.parametrize("name", OF_ELEMENTS)
def test_table_of_elements(gpu, monkeypatch, name):
    monkeypatch.setattr(element_calls, "PER_BLOCK", 64)
    run_table(gpu, name, run.TILE)


@on_each_regime
@pytest.mark.parametrize("dtype", DTYPES[2:])
@pytest.mark.parametrize(
    "options", [{}, {"softcap": 15.0, "z_loss": 0.02}, {"label_smoothing": 0.1}]
)
def test_halves(gpu, dtype, regime, options):
    gpu(regime)
    rng = np.random.default_rng(4)
    x = rng.normal(size=SHAPES[regime]).astype(half(dtype))
    labels = rng.integers(0, x.shape[1], len(x))
    loss, dx = call(with_grad, x, labels, **options)
    wide_loss, wide = call(with_grad, x.astype(np.float32), labels, **options)
    assert loss.dtype == np.float32
    assert_array_equal(loss, wide_loss)
    assert dx.dtype == x.dtype
    assert_array_equal(dx, wide.astype(x.dtype))


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
    expected, gradient = with_grad(x, labels, reduction="none")
    np.testing.assert_allclose(loss, expected, rtol=3e-7)
    np.testing.assert_allclose(dx, gradient, rtol=5e-7, atol=1e-44)


@on_each_regime
@pytest.mark.parametrize("label_type", ["int8", "uint8", "int32", "uint64"])
def test_labels_that_do_not_count(gpu, regime, label_type):
    gpu(regime)
    rng = np.random.default_rng(6)
    x = rng.normal(size=(9, SHAPES[regime][1])).astype(np.float32)
    labels = np.array([1, 2, 100, 3, 101, 0, 101, 2, 3], label_type)
    x[2], x[4] = nan, nan
    with pytest.raises(IndexError, match="label 100 at row 2; expected 0 to"):
        call(with_grad, x[:, :50], labels, ignore_index=101)
    for option in ("nan", "ignore"):
        given = {"ignore_index": 101, "on_bad_label": option}
        n = x[:, :50] if regime is not run.TILE else x
        for reduction in ("mean", "none", "sum"):
            loss, dx = call(with_grad, n, labels, reduction=reduction, **given)
            expected, gradient = with_grad(n, labels, reduction=reduction, **given)
            np.testing.assert_allclose(loss, expected, rtol=5e-7)
            np.testing.assert_allclose(dx, gradient, rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
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
        expected, gradient = with_grad(x, t, reduction=reduction, **given)
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
    for dloss in (0.1, np.array(0.5, np.float32)):
        dx = call(backward, dloss, x, labels)
        np.testing.assert_allclose(dx, backward(dloss, x, labels), rtol=5e-7)
    dloss = rng.normal(size=5).astype(np.float32)
    dx = call(backward, dloss, x, labels, reduction="none")
    np.testing.assert_allclose(dx, backward(dloss, x, labels, reduction="none"), rtol=5e-7)
    with pytest.raises(TypeError, match="expected an array on the GPU"):
        call(backward, 1.0, x, labels, reduction="none")


def test_axis_and_out(gpu):
    gpu(run.TILE)
    rng = np.random.default_rng(9)
    x = rng.normal(size=(3, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 4, (3, 5)).astype(np.uint8)
    given, on_gpu = Array(x), Array(labels)
    loss, dx = with_grad(given, on_gpu, axis=1, out=given)
    expected, gradient = with_grad(x, labels, axis=1)
    assert dx is given
    np.testing.assert_allclose(loss.values, expected, rtol=5e-7)
    np.testing.assert_allclose(dx.values, gradient, rtol=5e-7)
