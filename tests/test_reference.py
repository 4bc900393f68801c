"""The reference, judged by what lies outside fastbp: mpmath, closed forms, differences, PyTorch.

Here its functions of rows and elements, and what holds for all of it; losses have their own files.
"""

import ast
import inspect
import itertools
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import (
    DY,
    LABELS,
    LOG2,
    LONG,
    SPECIAL,
    X,
    assert_gradient,
    exact,
    exact_logsumexp,
    exact_softmax,
    inf,
    nan,
    precisions,
    rng,
    rows,
    ulps,
)

from fastbp import reference as ref

# --- 1. mpmath ----------------------------------------------------------------------------------


@rows
@precisions
def test_softmax_against_mpmath(row, dtype, limit):
    x = dtype(row)
    shift = max(exact(row))
    p = exact_softmax([v - shift for v in exact(row)])
    assert ulps(ref.softmax(x), p) <= limit
    log_p = [v - exact_logsumexp(exact(row)) for v in exact(row)]
    assert ulps(ref.log_softmax(x), log_p) <= limit
    lse = exact_logsumexp(exact(row))
    scale = max(abs(max(exact(row))), abs(lse - max(exact(row))))
    assert ulps(ref.logsumexp(x), [lse], [scale]) <= limit


@rows
def test_backward_passes_against_mpmath(row):
    dy = np.resize([1.0, -0.5, 3.0, 0.25, -7.0], len(row))
    y = ref.softmax(row)
    g, p = exact(dy), exact(y)
    # y was rounded: the shifted formula is exact for rows that sum to 1, so let the largest do so.
    k = int(np.argmax(y))
    p[k] = 1 - mpmath.fsum(p[:k] + p[k + 1 :])
    dot = mpmath.fsum(a * b for a, b in zip(g, p, strict=True))
    expected = [pj * (gj - dot) for pj, gj in zip(p, g, strict=True)]
    largest = max(map(abs, expected))
    error = [abs(a - e) for a, e in zip(exact(ref.softmax_backward(dy, y)), expected, strict=True)]
    assert max(error) <= largest * 2e-15 + 5e-324  # one subnormal

    log_y = ref.log_softmax(row)
    if np.all(np.isfinite(log_y)):
        p = [mpmath.exp(v) for v in exact(log_y)]
        expected = [gj - pj * mpmath.fsum(g) for pj, gj in zip(p, g, strict=True)]
        scale = [max(abs(gj) * (1 - pj), pj) * 12 for pj, gj in zip(p, g, strict=True)]
        scale = [s or mpmath.mpf(1) for s in scale]
        assert ulps(ref.log_softmax_backward(dy, log_y), expected, scale) <= 3

    lse = ref.logsumexp(row)
    expected = [2 * mpmath.exp(v - exact(lse)) for v in exact(row)]
    distance = 1 + float(np.max(np.abs(np.clip(np.float64(row) - lse, -745, 0))))
    assert ulps(ref.logsumexp_backward(2.0, row, lse), expected) <= 3 + distance


@pytest.mark.parametrize("margin", [1, 5, 9, 50, 700])
def test_confident_rows_keep_their_backward_precision(margin):
    """y (dy - dot) and dy - exp(y) sum(dy) lose the certain column: noise, and then 0."""
    dy = [1.0, 0.0, 0.0]
    y = ref.softmax([margin, 0.0, 0.0])
    p = exact(y)
    expected = [(p[1] + p[2]) * (1 - p[1] - p[2]), -p[0] * p[1], -p[0] * p[2]]
    assert ulps(ref.softmax_backward(dy, y), expected) <= 4
    log_y = ref.log_softmax([margin, 0.0, 0.0])
    p = [mpmath.exp(v) for v in exact(log_y)]
    assert ulps(ref.log_softmax_backward(dy, log_y), [1 - p[0], -p[1], -p[2]]) <= 3


SIGMOID_AT = [0, 1e-4, 0.5, 1, 2, 17, 37, 40, 100, 700, 740, 745, 1e-300, 5e-324]


