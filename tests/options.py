"""What tests of the losses' options share: rows, targets of each kind, and a strict judge.

It holds no tests itself.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastbp
from fastbp import reference
from fastbp.testing import OPS, Arguments, inputs
from fastbp.testing.check import error_of_reference

inf, nan = np.inf, np.nan
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
dtypes = pytest.mark.parametrize("dtype", [F32, F64], ids=str)

forward = fastbp.softmax_cross_entropy
with_grad = fastbp.softmax_cross_entropy_with_grad
backward = fastbp.softmax_cross_entropy_backward

KINDS = ("labels", "probabilities", "sparse")
kinds = pytest.mark.parametrize("kind", KINDS)
# In a tile of short rows, and in vectors with a tail.
WIDTHS = (7, 70)
N_ROWS = 20

# Each is compiled for each kind of targets, so they are few; the tests below share their kernels.
CAPPED = {"softcap": 15.0, "temperature": 0.6, "z_loss": 0.02}
TRANSFORMS = {
    "none": {},
    "z": {"z_loss": 0.02},
    "T,z": {"temperature": 2.0, "z_loss": 0.02},
    "cap,T,z": CAPPED,
}
transforms = pytest.mark.parametrize("options", TRANSFORMS.values(), ids=TRANSFORMS)


def rows_of(kind, n_columns, dtype=F32, seed=3):
    rng = np.random.default_rng([seed, n_columns])
    x = OPS["softmax"].inputs(rng, (N_ROWS, n_columns), dtype).args[0]
    return x, targets_of(kind, rng, x)


def same_bits(actual, expected):
    for pair in zip(flat(actual), flat(expected), strict=True):
        a, e = map(np.asarray, pair)
        assert a.dtype == e.dtype
        assert_array_equal(a, e)
        assert_array_equal(np.signbit(a) & (a == 0), np.signbit(e) & (e == 0))


def flat(result):
    return result if isinstance(result, tuple) else (result,)


def each(function, targets):
    """`function` of targets, or of both arrays of sparse ones."""
    return tuple(map(function, targets)) if isinstance(targets, tuple) else function(targets)


def dense(targets, n_columns, dtype):
    """Sparse targets as probabilities of all classes."""
    indices, weights = targets
    t = np.zeros((len(indices), n_columns), dtype)
    np.add.at(t, (np.arange(len(indices))[:, None], indices), weights)
    return t


def targets_of(kind, rng, x):
    make = {"labels": inputs.labels, "probabilities": inputs.probabilities,
            "sparse": inputs.sparse_probabilities}  # fmt: skip
    return make[kind](rng, x)


def along(axis):
    """Rows of numbers, or numbers of rows, as arrays of three axes; and the way back."""
    return (
        lambda a: np.moveaxis(a.reshape(4, 5, *a.shape[1:]), -1, axis),
        lambda a: a.reshape(4, 5, *a.shape[1:]),
        lambda a: np.moveaxis(a, axis, -1).reshape(N_ROWS, -1),
    )


def judged(name, result, arguments, options, used):
    """The error of what concerns the rows that are used, as if there were no others."""
    operation = OPS[f"{name}[labels]"]
    few = {k: v for k, v in options.items() if v is not None and k not in ("ignore_index", "empty")}
    if "sample_weight" in few:
        few["sample_weight"] = few["sample_weight"][used]
    taken = [each(lambda a: a[used] if np.ndim(a) else a, a) for a in arguments]
    error = operation.measure(Arguments(tuple(taken), few), result)
    capped = "softcap" in few
    limit = (6 if capped else 3.5) if name.endswith("backward") else (2.5 if capped else 2)
    assert error <= limit + error_of_reference(arguments[-2].dtype)


def check_special(x, targets, options):
    """As the reference says: NaN and inf where it has them, all other numbers close."""
    for reduction in ("none", "mean"):
        given = {**options, "reduction": reduction}
        result = with_grad(x, targets, **given)
        exact = reference.softmax_cross_entropy_with_grad(x, targets, **given)
        with np.errstate(over="ignore"):
            exact = [np.asarray(part).astype(x.dtype) for part in exact]
        assert_allclose(result[0], exact[0], rtol=1e-5)
        # Entries are differences, which may cancel; but not below the size of their own row.
        finite = np.isfinite(exact[1])
        assert_array_equal(result[1][~finite], exact[1][~finite])
        size = np.where(finite, np.abs(exact[1]), 0)
        allowed = 1e-5 * size + 1e-6 * np.minimum(np.max(size, axis=1, keepdims=True), 1)
        assert np.all(np.abs(result[1] - exact[1])[finite] <= allowed[finite])
