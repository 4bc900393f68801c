"""Gradient and Hessian for boosted trees on an imitated GPU."""

import numpy as np
import pytest

pytest.importorskip("greenlet")
pytest.importorskip("ml_dtypes")

from gpu_imitation import Array, imitate
from halves import half
from numpy.testing import assert_allclose, assert_array_equal

import fastbp
from fastbp import reference
from fastbp.cuda import grad_hess_calls, run
from fastbp.cuda.grad_hess import grad_hess_columns
from fastbp.testing import OPS
from fastbp.testing.errors import errors, spacing

inf, nan = np.inf, np.nan
SHAPES = {run.TILE: (34, 5), run.WARP: (3, 40), run.BLOCK: (2, 70), run.LONG: (3, 70)}
VARIANTS = [name for name in OPS if name.startswith("softmax_cross_entropy_grad_hess")]
on_each_regime = pytest.mark.parametrize("regime", SHAPES, ids=lambda r: r.name)

softmax_grad_hess = fastbp.softmax_cross_entropy_grad_hess
sigmoid_grad_hess = fastbp.sigmoid_cross_entropy_grad_hess


@pytest.fixture
def gpu(monkeypatch):
    """A function that has arrays computed on an imitated GPU."""
    return lambda regime=run.TILE: imitate(monkeypatch, regime)


def call(function, *args, **options):
    """Both results for arrays on the GPU, brought back."""

    def move(value):
        return Array(value) if isinstance(value, np.ndarray) else value

    results = function(*map(move, args), **{name: move(v) for name, v in options.items()})
    assert [type(r) for r in results] == [Array, Array]
    return tuple(r.values for r in results)


def some_rows(n_rows, n_classes, dtype=np.float32):
    """Margins, labels, weights."""
    rng = np.random.default_rng([n_rows, n_classes])
    given = OPS[VARIANTS[0]].inputs(rng, (n_rows, n_classes), np.dtype(dtype))
    margins, labels = given.args
    return margins, labels, rng.uniform(0.2, 3, n_rows).astype(dtype)


def same_bits(results, expected):
    for result, other in zip(results, expected, strict=True):
        assert result.dtype == other.dtype
        assert_array_equal(result, other)


# results ------------------------------------------------------------------------------------------


@on_each_regime
@pytest.mark.parametrize("name", VARIANTS)
def test_rows(gpu, name, regime):
    gpu(regime)
    kinds = ["float32", "float64"] if "exact" in name else ["float32"]
    for dtype in kinds:
        given = OPS[name].inputs(np.random.default_rng(1), SHAPES[regime], np.dtype(dtype))
        result = call(OPS[name].function, *given.args, **given.kwargs)
        assert OPS[name].measure(given, result) <= OPS[name].promise_of(result)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers(gpu, dtype):
    gpu()
    name = "sigmoid_cross_entropy_grad_hess"
    given = OPS[name].inputs(np.random.default_rng(2), (7, 41), np.dtype(dtype))
    result = call(OPS[name].function, *given.args, **given.kwargs)
    assert OPS[name].measure(given, result) <= OPS[name].promise_of(result)


@on_each_regime
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rows_of_16_bits(gpu, dtype, regime):
    """They are taken as float32, which the results are."""
    gpu(regime)
    margins, labels, _ = some_rows(*SHAPES[regime])
    margins = margins.astype(half(dtype))
    weights = np.arange(len(margins)).astype(half(dtype))
    result = call(softmax_grad_hess, margins, labels, sample_weight=weights)
    wide, of_rows = margins.astype(np.float32), weights.astype(np.float32)
    same_bits(result, call(softmax_grad_hess, wide, labels, sample_weight=of_rows))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_of_16_bits(gpu, dtype):
    gpu()
    rng = np.random.default_rng(3)
    x, y, w = rng.normal(size=(3, 50)).astype(half(dtype))
    y = abs(y) / abs(y).max()
    wide = [a.astype(np.float32) for a in (x, y, w)]
    expected = call(sigmoid_grad_hess, *wide[:2], sample_weight=wide[2])
    same_bits(call(sigmoid_grad_hess, x, y, sample_weight=w), expected)
    same_bits(call(sigmoid_grad_hess, wide[0], y, sample_weight=w), expected)