@pytest.mark.parametrize("x", [*SIGMOID_AT, *(-v for v in SIGMOID_AT)])
def test_sigmoid_against_mpmath(x):
    z = mpmath.exp(-mpmath.mpf(x))
    s = 1 / (1 + z)
    assert ulps(ref.sigmoid(x), [s]) <= 2
    assert ulps(ref.log_sigmoid(x), [mpmath.log(s)]) <= 2
    assert ulps(ref.sigmoid_backward(3.0, x=x), [3 * s * (1 - s)]) <= 4
    assert ulps(ref.log_sigmoid_backward(3.0, x), [3 * (1 - s)]) <= 3


# --- 2. closed forms ----------------------------------------------------------------------------


def test_softmax_of_logs_is_their_share():
    weights = np.array([[1.0, 2.0, 5.0], [0.25, 0.5, 0.25]])
    shares = weights / weights.sum(axis=1, keepdims=True)
    assert_allclose(ref.softmax(np.log(weights)), shares, rtol=1e-15)
    assert_allclose(ref.logsumexp(np.log(weights)), [np.log(8), 0], rtol=1e-15, atol=1e-15)


# --- 3. finite differences ----------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), (2, 0), None])
def test_row_backwards_by_differences(axis):
    for f, backward in (
        (ref.softmax, ref.softmax_backward),
        (ref.log_softmax, ref.log_softmax_backward),
    ):
        dx = backward(DY, f(X, axis), axis)
        assert_gradient(dx, lambda x, f=f: np.sum(DY * f(x, axis)), X)
    for options in ({"axis": axis}, {"axis": axis, "keepdims": True}):
        y = ref.logsumexp(X, **options)
        dy = np.resize(DY, np.shape(y))
        dx = ref.logsumexp_backward(dy, X, y, **options)
        assert_gradient(dx, lambda x, dy=dy, o=options: np.sum(dy * ref.logsumexp(x, **o)), X)


def test_no_axes_make_every_entry_a_row():
    assert_array_equal(ref.softmax(X, ()), np.ones(X.shape))
    assert_array_equal(ref.log_softmax_backward(DY, np.zeros(X.shape), ()), np.zeros(X.shape))
    assert_array_equal(ref.logsumexp(X, ()), X)


def test_elementwise_backwards_by_differences():
    assert_gradient(ref.sigmoid_backward(DY, x=X), lambda x: np.sum(DY * ref.sigmoid(x)), X)
    assert_gradient(
        ref.sigmoid_backward(DY, ref.sigmoid(X)), lambda x: np.sum(DY * ref.sigmoid(x)), X
    )
    assert_gradient(ref.log_sigmoid_backward(DY, X), lambda x: np.sum(DY * ref.log_sigmoid(x)), X)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("layout", ["in_out", "out_in"])
def test_linear_backward_by_differences(shape, layout):
    x = np.resize(X, shape)
    w, b = rng.normal(size=(4, 5) if layout == "in_out" else (5, 4)), rng.normal(size=5)
    y = ref.linear(x, w, b, weight_layout=layout)
    dy = np.resize(DY, y.shape)
    dx, dweight, dbias = ref.linear_backward(dy, x, w, weight_layout=layout)

    def f(x, w, b):
        return np.sum(dy * ref.linear(LONG(x), w, b, weight_layout=layout))

    assert_gradient(dx, lambda v: f(v, w, b), x)
    assert_gradient(
        dweight, lambda v: np.sum(dy * ref.linear(LONG(x), v, b, weight_layout=layout)), w
    )
    assert_gradient(dbias, lambda v: f(x, w, v), b)
    assert_allclose(ref.linear(x, w, weight_layout=layout), y - b, rtol=1e-13, atol=1e-14)


