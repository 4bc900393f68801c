"""Numbers of 16 bits in tests: how they are made, rounded and compared."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastbp.testing import OPS
from fastbp.testing.errors import flat

F32 = np.dtype(np.float32)


def half(name):
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


def widened(value):
    """Numbers of 16 bits in float32; other arguments as they are."""
    if isinstance(value, tuple):
        return tuple(map(widened, value))
    if isinstance(value, np.ndarray | np.generic) and value.dtype.name in ("float16", "bfloat16"):
        return value.astype(F32)
    return value


def rounded(value, dtype):
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(dtype)


def bits(array):
    """Of numbers of 16 or 32 bits; every NaN counts as the same."""
    array = np.asarray(array)
    integers = np.atleast_1d(np.ascontiguousarray(array)).view(f"u{array.itemsize}")
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        is_nan = np.isnan(array)
    return np.where(is_nan, 2 ** (8 * array.itemsize) - 1, integers.reshape(array.shape))


def assert_same_bits(actual, expected):
    for a, e in zip(flat(actual), flat(expected), strict=True):
        assert a.dtype == e.dtype
        assert_array_equal(bits(a), bits(e))


def arguments_for(name, shape, dtype):
    return OPS[name].inputs(np.random.default_rng(list(shape)), shape, dtype)