def test_weights_of_any_size(gpu):
    """From 1e-30 to 1e30 no digit is lost, whatever is scaled on the way."""
    gpu()
    for n_classes in (3, 20):
        margins, labels, _ = some_rows(64, n_classes)
        weights = (10 ** np.random.default_rng(4).uniform(-30, 30, 64)).astype(np.float32)
        result = call(softmax_grad_hess, margins, labels, sample_weight=weights)
        exact = reference.softmax_cross_entropy_grad_hess(
            margins.astype(np.float64), labels, sample_weight=weights.astype(np.float64)
        )
        of_p = weights[:, None].astype(np.float64) * np.finfo(np.float32).smallest_subnormal
        for actual, e in zip(result, exact, strict=True):
            units = np.maximum(spacing(e, margins.dtype), of_p)
            assert errors(actual, e, units).max() <= 2.5


@on_each_regime
def test_special_values(gpu, regime):
    gpu(regime)
    margins, _, _ = some_rows(9, SHAPES[regime][1])
    labels = np.full(9, 2)
    before = call(softmax_grad_hess, margins, labels)
    for i, value in {1: nan, 3: inf, 5: -inf}.items():
        margins[i, 1] = value
    margins[6], margins[6, 2] = 0, 20
    margins[7], margins[8] = -inf, 3e38
    margins[8, 2:] = -3e38
    grad, hess = call(softmax_grad_hess, margins, labels)
    for i in (0, 2, 4):
        same_bits([grad[i], hess[i]], [part[i] for part in before])
    for i in (1, 3, 7):
        assert np.isnan(grad[i]).all()
        assert np.isnan(hess[i]).all()
    assert grad[5, 1] == hess[5, 1] == 0
    assert np.isfinite(grad[5]).all()
    others = (margins.shape[1] - 1) * np.exp(-20)
    assert_allclose([-grad[6, 2], hess[6, 2]], others, rtol=1e-6)
    assert_array_equal(grad[8, :4], [0.5, 0.5, -1, 0])
    assert_array_equal(hess[8, :4], [0.25, 0.25, 0, 0])
    grad, hess = call(softmax_grad_hess, margins, labels - 1, hessian="xgboost")
    assert grad[5, 1] == -1
    assert hess[5, 1] == np.float32(1e-16)
    assert np.isnan(hess[1]).all()