def test_masked_entries_have_no_gradient():
    where = MASKS["some"]
    for f, backward in (
        (ref.softmax, ref.softmax_backward),
        (ref.logsumexp, ref.logsumexp_backward),
    ):
        y = f(X, where=where)
        dy = np.resize(DY, np.shape(y))
        saved = (y,) if f is ref.softmax else (np.where(where, X, -inf), y)
        assert_gradient(
            backward(dy, *saved), lambda x, f=f, dy=dy: np.sum(dy * f(x, where=where)), X
        )


# --- 4. PyTorch ---------------------------------------------------------------------------------


def test_other_operations_are_those_of_torch():
    torch = pytest.importorskip("torch")
    pairs = [
        (ref.softmax(X, 1), torch.softmax, {"dim": 1}),
        (ref.log_softmax(X, 1), torch.log_softmax, {"dim": 1}),
        (
            ref.logsumexp(X, (0, 2), keepdims=True),
            torch.logsumexp,
            {"dim": (0, 2), "keepdim": True},
        ),
        (ref.sigmoid(X), torch.sigmoid, {}),
        (ref.log_sigmoid(X), torch.nn.functional.logsigmoid, {}),
    ]
    for actual, f, options in pairs:
        assert_allclose(actual, f(torch.tensor(X), **options).numpy(), rtol=1e-13)


# --- 5. properties ------------------------------------------------------------------------------

# Multiples of 1/64, so that adding a constant is exact.
logits = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7),
    elements=st.integers(-(2**15), 2**15).map(lambda i: i / 64),
)  # fmt: skip
shifts = st.integers(-(2**20), 2**20).map(lambda i: i / 64)


@given(logits, shifts)
def test_shifts_change_nothing(x, c):
    assert_array_equal(ref.softmax(x + c), ref.softmax(x))
    assert_array_equal(ref.log_softmax(x + c), ref.log_softmax(x))
    assert_allclose(ref.logsumexp(x + c), ref.logsumexp(x) + c, rtol=1e-12, atol=1e-9)
    labels = np.zeros(len(x), int)
    for a, b in zip(
        ref.softmax_cross_entropy_with_grad(x + c, labels),
        ref.softmax_cross_entropy_with_grad(x, labels),
        strict=True,
    ):
        assert_array_equal(a, b)


@given(logits)
def test_rows_sum_to_one_and_their_gradients_to_zero(x):
    p = ref.softmax(x)
    assert np.all((p >= 0) & (p <= 1))
    assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    labels = np.arange(len(x)) % x.shape[1]
    losses, dlogits = ref.softmax_cross_entropy_with_grad(x, labels, reduction="none")
    assert np.all(losses >= 0)
    assert not np.any(np.signbit(losses))
    # Relative to what is added up: this holds for rows of any confidence.
    assert np.all(np.abs(dlogits.sum(axis=1)) <= 1e-14 * np.abs(dlogits).sum(axis=1) + 1e-320)
    assert_allclose(losses, -np.take_along_axis(ref.log_softmax(x), labels[:, None], 1)[:, 0])


@given(logits)
def test_sigmoid_is_symmetric(x):
    assert_allclose(ref.sigmoid(x) + ref.sigmoid(-x), 1, rtol=1e-15)
    assert_array_equal(ref.sigmoid_backward(x, x=x), ref.sigmoid_backward(x, x=-x))
    assert_allclose(ref.log_sigmoid(x) - ref.log_sigmoid(-x), x, rtol=1e-14, atol=1e-14)


# --- where --------------------------------------------------------------------------------------

MASKS = {
    "some": np.arange(24).reshape(X.shape) % 5 > 1,
    "columns": np.array([True, False, True, True]),
    "rows": np.array([[True], [False], [True]]),
    "everything": True,
    "nothing": False,
}


