"""Sparse probabilities as targets: (indices, weights) of a few classes of each row.

They are the probabilities of all classes, those of an index met twice added, and judged as these.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from options import (
    CAPPED,
    F32,
    F64,
    KINDS,
    N_ROWS,
    TRANSFORMS,
    WIDTHS,
    backward,
    dense,
    each,
    forward,
    judged,
    nan,
    rows_of,
    same_bits,
    transforms,
    with_grad,
)

from fastbp import reference

X = np.array([[1, 2, 3], [4, 5, 7]], F32)
INDICES, WEIGHTS = np.array([[0, 2], [1, 1]]), np.array([[0.25, 0.5], [0.5, 0.25]], F32)
EVERY_ROW = np.ones(N_ROWS, bool)


def pairs(k, n_columns, dtype=F32, seed=0):
    """Logits, and k pairs for each row."""
    rng = np.random.default_rng([seed, k, n_columns])
    x, _ = rows_of("sparse", n_columns, dtype)
    indices = rng.integers(n_columns, size=(N_ROWS, k))
    weights = rng.random((N_ROWS, k)) * (rng.random((N_ROWS, k)) < 0.8)
    return x, (indices, weights.astype(dtype))


def check(x, targets, options):
    """Against the reference, which is told the probabilities of all classes."""
    options = {**options, "reduction": "none"}
    loss, dlogits = with_grad(x, targets, **options)
    probabilities = dense(targets, x.shape[1], x.dtype)
    judged("softmax_cross_entropy", loss, (x, probabilities), options, EVERY_ROW)
    ones = np.ones(N_ROWS, x.dtype)
    judged("softmax_cross_entropy_backward", dlogits, (ones, x, probabilities), options, EVERY_ROW)


# what they mean -----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 2, 5, 100])
@transforms
def test_they_are_probabilities(options, k):
    """None, one, and more of them than there are classes, when each is named many times."""
    for n_columns in WIDTHS:
        x, (indices, weights) = pairs(k, n_columns)
        weights = np.round(weights * 256) / 256  # so that sums of them are exact
        check(x, (indices, weights), options)


@pytest.mark.parametrize("k", [0, 1, 5])
def test_they_are_probabilities_in_float64(k):
    for n_columns in WIDTHS:
        check(*pairs(k, n_columns, F64), {})


def test_pairs_in_any_order():
    """Duplicates add, and pairs of weight 0 are nothing."""
    options = {"reduction": "none", **TRANSFORMS["z"]}
    for n_columns in WIDTHS:
        x, (indices, weights) = pairs(5, n_columns)
        once = with_grad(x, (indices, weights), **options)
        nothing = np.zeros_like(weights)
        for i, w in (
            (indices[:, ::-1], weights[:, ::-1]),
            (np.repeat(indices, 2, 1), np.repeat(weights / 2, 2, 1)),
            (np.hstack([indices[:, ::-1], indices]), np.hstack([nothing, weights])),
        ):
            loss, dlogits = with_grad(x, (i, w), **options)
            assert_allclose(loss, once[0], rtol=1e-6)
            assert_allclose(dlogits, once[1], rtol=1e-5, atol=1e-7)


@transforms
def test_one_pair_is_a_label(options):
    """A weight of 1 for one class: what its label costs, but for the weights of the mean."""
    for n_columns in WIDTHS:
        x, labels = rows_of("labels", n_columns)
        targets = labels[:, None], np.ones((N_ROWS, 1), F32)
        result = with_grad(x, targets, **options)
        expected = with_grad(x, labels, **options)
        assert_allclose(result[0], expected[0], rtol=1e-6)
        assert_allclose(result[1], expected[1], rtol=1e-5, atol=1e-37)


def test_no_pairs():
    """A loss of nothing, unless smoothing gives every class a share."""
    for n_columns in WIDTHS:
        x, targets = pairs(0, n_columns)
        loss, dlogits = with_grad(x, targets, reduction="none")
        same_bits(loss, np.zeros(N_ROWS, F32))
        assert_array_equal(dlogits, 0)
        loss = forward(x, targets, label_smoothing=0.3)
        exact = reference.softmax_cross_entropy(x, np.zeros_like(x), label_smoothing=0.3)
        assert_allclose(loss, exact, rtol=1e-6)
    x[:] = nan
    assert np.isnan(with_grad(x, targets, reduction="none")[0]).all()


def test_weights_of_any_sign_and_size():
    """They need not be probabilities; NaN stays in its row."""
    x, (indices, weights) = pairs(3, 7)
    weights[:, 0], weights[1, 1], weights[3] = -0.5, nan, 1e30
    given = {"reduction": "none"}
    loss, dlogits = with_grad(x, (indices, weights), **given)
    exact = reference.softmax_cross_entropy_with_grad(x, (indices, weights), **given)
    assert_allclose(loss, exact[0], rtol=1e-5)
    assert_array_equal(np.isnan(dlogits), np.isnan(exact[1]))
    assert not np.isnan(dlogits[2:]).any()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_sure_rows_keep_their_digits(kind):
    """One-hot probabilities cost what their label does, and so does the z-loss's little part."""
    x = np.float32([[20, 0, 0], [0, 45, 0], [1, 2, 60]])
    labels = np.array([0, 1, 2])
    targets = np.eye(3, dtype=F32)
    if kind == "sparse":
        halves = np.float32([[0.5, 0, 0.5], [1, 0, 0], [0.25, 0.5, 0.25]])
        targets = (np.array([[0, 1, 0], [1, 1, 0], [2, 2, 2]]), halves)
    for options in ({}, {"z_loss": 0.5}, {"z_loss": 1e-8, "temperature": 2}):
        options["reduction"] = "none"
        loss, dlogits = with_grad(x, targets, **options)
        for same in (labels, targets):
            exact = reference.softmax_cross_entropy_with_grad(x, same, **options)
            assert_allclose(loss, exact[0], rtol=1e-6)
            assert_allclose(dlogits, exact[1], rtol=4e-6)
    loss, dlogits = with_grad(x[:1], each(lambda a: a[:1], targets))
    assert_allclose(loss, 4.122307e-09, rtol=1e-6)
    assert_allclose(dlogits, [[-4.122307e-09, 2.0611537e-09, 2.0611537e-09]], rtol=1e-6)