def test_special_numbers(gpu):
    gpu()
    x = np.array([nan, inf, -inf, inf, -inf, 3e38, 1], np.float32)
    grad, hess = call(sigmoid_grad_hess, x, np.array([0, 0, 0, 1, 1, 0, 0.5], np.float32))
    assert_array_equal(grad[:-1], [nan, 1, 0, 0, -1, 1])
    assert_array_equal(hess[:-1], [nan, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("hessian", ["exact", "xgboost", "lightgbm"])
def test_a_single_class(gpu, hessian):
    gpu()
    margins = np.array([[-200], [0], [nan]], np.float32)
    grad, hess = call(softmax_grad_hess, margins, np.zeros(3), hessian=hessian)
    assert_array_equal(grad, [[0], [0], [nan]])
    least = np.float32(1e-16 if hessian == "xgboost" else 0)
    assert_array_equal(hess, [[least], [least], [nan]])


# arguments ----------------------------------------------------------------------------------------


@pytest.fixture
def launched(gpu, monkeypatch):
    """The kernels that are launched."""
    gpu()
    found, execute = [], run.execute

    def note(kernel, *given):
        found.append(kernel)
        execute(kernel, *given)

    monkeypatch.setattr(run, "execute", note)
    return found


@pytest.mark.parametrize("n_classes", [1, 3, 33])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int8"])
def test_layouts_have_the_same_bits(launched, monkeypatch, dtype, n_classes):
    regime = run.TILE if n_classes <= 32 else run.WARP
    monkeypatch.setattr(run, "regime_on", lambda *_: regime)
    margins, labels, weights = some_rows(35 if n_classes <= 32 else 3, n_classes)
    margins = np.clip(margins, -100, 100).astype(half(dtype) if "float" in dtype else dtype)
    weights = weights.astype(margins.dtype if dtype == "float64" else np.float32)
    options = {"sample_weight": weights, "hessian": "lightgbm"}
    expected = call(softmax_grad_hess, margins, labels, **options)
    assert all(part.flags.c_contiguous for part in expected)
    assert grad_hess_columns not in launched

    turned = call(softmax_grad_hess, margins, labels, layout="classes", **options)
    same_bits(turned, expected)
    assert all(part.flags.f_contiguous for part in turned)
    assert grad_hess_columns not in launched

    del launched[:]
    by_class = np.ascontiguousarray(margins.T)
    flat = call(softmax_grad_hess, by_class.reshape(-1), labels, layout="classes", **options)
    same_bits([part.reshape(by_class.shape).T for part in flat], expected)
    assert (grad_hess_columns in launched) == (n_classes == 3 and dtype != "int8")

    for layout in ("rows", "classes"):
        grad, hess = softmax_grad_hess(
            Array(by_class).T, Array(labels), sample_weight=Array(weights), hessian="lightgbm",
            layout=layout,
        )  # fmt: skip
        same_bits([grad.values, hess.values], expected)
        assert grad.values.flags.f_contiguous
        assert hess.values.flags.f_contiguous


def test_labels_of_any_kind(gpu):
    gpu()
    margins, labels, _ = some_rows(34, 5)
    expected = call(softmax_grad_hess, margins, labels)
    for kind in "bBhHiIqQefd":
        same_bits(call(softmax_grad_hess, margins, labels.astype(kind)), expected)
    same_bits(call(softmax_grad_hess, margins, labels.astype(half("bfloat16"))), expected)
    x, y = margins[:, 0], labels > 1
    expected = call(sigmoid_grad_hess, x, y.astype(np.float32))
    for kind in "?bQefd":
        same_bits(call(sigmoid_grad_hess, x, y.astype(kind)), expected)


def test_weights_broadcast_to_numbers(gpu):
    gpu()
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 4, 3, 5)).astype(np.float32)
    y = rng.random(x.shape).astype(np.float32)
    for shape in [(4, 1, 1), (3, 1), (5,), (1, 3, 5), (4, 3, 5), ()]:
        w = rng.random(shape).astype(np.float32)
        whole = np.ascontiguousarray(np.broadcast_to(w, x.shape))
        expected = call(sigmoid_grad_hess, x, y, sample_weight=whole)
        same_bits(call(sigmoid_grad_hess, x, y, sample_weight=w), expected)


def test_nothing(gpu):
    gpu()
    for shape in [(0, 3), (0, 0)]:
        for layout in ("rows", "classes"):
            results = call(softmax_grad_hess, np.ones(shape, "f"), np.ones(0, int), layout=layout)
            assert [r.shape for r in results] == [shape, shape]
    nothing = np.ones(0, np.float32)
    for results in (call(softmax_grad_hess, nothing, nothing, layout="classes"),
                    call(sigmoid_grad_hess, nothing, nothing)):  # fmt: skip
        assert [r.shape for r in results] == [(0,), (0,)]


# errors -------------------------------------------------------------------------------------------

M, L = np.eye(3, 2, dtype=np.float32), np.array([0.0, 1.0, 1.0], np.float32)
N = np.zeros(3, np.float32)
FLAT = {"layout": "classes"}


def as_type(kind, *values):
    return np.array(values, kind)