@pytest.mark.parametrize("axis", [-1, 0, (0, 2), None])
@pytest.mark.parametrize("where", MASKS.values(), ids=MASKS)
def test_what_is_masked_is_left_out(where, axis):
    kept = np.broadcast_to(where, X.shape)
    x = np.where(kept, X, np.resize([nan, inf, 1e300], X.shape))
    softmax, log_softmax = ref.softmax(x, axis, where=where), ref.log_softmax(x, axis, where=where)
    lse = ref.logsumexp(x, axis, where=where, keepdims=True)
    assert_array_equal(softmax[~kept], 0)
    assert_array_equal(log_softmax[~kept], -inf)
    axes = range(X.ndim) if axis is None else np.atleast_1d(axis) % X.ndim
    others = [range(1) if i in axes else range(n) for i, n in enumerate(X.shape)]
    for place in itertools.product(*others):  # of a row
        row = tuple(slice(None) if i in axes else j for i, j in enumerate(place))
        without = X[row][kept[row]]
        assert_allclose(softmax[row][kept[row]], ref.softmax(without), rtol=1e-15)
        assert_allclose(log_softmax[row][kept[row]], ref.log_softmax(without), rtol=1e-15)
        assert_allclose(lse[place], ref.logsumexp(without), rtol=1e-15)


def test_masks_are_those_of_torch():
    torch = pytest.importorskip("torch")
    where = MASKS["some"]
    x = torch.tensor(X).masked_fill(~torch.tensor(where), -inf)
    assert_allclose(ref.softmax(X, where=where), torch.softmax(x, -1), rtol=1e-11)
    assert_allclose(ref.log_softmax(X, where=where), torch.log_softmax(x, -1), rtol=1e-11)
    assert_allclose(ref.logsumexp(X, where=where), torch.logsumexp(x, -1), rtol=1e-11)


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_masked_entries_of_rows_without_a_softmax(value):
    x, where = [[value, value, 7.0], [1.0, nan, 2.0]], [[True, True, False], [True, False, True]]
    usual = ref.softmax([1.0, 2.0])
    assert_array_equal(ref.softmax(x, where=where), [[nan, nan, 0], [usual[0], 0, usual[1]]])
    assert_array_equal(
        ref.log_softmax(x, where=where),
        [[nan, nan, -inf], np.insert(ref.log_softmax([1.0, 2.0]), 1, -inf)],
    )
    assert_array_equal(ref.logsumexp(x, where=where), [value, ref.logsumexp([1.0, 2.0])])


def test_rows_that_are_masked_completely():
    x = [[nan, inf], [1.0, 1.0]]
    where = [[False], [True]]
    softmax = ref.softmax(x, where=where)
    assert_array_equal(softmax, [[0, 0], [0.5, 0.5]])
    assert not np.any(np.signbit(softmax))
    assert_allclose(ref.log_softmax(x, where=where), [[-inf, -inf], [-LOG2, -LOG2]], rtol=1e-15)
    assert_allclose(ref.logsumexp(x, where=where), [-inf, 1 + LOG2], rtol=1e-15)
    empty = np.zeros((3, 0))
    assert ref.softmax(empty, where=True).shape == (3, 0)
    assert_array_equal(ref.logsumexp(empty, where=False), [-inf] * 3)


# --- 6. special values: the contract's table, row by row ------------------------------------------


@pytest.mark.parametrize(
    ("x", "softmax", "log_softmax", "logsumexp"), SPECIAL.values(), ids=SPECIAL
)
def test_special_rows(x, softmax, log_softmax, logsumexp):
    assert_allclose(ref.softmax(x), softmax, rtol=1e-15)
    assert_allclose(ref.log_softmax(x), log_softmax, rtol=1e-15)
    assert_allclose(ref.logsumexp(x), logsumexp, rtol=1e-15)
    # A row among others: neither gives anything to the other.
    usual = [0.5, 1.0, -2.0]
    for f in (ref.softmax, ref.log_softmax, ref.logsumexp):
        assert_array_equal(f([usual, x, usual]), [f(usual), f(x), f(usual)])