# forms --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["i1", "u2", ">i4", "u8"])
def test_indices_of_any_width(kind):
    for n_columns in WIDTHS:
        x, (indices, weights) = pairs(3, n_columns)
        expected = with_grad(x, (indices, weights))
        same_bits(with_grad(x, (indices.astype(kind), weights)), expected)


def apart(a):
    wide = np.full((*a.shape[:-1], 3 * a.shape[-1] + 1), 99, a.dtype)
    view = wide[..., 1::3]
    view[...] = a
    return view


def unaligned(a):
    buffer = np.zeros(a.nbytes + 1, np.uint8)
    view = np.frombuffer(buffer, a.dtype, a.size, 1).reshape(a.shape)
    view[...] = a
    return view


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every third column": apart,
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "unaligned": unaligned,
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    there = LAYOUTS[layout]
    for n_columns in WIDTHS:
        x, targets = pairs(3, n_columns)
        for i, w in ((there, there), (there, np.array), (np.array, there)):
            given = i(targets[0]), w(targets[1])
            before = each(np.array, given)
            same_bits(with_grad(x, given), with_grad(x, before))
            assert_array_equal(given[0], before[0])
            assert_array_equal(given[1], before[1])


def test_shapes():
    """As the labels are shaped, with a last axis more: of a single row, of several axes."""
    expected = with_grad(X, (INDICES, WEIGHTS), reduction="none")
    for i in range(2):
        loss, dlogits = with_grad(X[i], (INDICES[i], WEIGHTS[i]))
        same_bits((loss, dlogits), (expected[0][i], expected[1][i]))
    turned = with_grad(np.ascontiguousarray(X.T), (INDICES, WEIGHTS), axis=0, reduction="none")
    same_bits((turned[0], turned[1].T), expected)
    x, targets = pairs(4, 70)
    cube = each(lambda a: a.reshape(4, 5, -1), targets)
    loss, dlogits = with_grad(x.reshape(4, 5, 70).transpose(0, 2, 1), cube, axis=1)
    expected = with_grad(x, targets)
    same_bits((loss, dlogits.transpose(0, 2, 1).reshape(20, 70)), expected)


def test_kinds_of_arrays():
    expected = with_grad(X, (INDICES, WEIGHTS))
    same_bits(with_grad(X, (INDICES.tolist(), WEIGHTS.tolist())), expected)
    same_bits(with_grad(X, (INDICES, WEIGHTS.astype(F64))), expected)
    same_bits(with_grad(X, (INDICES, WEIGHTS.astype(np.float16))), expected)
    same_bits(with_grad(X, (INDICES, WEIGHTS.astype(">f4"))), expected)
    wide = with_grad(X.astype(F64), (INDICES, WEIGHTS))
    assert wide[1].dtype == F64
    same_bits(with_grad(X.tolist(), (INDICES, WEIGHTS)), wide)


def test_tuples_that_are_not_sparse():
    """Of two labels, and of two rows of probabilities."""
    same_bits(with_grad(X, (0, 1)), with_grad(X, np.array([0, 1])))
    cube = np.stack([X, X[::-1]])
    same_bits(with_grad(cube, ([0, 1], [1, 2])), with_grad(cube, np.array([[0, 1], [1, 2]])))
    rows = ([0.5, 0.5, 0.0], [0.0, 0.25, 0.75])
    same_bits(with_grad(X, rows), with_grad(X, np.array(rows)))
    same_bits(with_grad(X, [(0.5, 0.5, 0.0), (0, 0.25, 0.75)]), with_grad(X, np.array(rows)))
    same_bits(with_grad(X[:1], ((1, 0, 0.0),)), with_grad(X[:1], np.array([[1.0, 0, 0]])))


