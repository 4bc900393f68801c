"""Losses of elements and of probabilities: special values, shapes, kinds of input, out, errors."""

import itertools
import re

import numpy as np
import pytest
from elements import ELEMENTWISE, assert_same_bits, dtypes, gradient_of, inputs_of, names
from numpy.testing import assert_allclose, assert_array_equal

import fastbp
from fastbp import reference
from fastbp.testing.element_losses import probabilities_of_elements

inf, nan = np.inf, np.nan

# denominators -------------------------------------------------------------------------------------


def test_denominators():
    x = np.zeros((2, 3))
    log2 = np.log(2)
    for w, expected in [(2, log2), ([1, 0, 0], log2), ([[0], [5]], log2), (-1, log2)]:
        loss = fastbp.sigmoid_cross_entropy(x, x, sample_weight=w)
        assert_allclose(loss, expected, rtol=1e-15)
    # pos_weight does not enter.
    loss = fastbp.sigmoid_cross_entropy(x, x + 1, pos_weight=3)
    assert_allclose(loss, 3 * log2, rtol=1e-15)
    # One weight of 1 among many that would be lost beside it one by one.
    w = np.full(1_000_001, 1e-9, np.float32)
    w[7] = 1
    loss = fastbp.sigmoid_cross_entropy(np.zeros_like(w), np.zeros_like(w), sample_weight=w)
    assert abs(loss - np.float32(log2)) <= np.spacing(np.float32(log2))
    loss = fastbp.sigmoid_cross_entropy(x, x, sample_weight=1e308)  # their sum overflows
    assert np.isnan(loss)


@dtypes
@pytest.mark.parametrize("w", [0, [0, 0, 0], [1, -1, 0]], ids=str)
def test_no_denominator(w, dtype):
    x, t = inputs_of("sigmoid_cross_entropy", (2, 3), dtype)
    for empty, expected in (("nan", nan), ("zero", 0.0)):
        options = {"sample_weight": w, "empty": empty}
        assert_array_equal(fastbp.sigmoid_cross_entropy(x, t, **options), dtype(expected))
        loss, dlogits = fastbp.sigmoid_cross_entropy_with_grad(x, t, **options)
        assert_array_equal(loss, dtype(expected))
        assert_array_equal(dlogits, np.zeros_like(x))
        dlogits = fastbp.sigmoid_cross_entropy_backward(1.0, x, t, **options)
        assert_array_equal(dlogits, np.zeros_like(x))
    total = fastbp.sigmoid_cross_entropy(x, t, sample_weight=w, reduction="sum", empty="zero")
    exact = reference.sigmoid_cross_entropy(x, t, sample_weight=w, reduction="sum")
    assert_allclose(total, exact, rtol=1e-5)


# special values -----------------------------------------------------------------------------------

LARGE = 3e38
# logit, target, pos_weight, sample_weight: loss, gradient
SIGMOIDS = [
    (-inf, 0, 1, 1, 0, 0), (inf, 1, 1, 1, 0, 0), (-inf, 1, 1, 1, inf, -1), (inf, 0, 1, 1, inf, 1),
    (inf, 0.5, 1, 1, inf, 0.5), (-inf, 0.25, 1, 1, inf, -0.25), (-inf, 1, 3, 2, inf, -6),
    (nan, 0, 1, 1, nan, nan), (nan, 1, 1, 1, nan, nan), (0, nan, 1, 1, nan, nan),
    (inf, nan, 1, 1, nan, nan), (LARGE, 0, 1, 1, LARGE, 1), (LARGE, 1, 1, 1, 0, 0),
    (-LARGE, 1, 1, 1, LARGE, -1), (-LARGE, 0, 1, 1, 0, 0), (inf, 0, 1, 0, 0, 0),
    (-inf, 1, 1, 0, 0, 0), (-inf, 1, 0, 1, 0, 0), (-inf, 0.5, 0, 1, 0, 0), (inf, 1, 5, 1, 0, 0),
    (nan, 0, 1, 0, nan, nan), (0, 1, 0, 1, 0, 0), (-inf, 1, 0, 0, 0, 0),
]  # fmt: skip