ERRORS = [
    (softmax_grad_hess, (M + 1j, L), {}),
    (softmax_grad_hess, (M, L > 0), {}),
    (softmax_grad_hess, (M, as_type("f", [0], [1], [1])), {}),
    (softmax_grad_hess, (M, L[:2]), {}),
    (softmax_grad_hess, (M, L[:2]), FLAT),
    (softmax_grad_hess, (M[:, 0], L), {}),
    (softmax_grad_hess, (M[None], L), {}),
    (softmax_grad_hess, (M[:2].ravel(), L), FLAT),
    (softmax_grad_hess, (N, N[:0]), FLAT),
    (softmax_grad_hess, (N[:0], L), FLAT),
    (softmax_grad_hess, (M[:, :0], L), {}),
    (softmax_grad_hess, (M, L), {"hessian": "full"}),
    (softmax_grad_hess, (M, L), {"layout": "C"}),
    (softmax_grad_hess, (M, L), {"sample_weight": M}),
    (softmax_grad_hess, (M, as_type("d", 0, 0.5, 7)), {}),
    (softmax_grad_hess, (M, as_type("f", 0, 0, nan)), {}),
    (softmax_grad_hess, (M, as_type("e", 0, inf, 0)), {}),
    (softmax_grad_hess, (M, as_type("q", 0, 2, -1)), {}),
    (softmax_grad_hess, (M, as_type("b", 0, -1, -1)), {}),
    (softmax_grad_hess, (M, as_type("f", -1, 0, 0)), {}),
    (softmax_grad_hess, (M, as_type("d", 0, 1e30, 0)), {}),
    (softmax_grad_hess, (M, as_type("Q", 0, 0, 2**64 - 1)), {}),
    (softmax_grad_hess, (M.T.ravel(), as_type("i", 0, 9, 0)), FLAT),
    (sigmoid_grad_hess, (N + 1j, L), {}),
    (sigmoid_grad_hess, (N, L[:2]), {}),
    (sigmoid_grad_hess, (N, L), {"sample_weight": M}),
    (sigmoid_grad_hess, (N, as_type("i", 0, 1, -1)), {}),
    (sigmoid_grad_hess, (N, as_type("d", 0, 1 + 1e-12, 2)), {}),
    (sigmoid_grad_hess, (N, as_type("f", nan, 1, 1)), {}),
    (sigmoid_grad_hess, (N, as_type("B", 0, 200, 1)), {}),
    (sigmoid_grad_hess, (M, M + 2 * M[:, ::-1]), {}),
    (sigmoid_grad_hess, (as_type("f", 0)[0], as_type("f", 7)[0]), {}),
]


def error_of(function, *args, **options):
    try:
        function(*args, **options)
    except (TypeError, ValueError, IndexError) as error:
        return error
    raise AssertionError("there is no error")


@pytest.mark.parametrize(("function", "args", "options"), ERRORS)
def test_errors_are_those_of_cpus(gpu, function, args, options):
    gpu()
    expected = error_of(function, *args, **options)
    error = error_of(call, function, *map(np.asarray, args), **options)
    assert type(error) is type(expected)
    assert str(error) == str(expected)


def test_arrays_elsewhere_are_refused(gpu):
    gpu()
    for args, options in [((Array(M), L), {}), ((Array(M), Array(L)), {"sample_weight": N})]:
        with pytest.raises(TypeError, match="expected an array on a GPU, as margins is"):
            softmax_grad_hess(*args, **options)


def test_the_first_bad_label_of_many(gpu, monkeypatch):
    """More than one block looks for it."""
    gpu()
    monkeypatch.setattr(grad_hess_calls, "PER_BLOCK", 16)
    margins, labels, _ = some_rows(75, 3)
    same_bits(
        call(softmax_grad_hess, margins, labels),
        call(softmax_grad_hess, margins, labels.astype(float)),
    )
    labels[[40, 47, 70]] = 3, 4, 5
    with pytest.raises(IndexError, match="labels has label 3 at row 40; expected 0 to 2"):
        call(softmax_grad_hess, margins, labels)
    with pytest.raises(ValueError, match=r"labels has 3\.0 at 40; expected 0 to 1"):
        call(sigmoid_grad_hess, margins[:, 0], np.where(labels > 2, labels, 0))


def test_labels_that_change_meanwhile_cannot_harm(gpu, monkeypatch):
    gpu()
    monkeypatch.setattr(grad_hess_calls, "refuse_bad_classes", lambda *_: None)
    margins, _, _ = some_rows(4, 3)
    for layout in ("rows", "classes"):
        for labels in (np.array([0, -1, 10**9, 1]), np.array([0, nan, 1e300, 1])):
            for part in call(softmax_grad_hess, margins, labels, layout=layout):
                assert np.isnan(part[1:3]).all()
                assert np.isfinite(part[::3]).all()


def test_arguments_are_not_written_to(gpu):
    gpu()
    margins, labels, weights = some_rows(34, 5)
    given = [Array(a) for a in (margins, labels, weights)]
    softmax_grad_hess(*given[:2], sample_weight=given[2])
    for array, before in zip(given, (margins, labels, weights), strict=True):
        assert_array_equal(array.values, before)