# errors -------------------------------------------------------------------------------------------

WRONG = {
    "indices of other rows": ((INDICES[:1], WEIGHTS[:1]), ValueError, "targets (1, 2) (2, 'k')"),
    "labels as indices": ((INDICES[0], WEIGHTS[0]), ValueError, "targets (2,) (2, 'k')"),
    "indices of 3 axes": ((INDICES[None], WEIGHTS[None]), ValueError, "targets (1, 2, 2)"),
    "fewer weights": ((INDICES, WEIGHTS[:, :1]), ValueError, "targets weights (2, 1) (2, 2)"),
    "weights of rows": ((INDICES, WEIGHTS[0]), ValueError, "targets weights (2,) (2, 2)"),
    "float indices": ((INDICES * 1.0, WEIGHTS), ValueError, "targets (2, 2, 2) (2, 3)"),
    "integers twice": ((INDICES, INDICES), ValueError, "targets (2, 2, 2) (2,)"),
    "a list": ([INDICES, WEIGHTS], ValueError, "targets (2, 2, 2) (2, 3)"),
    "three": ((INDICES, WEIGHTS, WEIGHTS), ValueError, "targets (3, 2, 2) (2, 3)"),
    "complex weights": ((INDICES, WEIGHTS * 1j), TypeError, "targets complex"),
    "long weights": ((INDICES, WEIGHTS.astype("g")), TypeError, "targets"),
    "words": ((INDICES, [["a", "b"]] * 2), TypeError, "targets"),
    "ragged": (([[0, 1], [1]], WEIGHTS), ValueError, "targets"),
    "an ignored index": ((INDICES, WEIGHTS), ValueError, "ignore_index"),
    "an index too large": ((INDICES + 1, WEIGHTS), IndexError, "targets 3 row 0"),
    "a negative index": ((INDICES - [[0, 0], [0, 2]], WEIGHTS), IndexError, "targets -1 row 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_say_what_and_why(case):
    targets, error, words = WRONG[case]
    options = {"ignore_index": 0} if "ignored" in case else {}
    out = np.full((2, 3), 7, F32)
    for call in (
        lambda: forward(X, targets, **options),
        lambda: with_grad(X, targets, **options, out=out),
        lambda: backward(1.0, X, targets, **options, out=out),
    ):
        with pytest.raises(error) as caught:
            call()
        message = str(caught.value)
        for shape in [words[words.index("(") :]] if "(" in words else []:
            assert all(part in message for part in shape.replace(") (", ")|(").split("|")), message
        assert all(word in message for word in words.partition("(")[0].split()), message
        assert len(message.splitlines()) == 1
    assert_array_equal(out, 7)


def test_out_may_not_be_the_weights():
    for out, targets in (
        (np.zeros((2, 3), F32), lambda out: (np.zeros((2, 3), int), out)),
        (np.zeros((2, 3), F64), lambda out: (out.view(np.int64), np.zeros((2, 3)))),
    ):
        with pytest.raises(ValueError, match="out overlaps targets"):
            with_grad(X.astype(out.dtype), targets(out), out=out)
        assert_array_equal(out, 0)


@pytest.mark.parametrize("place", [0, 1, 4])
@pytest.mark.parametrize("options", [{}, CAPPED], ids=["plain", "cap,T,z"])
def test_bad_indices(options, place):
    """A row with one of them, whatever its weight: NaN, or as if it were not there."""
    for n_columns in WIDTHS:
        x, (indices, weights) = pairs(5, n_columns)
        rows, good = [3, 8], np.delete(np.arange(N_ROWS), [3, 8])
        few = with_grad(x[good], (indices[good], weights[good]), **options)
        apart = with_grad(x[good], (indices[good], weights[good]), **options, reduction="none")
        for bad in ((n_columns, -1), (2**62, -(2**63))):
            indices[rows, place], weights[rows, place] = bad, 0
            with pytest.raises(IndexError, match=f"{bad[0]} at row 3;"):
                with_grad(x, (indices, weights), **options)
            for policy, value in (("nan", nan), ("ignore", 0)):
                given = {**options, "on_bad_label": policy}
                loss, dlogits = with_grad(x, (indices, weights), **given)
                same_bits(dlogits[good], few[1])
                assert_array_equal(dlogits[rows], value)
                if policy == "ignore":
                    assert_allclose(loss, few[0], rtol=1e-6)
                else:
                    assert np.isnan(loss)
                loss, dlogits = with_grad(x, (indices, weights), **given, reduction="none")
                same_bits((loss[good], dlogits[good]), apart)
                assert_array_equal(loss[rows], value)
                assert_array_equal(dlogits[rows], value)
