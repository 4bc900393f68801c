"""What the tests of losses of elements share."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastbp
from fastbp.testing.element_losses import probabilities_of_elements

precisions = pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (np.float32, np.float64),
        pytest.param(
            np.float64,
            np.longdouble,
            marks=pytest.mark.skipif(
                np.finfo(np.longdouble).eps >= np.finfo(np.float64).eps,
                reason="long double is no wider than float64 here",
            ),
        ),
    ],
    ids=["float32", "float64"],
)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
reductions = pytest.mark.parametrize("reduction", ["none", "sum", "mean"])

# loss -> its arguments' names
ELEMENTWISE = {
    "sigmoid_cross_entropy": ("logits", "targets"),
    "squared_error": ("pred", "target"),
    "binary_cross_entropy": ("probs", "targets"),
}
WITH_GRAD = ("sigmoid_cross_entropy", "squared_error")
names = pytest.mark.parametrize("name", ELEMENTWISE)


def inputs_of(name, shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if name == "binary_cross_entropy":
        x = probabilities_of_elements(rng, shape, np.dtype(dtype))
    else:
        x = (8 * rng.standard_normal(shape)).astype(dtype)
    t = rng.random(shape)
    return x, np.where(rng.random(shape) < 0.5, np.round(t), t).astype(dtype)


def gradient_of(name, x, t, dloss=1.0, **options):
    return getattr(fastbp, f"{name}_backward")(dloss, x, t, **options)


def assert_same_bits(actual, expected):
    assert actual.dtype == expected.dtype
    assert_array_equal(actual, expected)
    assert_array_equal(np.signbit(actual) & (actual == 0), np.signbit(expected) & (expected == 0))