def test_nothing_in_nothing_out():
    for f in (ref.softmax, ref.log_softmax):
        assert f(np.zeros((0, 3))).shape == (0, 3)
        assert f(np.zeros((3, 0))).shape == (3, 0)
    assert_array_equal(ref.logsumexp(np.zeros((2, 0))), [-inf, -inf])
    assert ref.logsumexp(np.zeros((0, 2))).shape == (0,)
    assert ref.softmax_backward(np.zeros((3, 0)), np.zeros((3, 0))).shape == (3, 0)
    assert ref.log_softmax_backward(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
    assert ref.logsumexp_backward(np.zeros(2), np.zeros((2, 0)), np.zeros(2)).shape == (2, 0)
    assert ref.sigmoid(np.zeros((0, 2))).shape == (0, 2)
    assert ref.linear(np.zeros((0, 2)), np.zeros((2, 3))).shape == (0, 3)
    dx, dweight, dbias = ref.linear_backward(np.zeros((0, 3)), np.zeros((0, 2)), np.ones((2, 3)))
    assert dx.shape == (0, 2)
    assert_array_equal(dweight, np.zeros((2, 3)))
    assert_array_equal(dbias, np.zeros(3))
    for shape in ((0, 3), (0, 0)):
        none, dlogits = ref.softmax_cross_entropy_with_grad(
            np.zeros(shape), np.zeros(0, int), reduction="none"
        )
        assert none.shape == (0,)
        assert dlogits.shape == shape
    with pytest.raises(ValueError, match="no classes"):
        ref.softmax_cross_entropy(np.zeros((3, 0)), np.zeros(3, int))


def test_sigmoid_at_the_ends():
    assert_array_equal(ref.sigmoid([inf, -inf, nan, 800, -0.0]), [1, 0, nan, 1, 0.5])
    assert np.float32(ref.sigmoid(-100)) == np.float32(3.78e-44)
    log = ref.log_sigmoid([inf, -inf, nan])
    assert_array_equal(log, [0, -inf, nan])
    assert np.signbit(log[0])
    assert_array_equal(ref.sigmoid_backward([1, 1, 1], x=[inf, -inf, nan]), [0, 0, nan])
    assert_array_equal(ref.log_sigmoid_backward([1, 1, 1], [inf, -inf, nan]), [0, 1, nan])


# --- 7. the module ------------------------------------------------------------------------------


def test_imports_nothing_but_numpy():
    files = sorted(Path(ref.__file__).parent.glob("**/*.py"))
    assert len(files) > 5
    roots = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text("utf-8")))):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level < 2, "beyond the package"
            roots |= set() if node.level else {node.module.split(".")[0]}
    assert roots - set(sys.stdlib_module_names) == {"numpy"}