@dtypes
@pytest.mark.parametrize(("x", "t", "p", "w", "loss", "slope"), SIGMOIDS, ids=str)
def test_special_logits(x, t, p, w, loss, slope, dtype):
    """Among other elements, in vectors and in their tails, whose bits they leave alone."""
    for n in (1, 5, 16, 70):
        xs, ts = inputs_of("sigmoid_cross_entropy", (n,), dtype)
        ps, ws = np.ones((2, n), dtype)
        options = {"pos_weight": ps, "sample_weight": ws}
        weighted = (p, w) != (1, 1)
        for given in [options] if weighted else [options, {}]:
            before = fastbp.sigmoid_cross_entropy_with_grad(xs, ts, reduction="none", **given)
            i = n // 2
            special, targets = xs.copy(), ts.copy()
            special[i], targets[i], ps[i], ws[i] = dtype(x), t, p, w
            after = fastbp.sigmoid_cross_entropy_with_grad(
                special, targets, reduction="none", **given
            )
            for a, b, expected in zip(after, before, (loss, slope), strict=True):
                assert_array_equal(a[i], dtype(expected))
                assert_array_equal(np.delete(a, i), np.delete(b, i))
                assert not (a[i] == 0 and np.signbit(a[i])) or expected == slope
            total = fastbp.sigmoid_cross_entropy(special, targets, reduction="sum", **given)
            exact = reference.sigmoid_cross_entropy(special, targets, reduction="sum", **given)
            assert_allclose(total, exact, rtol=1e-5)
            ps[i], ws[i] = 1, 1


@dtypes
def test_losses_of_nothing_lost_are_plus_zero(dtype):
    x = np.array([-inf, inf, -1000, 1000], dtype)
    t = np.array([0, 1, 0, 1], dtype)
    for w in (None, 2.0):
        loss = fastbp.sigmoid_cross_entropy(x, t, sample_weight=w, reduction="none")
        assert_array_equal(loss, np.zeros(4))
        assert not np.any(np.signbit(loss))
    p = np.array([[1, 0], [0, 1]], dtype)
    for targets in ([0, 1], p):
        loss = fastbp.cross_entropy(p, targets, reduction="none")
        assert_array_equal(loss, np.zeros(2))
        assert not np.any(np.signbit(loss))
    loss = fastbp.binary_cross_entropy(p, p, reduction="none")
    assert_array_equal(loss, np.zeros((2, 2)))
    assert not np.any(np.signbit(loss))


# p, t: loss, gradient
BINARY = [
    (0, 0, 0, 1), (1, 1, 0, -1), (0, 1, inf, -inf), (1, 0, inf, inf), (0, 0.5, inf, -inf),
    (1, 0.5, inf, inf), (-0.0, 1, inf, -inf), (-0.0, 0, 0, 1), (nan, 0, nan, nan),
    (nan, 1, nan, nan), (0.5, nan, nan, nan), (-0.5, 0.5, nan, 4 / 3), (1.5, 0.5, nan, -4 / 3),
    (0.5, 0.5, np.log(2), 0), (-1, 1, nan, 1), (2, 0, nan, -1),
]  # fmt: skip


@dtypes
@pytest.mark.parametrize(("p", "t", "loss", "slope"), BINARY, ids=str)
def test_special_probabilities(p, t, loss, slope, dtype):
    for n in (1, 5, 16, 70):
        ps, ts = inputs_of("binary_cross_entropy", (n,), dtype)
        ps[n // 2], ts[n // 2] = p, t
        actual = fastbp.binary_cross_entropy(ps, ts, reduction="none")[n // 2]
        assert_allclose(actual, loss, rtol=1e-6)
        actual = gradient_of("binary_cross_entropy", ps, ts, reduction="sum")[n // 2]
        assert_allclose(actual, slope, rtol=1e-6)
        exact = reference.binary_cross_entropy(ps, ts)
        assert_allclose(fastbp.binary_cross_entropy(ps, ts), exact, rtol=1e-6)


# p, t: loss, gradient
ROW_OF_PROBABILITIES = [
    ([0, 1], [0, 1], 0, [0, -1]), ([0, 1], [1, 0], inf, [-inf, 0]), ([0, 0.5], [0, 0], 0, [0, 0]),
    ([nan, 1], [0, 1], nan, [0, -1]), ([nan, 1], [1, 0], nan, [nan, 0]),
    ([0.5, 1], [nan, 0], nan, [nan, 0]), ([-0.0, 1], [1, 0], inf, [-inf, 0]),
    ([-1, 1], [1, 0], nan, [1, 0]), ([0.5, 2], [0, 1], -np.log(2), [0, -0.5]),
    ([inf, 1], [1, 0], -inf, [0, 0]), ([0, 0], [2, 3], inf, [-inf, -inf]),
]  # fmt: skip


@dtypes
@pytest.mark.parametrize(("p", "t", "loss", "slopes"), ROW_OF_PROBABILITIES, ids=str)
@pytest.mark.parametrize("n_columns", [2, 40, 5000])
def test_special_rows_of_probabilities(p, t, loss, slopes, n_columns, dtype):
    rng = np.random.default_rng(0)
    ps, ts = rng.uniform(0.1, 1, (2, 7, n_columns)).astype(dtype)
    ts[3] = 0
    before = fastbp.cross_entropy(ps, ts, reduction="none")
    for at in (0, n_columns - 2):
        special, targets = ps.copy(), ts.copy()
        special[3, at : at + 2], targets[3, at : at + 2] = p, t
        actual = fastbp.cross_entropy(special, targets, reduction="none")
        assert_allclose(actual[3], loss, rtol=1e-6)
        assert_array_equal(np.delete(actual, 3), np.delete(before, 3))
        dprobs = fastbp.cross_entropy_backward(1.0, special, targets, reduction="sum")
        assert_allclose(dprobs[3, at : at + 2], slopes, rtol=1e-6)
        for reduction in ("sum", "mean"):
            exact = reference.cross_entropy(special, targets, reduction=reduction)
            actual = fastbp.cross_entropy(special, targets, reduction=reduction)
            assert_allclose(actual, exact, rtol=1e-6)


@dtypes
def test_only_the_label_is_read(dtype):
    p = np.array([[nan, 0.5, -1], [0.25, inf, nan]], dtype)
    assert_allclose(fastbp.cross_entropy(p, [1, 0], reduction="none"), np.log([2, 4]), rtol=1e-6)
    dprobs = fastbp.cross_entropy_backward(1.0, p, [1, 0], reduction="sum")
    assert_array_equal(dprobs, np.array([[0, -2, 0], [-4, 0, 0]], dtype))


@dtypes
def test_what_overflows_need_not_where_it_is_scaled(dtype):
    smallest, largest = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    g = 1e-10 if dtype == np.float32 else 1e-20
    for p in (smallest, 3 * smallest):
        exact = -g / np.longdouble(p)
        dp = fastbp.cross_entropy_backward(g, np.array([[p, 0.5]]), [0])
        assert_allclose(dp[0, 0], exact.astype(dtype), rtol=1e-6)
        dp = fastbp.binary_cross_entropy_backward(g, p, 1)
        assert_allclose(dp, exact.astype(dtype), rtol=1e-6)
    dpred = fastbp.squared_error_backward(0.25, largest, -largest, half=True)
    assert dpred == largest / 2
    assert fastbp.squared_error(largest, -largest) == inf


@dtypes
def test_special_squares(dtype):
    x = np.array([inf, inf, -inf, nan, 1, 0], dtype)
    t = np.array([inf, 1, inf, 1, nan, 0], dtype)
    loss, dpred = fastbp.squared_error_with_grad(x, t, reduction="none")
    assert_array_equal(loss, np.array([nan, inf, inf, nan, nan, 0], dtype))
    assert_array_equal(dpred, np.array([nan, inf, -inf, nan, nan, 0], dtype))
    assert fastbp.squared_error(x[1:3], t[1:3]) == inf


# shapes and kinds ---------------------------------------------------------------------------------


@dtypes
@names
def test_numbers_and_empty_arrays(name, dtype):
    function, two = getattr(fastbp, name), (dtype(0.25), dtype(1))
    for reduction in ("none", "sum", "mean"):
        loss = function(*two, reduction=reduction)
        assert type(loss) is dtype
        dx = gradient_of(name, *two, reduction=reduction)
        assert type(dx) is dtype
    for shape in [(0,), (0, 3), (3, 0), (2, 0, 3)]:
        nothing = np.empty(shape, dtype)
        assert function(nothing, nothing, reduction="none").shape == shape
        assert_array_equal(function(nothing, nothing, reduction="sum"), 0)
        assert np.isnan(function(nothing, nothing))
        assert gradient_of(name, nothing, nothing).shape == shape
        assert gradient_of(name, nothing, nothing, nothing, reduction="none").shape == shape


def test_nothing_weighs_nothing():
    nothing = np.empty((0, 3))
    for w in (2.0, np.ones(3), np.ones((0, 1)), nothing):
        options = {"pos_weight": w, "sample_weight": w}
        assert np.isnan(fastbp.sigmoid_cross_entropy(nothing, nothing, **options))
        loss, dlogits = fastbp.sigmoid_cross_entropy_with_grad(
            nothing, nothing, empty="zero", **options
        )
        assert loss == 0
        assert dlogits.shape == (0, 3)


@dtypes
def test_no_rows_of_probabilities(dtype):
    for shape in [(0, 3), (0, 0)]:
        p, labels = np.empty(shape, dtype), np.empty(0, int)
        for t in (p, labels):
            assert fastbp.cross_entropy(p, t, reduction="none").shape == (0,)
            assert np.isnan(fastbp.cross_entropy(p, t))
            assert fastbp.cross_entropy(p, t, reduction="sum") == 0
            assert fastbp.cross_entropy_backward(1.0, p, t).shape == shape
    row = np.array([0.25, 0.75], dtype)
    for t in (0, np.array([1, 0], dtype)):
        assert type(fastbp.cross_entropy(row, t, reduction="none")) is dtype
        assert fastbp.cross_entropy_backward(1.0, row, t).shape == (2,)


@pytest.mark.parametrize("kind", ["?", "i1", "u8", "i4", "f2", "f8", ">f4"])
@names
def test_targets_of_any_kind(name, kind):
    x, t = inputs_of(name, (5, 7), np.float32)
    t = np.round(t)
    expected = getattr(fastbp, name)(x, t, reduction="none")
    assert_same_bits(getattr(fastbp, name)(x, t.astype(kind), reduction="none"), expected)
    assert_same_bits(gradient_of(name, x, t.astype(kind)), gradient_of(name, x, t))


@names
def test_integers_are_float64(name):
    x, t = np.array([[0, 1], [1, 1]]), [[0, 1], [1, 1]]
    expected = getattr(fastbp, name)(x.astype(float), np.array(t, float), reduction="none")
    for kind in ("i1", "u4", "i8", "?"):
        assert_same_bits(getattr(fastbp, name)(x.astype(kind), t, reduction="none"), expected)
    assert_same_bits(getattr(fastbp, name)(x.tolist(), t, reduction="none"), expected)


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4"])
def test_labels_of_any_width(kind):
    p = probabilities_of_elements(np.random.default_rng(0), (33, 10), np.dtype(np.float32))
    labels = np.arange(33) % 10
    expected = fastbp.cross_entropy(p, labels, reduction="none")
    assert_same_bits(fastbp.cross_entropy(p, labels.astype(kind), reduction="none"), expected)
    expected = fastbp.cross_entropy_backward(1.0, p, labels)
    assert_same_bits(fastbp.cross_entropy_backward(1.0, p, labels.astype(kind)), expected)


@names
def test_strides_do_not_matter(name):
    x, t = inputs_of(name, (40, 130), np.float32)
    moves = {
        "Fortran": np.asfortranarray,
        "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
        "columns": lambda a: np.repeat(a, 3, axis=1)[:, ::3],
        "one of two": lambda a: a,
    }
    for reduction in ("none", "mean"):
        expected = getattr(fastbp, name)(x, t, reduction=reduction)
        dloss = np.ones_like(x) if reduction == "none" else 1.0
        slope = gradient_of(name, x, t, dloss, reduction=reduction)
        for move, other in itertools.product(moves.values(), repeat=2):
            actual = getattr(fastbp, name)(move(x), other(t), reduction=reduction)
            assert_same_bits(actual, expected)
            out = move(np.empty_like(x))
            options = {"reduction": reduction, "out": out}
            moved = other(dloss) if np.ndim(dloss) else dloss
            assert gradient_of(name, move(x), other(t), moved, **options) is out
            assert_same_bits(out, slope)


# out ----------------------------------------------------------------------------------------------


@names
def test_out_is_the_first_input_or_apart(name):
    x, t = inputs_of(name, (6, 8), np.float32)
    first, second = ELEMENTWISE[name]
    expected = gradient_of(name, x, t)
    for target in (x.copy(), np.asfortranarray(x), x.copy()[::-1]):
        given = target.copy()
        gradient_of_given = gradient_of(name, given, t)
        assert gradient_of(name, target, t, out=target) is target
        assert_same_bits(target, gradient_of_given)
    out = np.empty_like(x)
    assert gradient_of(name, x, t, out=out) is out
    assert_same_bits(out, expected)
    wide = np.zeros((6, 9), np.float32)
    wide[:, :8] = x
    cases = [
        (x, t, {"out": t}, second), (wide[:, :8], t, {"out": wide[:, 1:]}, first),
        (x, t.view(np.int32), {"out": t}, second), (x, t[::-1], {"out": t}, second),
    ]  # fmt: skip
    for a, b, options, word in cases:
        before = a.copy(), b.copy()
        with pytest.raises(ValueError, match=f"out overlaps {word}"):
            gradient_of(name, a, b, **options)
        assert_array_equal(a, before[0])
        assert_array_equal(b, before[1])
    dloss = np.ones_like(x)
    with pytest.raises(ValueError, match="out overlaps dloss"):
        gradient_of(name, x, t, dloss, reduction="none", out=dloss)


def test_out_overlaps_no_weight():
    x, t = inputs_of("sigmoid_cross_entropy", (6, 8), np.float32)
    out = np.ones_like(x)
    for name, w in itertools.product(("pos_weight", "sample_weight"), (out, out[0], out[:, :1])):
        for function in ("with_grad", "backward"):
            arguments = (x, t) if function == "with_grad" else (1.0, x, t)
            with pytest.raises(ValueError, match=f"out overlaps {name}"):
                getattr(fastbp, f"sigmoid_cross_entropy_{function}")(
                    *arguments, **{name: w}, out=out
                )
    assert_array_equal(out, 1)


def test_out_of_probabilities():
    p = probabilities_of_elements(np.random.default_rng(0), (6, 8), np.dtype(np.float32))
    t = np.random.default_rng(1).random((6, 8)).astype(np.float32)
    for targets in (t, np.arange(6)):
        expected = fastbp.cross_entropy_backward(1.0, p, targets)
        for out in (p.copy(), np.asfortranarray(p)):
            assert fastbp.cross_entropy_backward(1.0, out, targets, out=out) is out
            assert_same_bits(out, expected)
        axis_first = np.asfortranarray(p.T)
        moved = targets.T if targets is t else targets
        fastbp.cross_entropy_backward(1.0, axis_first, moved, axis=0, out=axis_first)
        assert_same_bits(axis_first.T, expected)
    for targets in (t, t[::-1]):
        with pytest.raises(ValueError, match="out overlaps targets"):
            fastbp.cross_entropy_backward(1.0, p, targets, out=t)


# errors -------------------------------------------------------------------------------------------

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32) / 7
LABELS = np.array([0, 2])
# function, arguments, options, exception, words of the message
CASES = {
    "complex": ("squared_error", (X + 1j, X), {}, TypeError, "pred complex64 float32"),
    "object target": ("squared_error", (X, [[None] * 3] * 2), {}, TypeError, "target object"),
    "string": ("binary_cross_entropy", ("abc", 1), {}, TypeError, "probs <U3"),
    "string targets": ("sigmoid_cross_entropy", (1.0, "a"), {}, TypeError, "targets <U1"),
    "target": ("squared_error", (X, X[0]), {}, ValueError, "target (3,) (2, 3) pred"),
    "targets": ("sigmoid_cross_entropy", (X, X.T), {}, ValueError, "targets (3, 2) (2, 3) logits"),
    "labels": ("sigmoid_cross_entropy", (X, LABELS), {}, ValueError, "targets (2,) (2, 3)"),
    "number": ("binary_cross_entropy", (X, 1), {}, ValueError, "targets () (2, 3) probs"),
    "reduction": (
        "squared_error", (X, X), {"reduction": "avg"}, ValueError, "reduction 'avg' 'mean' 'none'"),
    "empty": ("sigmoid_cross_entropy", (X, X), {"empty": 0}, ValueError, "empty 0 'nan' 'zero'"),
    "pos_weight": (
        "sigmoid_cross_entropy", (X, X), {"pos_weight": [1, 2]}, ValueError,
        "pos_weight (2,) broadcasts (2, 3) logits"),
    "sample_weight": (
        "sigmoid_cross_entropy", (X, X), {"sample_weight": np.ones((1, 2, 3))}, ValueError,
        "sample_weight (1, 2, 3) broadcasts (2, 3)"),
    "complex weight": (
        "sigmoid_cross_entropy", (X, X), {"sample_weight": 1j}, TypeError,
        "sample_weight complex128"),
    "string weight": (
        "sigmoid_cross_entropy", (X, X), {"pos_weight": "2"}, TypeError, "pos_weight <U1"),
    "dloss of a mean": (
        "squared_error_backward", (X, X, X), {}, ValueError, "dloss (2, 3) () the loss"),
    "dloss of elements": (
        "sigmoid_cross_entropy_backward", (1.0, X, X), {"reduction": "none"}, ValueError,
        "dloss () (2, 3) the loss"),
    "complex dloss": ("binary_cross_entropy_backward", (1j, X, X), {}, TypeError, "dloss complex"),
    "out's shape": (
        "squared_error_with_grad", (X, X), {"out": np.empty((3, 2), np.float32)}, ValueError,
        "out (3, 2) (2, 3)"),
    "out's dtype": (
        "sigmoid_cross_entropy_with_grad", (X, X), {"out": np.empty((2, 3))}, TypeError,
        "out float64 float32"),
    "out a list": ("squared_error_with_grad", (X, X), {"out": [0]}, TypeError, "out list"),
    "axis": ("cross_entropy", (X, LABELS), {"axis": 2}, ValueError, "axis 2 -2 1 probs"),
    "axes": ("cross_entropy", (X, LABELS), {"axis": (0, 1)}, TypeError, "axis (0, 1) int"),
    "no axis": ("cross_entropy", (0.5, 0), {}, ValueError, "probs number axis"),
    "no classes": (
        "cross_entropy", (X[:, :0], X[:, :0]), {}, ValueError, "probs (2, 0) at least one class"),
    "label too large": (
        "cross_entropy", (X, [0, 3]), {}, IndexError, "targets label 3 row 1 0 to 2"),
    "label below 0": (
        "cross_entropy", (X, [-1, 0]), {}, IndexError, "targets label -1 row 0 0 to 2"),
    "huge label": (
        "cross_entropy", (X, np.array([0, 2**64 - 1], "u8")), {}, IndexError, "label row 1"),
    "label of the gradient": (
        "cross_entropy_backward", (1.0, X, [0, 3]), {}, IndexError, "targets label 3 row 1"),
    "shape of labels": ("cross_entropy", (X, [0, 1, 2]), {}, ValueError, "targets (3,) (2,)"),
    "shape of probabilities": (
        "cross_entropy", (X, X.T), {}, ValueError, "targets (3, 2) (2, 3) labels (2,)"),
    "bools": ("cross_entropy", (X, LABELS > 0), {}, TypeError, "targets bool labels probabilities"),
    "pairs": (
        "cross_entropy", (X, (LABELS[:, None], X[:, :1])), {}, TypeError, "targets pair labels"),
    "dloss of rows": (
        "cross_entropy_backward", (1.0, X, LABELS), {"reduction": "none"}, ValueError,
        "dloss () (2,) the loss"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_errors_say_what_is_wrong(case):
    name, arguments, options, exception, words = CASES[case]
    out = options.get("out", np.full((2, 3), 7, np.float32))
    if name.endswith(("_with_grad", "_backward")):
        options = {**options, "out": out}
    before = X.copy(), np.array(out)
    with pytest.raises(exception) as caught:
        getattr(fastbp, name)(*arguments, **options)
    message = str(caught.value)
    assert all(word in message for word in re.split(r" (?![^(]*\))", words)), message
    assert_array_equal(X, before[0])
    assert_array_equal(out, before[1])