def test_all_is_what_is_public():
    public = {n for n, f in vars(ref).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert set(ref.__all__) == public


def calls(x):
    """Every function with x of shape (2, 2), of ones and zeros, as its first arrays."""
    labels = [0, 1]
    return {
        "softmax": lambda: ref.softmax(x),
        "softmax_backward": lambda: ref.softmax_backward(x, x),
        "log_softmax": lambda: ref.log_softmax(x),
        "log_softmax_backward": lambda: ref.log_softmax_backward(x, x),
        "logsumexp": lambda: ref.logsumexp(x),
        "logsumexp_backward": lambda: ref.logsumexp_backward(x[0], x, x[0]),
        "sigmoid": lambda: ref.sigmoid(x),
        "sigmoid_backward": lambda: ref.sigmoid_backward(x, x),
        "log_sigmoid": lambda: ref.log_sigmoid(x),
        "log_sigmoid_backward": lambda: ref.log_sigmoid_backward(x, x),
        "linear": lambda: ref.linear(x, x, x[0]),
        "linear_backward": lambda: ref.linear_backward(x, x, x),
        "softmax_cross_entropy": lambda: ref.softmax_cross_entropy(
            x, ([[0], [1]], np.ones((2, 1), np.float16))
        ),
        "softmax_cross_entropy_with_grad": lambda: ref.softmax_cross_entropy_with_grad(
            x, np.eye(2, dtype=np.float32), z_loss=0.1, softcap=2, temperature=3, reduction="none"
        ),
        "softmax_cross_entropy_backward": lambda: ref.softmax_cross_entropy_backward(1, x, labels),
        "sigmoid_cross_entropy": lambda: ref.sigmoid_cross_entropy(x, x),
        "sigmoid_cross_entropy_with_grad": lambda: ref.sigmoid_cross_entropy_with_grad(
            x, x, pos_weight=2, sample_weight=3, reduction="none"
        ),
        "sigmoid_cross_entropy_backward": lambda: ref.sigmoid_cross_entropy_backward(1, x, x),
        "linear_cross_entropy": lambda: ref.linear_cross_entropy(x, x, labels),
        "linear_cross_entropy_with_grad": lambda: _flat(
            ref.linear_cross_entropy_with_grad(x, x, labels, x[0])
        ),
        "cross_entropy": lambda: ref.cross_entropy(x, labels),
        "cross_entropy_backward": lambda: ref.cross_entropy_backward(1, x, x.astype(np.float32)),
        "binary_cross_entropy": lambda: ref.binary_cross_entropy(x, x),
        "binary_cross_entropy_backward": lambda: ref.binary_cross_entropy_backward(1, x, x),
        "squared_error": lambda: ref.squared_error(x, x, half=True),
        "squared_error_with_grad": lambda: ref.squared_error_with_grad(x, x, reduction="none"),
        "squared_error_backward": lambda: ref.squared_error_backward(1, x, x),
        "softmax_cross_entropy_grad_hess": lambda: ref.softmax_cross_entropy_grad_hess(
            x, labels, hessian="lightgbm"
        ),
        "sigmoid_cross_entropy_grad_hess": lambda: ref.sigmoid_cross_entropy_grad_hess(x, x),
    }


def _flat(results):
    loss, gradients = results
    return loss, *gradients


@pytest.mark.parametrize(
    "name", ["float16", "bfloat16", "float32", "float64", "longdouble", "int8", "uint64", "bool"]
)
def test_everything_is_computed_in_float64_or_longdouble(name):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    computed = LONG if name == "longdouble" else np.float64
    x = np.eye(2).astype(dtype)
    assert set(calls(x)) == set(ref.__all__)
    for function, call in calls(x).items():
        results = call()
        for r in results if isinstance(results, tuple) else (results,):
            assert isinstance(r, np.ndarray | np.generic), function
            assert r.dtype == computed, function


def test_results_without_axes_are_scalars():
    assert isinstance(ref.logsumexp([1.0, 2.0]), np.float64)
    for reduction in ("none", "sum", "mean"):
        options = {"reduction": reduction}
        for loss in (
            ref.softmax_cross_entropy([1.0, 2.0], 0, **options),
            ref.sigmoid_cross_entropy(1.0, 0, **options),
            ref.cross_entropy([0.5, 0.5], 1, **options),
            ref.binary_cross_entropy(0.5, 1, **options),
            ref.squared_error(0.5, 1, **options),
        ):
            assert isinstance(loss, np.float64)


def test_out_receives_the_result_and_may_be_the_input():
    labels = LABELS[0]
    x = np.float32(X[0])
    cases = [
        (lambda a, out: ref.softmax(a, out=out), x),
        (lambda a, out: ref.log_softmax(a, 0, out=out), x),
        (lambda a, out: ref.sigmoid(a, out=out), x),
        (lambda a, out: ref.log_sigmoid(a, out=out), x),
        (lambda a, out: ref.softmax_backward(a, x, out=out), x),
        (lambda a, out: ref.log_softmax_backward(a, x, out=out), x),
        (lambda a, out: ref.sigmoid_backward(a, x, out=out), x),
        (lambda a, out: ref.log_sigmoid_backward(a, x, out=out), x),
        (lambda a, out: ref.softmax_cross_entropy_with_grad(a, labels, out=out)[1], x),
        (lambda a, out: ref.softmax_cross_entropy_backward(2.0, a, labels, out=out), x),
        (lambda a, out: ref.sigmoid_cross_entropy_with_grad(a, x, out=out)[1], x),
        (lambda a, out: ref.sigmoid_cross_entropy_backward(2.0, a, x, out=out), x),
        (lambda a, out: ref.squared_error_with_grad(a, 2 * x, out=out)[1], x),
        (lambda a, out: ref.squared_error_backward(2.0, a, 2 * x, out=out), x),
        (lambda a, out: ref.cross_entropy_backward(2.0, a, labels, out=out), x),
        (lambda a, out: ref.binary_cross_entropy_backward(2.0, a, 2 * x, out=out), x),
        (lambda a, out: ref.softmax(a, where=a > 0, out=out), x),
        (lambda a, out: ref.log_softmax(a, where=a > 0, out=out), x),
    ]
    for f, a in cases:
        before = a.copy()
        expected = f(a, None)
        assert_array_equal(a, before)
        out = a.copy()
        assert f(out, out) is out
        assert_array_equal(out, np.float32(expected))
    out = np.empty(3)
    assert ref.logsumexp(x, out=out) is out
    assert_array_equal(out, ref.logsumexp(x))
    assert_array_equal(
        ref.logsumexp_backward(out, x, out, out=x.copy()), np.float32(out[:, None] * ref.softmax(x))
    )


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "x must hold real numbers", lambda: ref.softmax([1j])),
        (TypeError, "exactly one of y and x", lambda: ref.sigmoid_backward([1.0])),
        (TypeError, "exactly one of y and x", lambda: ref.sigmoid_backward(1.0, 1.0, x=1.0)),
        (TypeError, "where must be of bools", lambda: ref.softmax([1.0], where=[1])),
        (TypeError, "where must be of bools", lambda: ref.logsumexp([1.0], where=1.0)),
        (ValueError, "where must broadcast", lambda: ref.softmax([1.0], where=[True, True])),
        (ValueError, "where must broadcast", lambda: ref.log_softmax(1.0, (), where=[True])),
        (ValueError, "out must have shape", lambda: ref.softmax([1.0], out=np.empty(2))),
        (ValueError, "y must have shape", lambda: ref.softmax_backward([1.0], [1.0, 2.0])),
        (ValueError, "weight_layout", lambda: ref.linear([1.0], [[1.0]], weight_layout="io")),
        (ValueError, "bias must have shape", lambda: ref.linear([1.0], [[1.0]], [1.0, 2.0])),
        (ValueError, "x must have shape", lambda: ref.linear([1.0, 2.0], [[1.0]])),
        (ValueError, "integers, so labels", lambda: ref.softmax_cross_entropy([[1.0]], [[1]])),
        (ValueError, "floats, so prob", lambda: ref.softmax_cross_entropy([[1.0]], [1.0])),
        (TypeError, "labels .* prob", lambda: ref.softmax_cross_entropy([[1.0]], ["0"])),
        (ValueError, "reduction", lambda: ref.softmax_cross_entropy([[1.0]], [0], reduction="avg")),
        (ValueError, "empty", lambda: ref.softmax_cross_entropy([[1.0]], [0], empty="one")),
        (
            ValueError,
            "on_bad",
            lambda: ref.softmax_cross_entropy([[1.0]], [0], on_bad_label="wrap"),
        ),
        (
            ValueError,
            "smoothing",
            lambda: ref.softmax_cross_entropy([[1.0]], [0], label_smoothing=2),
        ),
        (
            ValueError,
            "class_w",
            lambda: ref.softmax_cross_entropy([[1.0]], [0], class_weight=[1, 2]),
        ),
        (
            ValueError,
            "sample_w",
            lambda: ref.softmax_cross_entropy([[1.0]], [0], sample_weight=1.0),
        ),
        (
            ValueError,
            "dloss",
            lambda: ref.softmax_cross_entropy_backward([1.0, 1.0], [[1.0]], [0]),
        ),
    ],
)
def test_errors(error, message, call):
    with pytest.raises(error, match=message):
        call()
