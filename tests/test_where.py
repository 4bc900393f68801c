"""`where=` of softmax, log_softmax and logsumexp: what it masks is never seen.

A masked entry counts as -inf: it gives 0, or -inf, and nothing to the row. But unlike a -inf, it
may be NaN, and a row that has nothing else is no accident.
"""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastbp
from fastbp import reference
from fastbp.testing import OPS, Arguments
from fastbp.testing.check import error_of_reference

inf, nan = np.inf, np.nan
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
# What stands where nothing may be seen; of logsumexp, in a row of which nothing is.
MASKED = {"softmax": 0, "log_softmax": -inf, "logsumexp": -inf}
# Up to 32 float32 and 16 float64 there are tiles of rows without a mask, then vectors and tails.
WIDTHS = [1, 2, 7, 16, 17, 32, 33, 64, 65, 1000, 16_384, 16_389]

functions = pytest.mark.parametrize("name", MASKED)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
widths = pytest.mark.parametrize("n_columns", WIDTHS)


def masked_rows(dtype, n_columns, n_rows=9, seed=0):
    """Hard rows; of row 2 nothing is seen, of row 5 one entry, of row 6 everything."""
    rng = np.random.default_rng([seed, n_columns])
    x = OPS["softmax"].inputs(rng, (n_rows, n_columns), dtype).args[0]
    where = rng.random(x.shape) < 0.6
    where[2 % n_rows] = False
    where[5 % n_rows] = np.arange(n_columns) == n_columns // 2
    where[6 % n_rows] = True
    return x, where


def same_bits(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert_array_equal(actual, expected)
    assert_array_equal(np.signbit(actual), np.signbit(expected))


def check(name, x, where, result):
    """A result along the last axis; every row's seen entries are judged as a row without a mask."""
    seen = np.any(where, axis=-1)
    operation = OPS[name]
    arguments = Arguments((np.where(where, x, -inf).astype(x.dtype)[seen],))
    error = operation.measure(arguments, result[seen])
    assert error <= operation.promise + error_of_reference(x.dtype)
    same_bits(result[~seen], np.full(result[~seen].shape, MASKED[name], x.dtype))
    if result.shape == x.shape:
        same_bits(result[~where], np.full(np.sum(~where), MASKED[name], x.dtype))


# values -------------------------------------------------------------------------------------------


@widths
@dtypes
@functions
def test_entries_that_are_seen(name, dtype, n_columns):
    x, where = masked_rows(dtype, n_columns)
    result = getattr(fastbp, name)(x, where=where)
    assert result.dtype == dtype
    check(name, x, where, result)
    wide = x.astype(np.float64 if dtype == np.float32 else np.longdouble)
    exact = getattr(reference, name)(wide, where=where)
    np.testing.assert_allclose(result, exact, rtol=1e-5, atol=np.finfo(dtype).tiny)


@widths
@dtypes
@functions
def test_what_is_masked_is_never_read(name, dtype, n_columns):
    x, where = masked_rows(dtype, n_columns)
    function = getattr(fastbp, name)
    expected = function(x, where=where)
    huge = np.finfo(dtype).max
    for poison in (nan, inf, -inf, huge, -huge, 0):
        poisoned = np.where(where, x, dtype.type(poison))
        same_bits(function(poisoned, where=where), expected)


@functions
def test_a_row_of_the_entries_seen_alone(name):
    """An independent judge: each row without its masked entries."""
    x, where = masked_rows(DTYPES[1], 50)
    result = getattr(fastbp, name)(x, where=where)
    for i, (row, seen) in enumerate(zip(x, where, strict=True)):
        if seen.any():
            alone = getattr(fastbp, name)(row[seen])
            actual = result[i] if name == "logsumexp" else result[i][seen]
            np.testing.assert_allclose(actual, alone, rtol=1e-14)


@dtypes
@functions
def test_a_mask_of_nothing(name, dtype):
    """All true: as without it, but for the order of sums in short rows."""
    function = getattr(fastbp, name)
    for n_columns in (5, 33, 1000):
        x, _ = masked_rows(dtype, n_columns)
        for where in (np.ones(x.shape, bool), True):
            result = function(x, where=where)
            check(name, x, np.ones(x.shape, bool), result)
            np.testing.assert_allclose(result, function(x), rtol=4 * np.finfo(dtype).eps)
            if n_columns > 32:
                same_bits(result, function(x))
        same_bits(function(x, where=None), function(x))


@functions
def test_sixteen_bits(name):
    """Kept in 16 bits, computed in float32, rounded once."""
    for n_columns in (5, 100):
        x, where = masked_rows(DTYPES[0], n_columns)
        half = np.clip(x, -6e4, 6e4).astype(np.float16)
        half[~where] = nan
        result = getattr(fastbp, name)(half, where=where)
        expected = getattr(fastbp, name)(half.astype(np.float32), where=where)
        same_bits(result, expected.astype(np.float16))


def test_beside_scipy():
    special = pytest.importorskip("scipy.special")
    x, where = masked_rows(DTYPES[1], 40)
    x, where = x[[0, 1, 3, 4, 5, 6]], where[[0, 1, 3, 4, 5, 6]]
    filled = np.where(where, x, -inf)
    expected = special.softmax(filled, axis=-1)
    np.testing.assert_allclose(fastbp.softmax(x, where=where), expected, rtol=1e-11, atol=1e-300)
    expected = special.log_softmax(filled, axis=-1)
    # (SciPy rounds log(1 + s) of confident rows.)
    np.testing.assert_allclose(fastbp.log_softmax(x, where=where), expected, rtol=1e-12, atol=1e-15)
    expected = special.logsumexp(x, axis=-1, b=where)
    np.testing.assert_allclose(fastbp.logsumexp(x, where=where), expected, rtol=1e-12)


def test_gradients_beside_torch():
    """What is masked has probability 0, so softmax_backward needs no mask."""
    torch = pytest.importorskip("torch")
    x, where = masked_rows(DTYPES[1], 40)
    x, where = x[[0, 1, 3, 4, 5, 6]], where[[0, 1, 3, 4, 5, 6]]
    dy = np.random.default_rng(0).standard_normal(x.shape)
    leaf = torch.tensor(x, requires_grad=True)
    y = torch.softmax(leaf.masked_fill(torch.tensor(~where), -inf), -1)
    y.backward(torch.tensor(dy))
    result = fastbp.softmax(x, where=where)
    np.testing.assert_allclose(result, y.detach().numpy(), rtol=1e-11, atol=1e-300)
    dx = fastbp.softmax_backward(dy, result)
    np.testing.assert_allclose(dx, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)
    assert_array_equal(dx[~where], 0)


# special values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_columns", [2, 16, 17, 33, 70, 5000])
@dtypes
@functions
def test_special_values_that_are_seen(name, dtype, n_columns):
    """They are what they are without a mask, in the entries that are seen of their own row."""
    x, where = masked_rows(dtype, n_columns)
    where[3] = np.arange(n_columns) % 2 == 1
    function = getattr(fastbp, name)
    others = [i for i in range(len(x)) if i != 3]
    before = function(x, where=where)[others]
    minus = dict.fromkeys(range(1, n_columns, 2), -inf)
    for values, whole in (
        ({1: nan}, nan),
        ({n_columns - 1 - n_columns % 2: nan}, nan),
        ({1: nan, 0: inf}, nan),
        ({1: inf}, inf if name == "logsumexp" else nan),
        ({0: nan, **minus}, -inf if name == "logsumexp" else nan),
    ):
        special = x.copy()
        for column, value in values.items():
            special[3, column] = value
        result = function(special, where=where)
        same_bits(result[others], before)
        expected = np.asarray(whole, dtype)
        if name != "logsumexp":
            expected = np.where(where[3], expected, dtype.type(MASKED[name]))
        assert_array_equal(result[3], expected)
        exact = getattr(reference, name)(special, where=where)
        assert_array_equal(np.isnan(result), np.isnan(exact))
        assert_array_equal(np.isinf(result), np.isinf(exact))
    if n_columns > 2:  # a -inf among numbers
        special = x.copy()
        special[3, 1] = -inf
        check(name, special, where, function(special, where=where))


@dtypes
@functions
def test_no_entries_at_all(name, dtype):
    function = getattr(fastbp, name)
    for shape in [(0, 3), (3, 0), (0, 0), (2, 0, 3), (0,)]:
        x = np.empty(shape, dtype)
        for where in (True, False, np.ones(shape, bool)):
            same_bits(function(x, where=where), function(x))


@dtypes
def test_a_mask_of_everything(dtype):
    for n_columns in (1, 3, 40):
        x = np.full((3, n_columns), nan, dtype)
        for where in (False, np.zeros(n_columns, bool), np.zeros((3, 1), bool)):
            same_bits(fastbp.softmax(x, where=where), np.zeros_like(x))
            same_bits(fastbp.log_softmax(x, where=where), np.full_like(x, -inf))
            same_bits(fastbp.logsumexp(x, where=where), np.full(3, -inf, dtype))


# forms of the mask --------------------------------------------------------------------------------

FORMS = {
    "a column each": lambda rng, shape: rng.random(shape[-1]) < 0.5,
    "one row": lambda rng, shape: rng.random((1, shape[-1])) < 0.5,
    "a row each": lambda rng, shape: rng.random((shape[-2], 1)) < 0.5,
    "the first axis": lambda rng, shape: rng.random((shape[0], 1, 1)[: len(shape)]) < 0.5,
    "a list": lambda rng, shape: (rng.random(shape[-1]) < 0.5).tolist(),
    "true": lambda rng, shape: True,
    "false": lambda rng, shape: np.False_,
    "0-d": lambda rng, shape: np.array(True),
    "Fortran": lambda rng, shape: np.asfortranarray(rng.random(shape) < 0.5),
    "reversed": lambda rng, shape: (rng.random(shape) < 0.5)[..., ::-1],
    "every third": lambda rng, shape: (rng.random((*shape[:-1], 3 * shape[-1])) < 0.5)[..., ::3],
    "a byte off": lambda rng, shape: (rng.random((*shape[:-1], shape[-1] + 1)) < 0.5)[..., 1:],
    "bits of a matrix": lambda rng, shape: rng.integers(2, size=shape).astype("u1").view(bool),
}


@pytest.mark.parametrize("form", FORMS)
@functions
def test_forms_of_masks(name, form):
    """Whatever broadcasts to x is as the whole mask, along any axis."""
    function, rng = getattr(fastbp, name), np.random.default_rng(0)
    for dtype, shape in itertools.product(DTYPES, [(6, 7), (4, 70), (2, 3, 35)]):
        x = OPS["softmax"].inputs(rng, (shape[0], int(np.prod(shape[1:]))), dtype).args[0]
        x = x.reshape(shape)
        where = FORMS[form](rng, shape)
        whole = np.broadcast_to(where, shape).copy()
        before = np.array(where)
        axes = [-1, 0, None, (0, 1), (1, 0), (-1,)] + ([1, (0, 2), (-1, 1)] * (len(shape) > 2))
        for axis in axes:
            result = function(x, axis, where=where)
            same_bits(result, function(x, axis, where=whole))
            exact = getattr(reference, name)(x, axis, where=whole)
            assert np.shape(result) == np.shape(exact)
            np.testing.assert_allclose(result, exact, rtol=1e-4, atol=1e-30)
        assert_array_equal(where, before)
        if name == "logsumexp":
            kept = function(x, 0, where=where, keepdims=True)
            same_bits(kept, function(x, 0, where=where)[None])


@functions
def test_a_single_number(name):
    for where, expected in ((True, fastbp.softmax(3.0, None)), (False, 0.0)):
        same_bits(fastbp.softmax(3.0, None, where=where), expected)
    same_bits(fastbp.logsumexp(3.0, None, where=True), 3.0)
    assert fastbp.logsumexp(3.0, None, where=False) == -inf


# out and layouts of x -----------------------------------------------------------------------------


def apart(a, step=3):
    """Every third column of an array that is NaN elsewhere."""
    wide = np.full((*a.shape[:-1], step * a.shape[-1] + 1), nan, a.dtype)
    view = wide[..., 1::step]
    view[...] = a
    return view


LAYOUTS = {
    "C": np.copy,
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "columns": apart,
    "one column further": lambda a: np.hstack([a[:, :1], a])[:, 1:],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@dtypes
@functions
def test_layouts_and_out(name, dtype, layout):
    function, there = getattr(fastbp, name), LAYOUTS[layout]
    for n_columns in (5, 16, 100, 3000):
        x, where = masked_rows(dtype, n_columns)
        expected = function(x, where=where)
        before = where.copy()
        same_bits(function(there(x), where=where), expected)
        same_bits(function(there(x), where=np.asfortranarray(where)), expected)
        if name == "logsumexp":
            out = np.full(2 * len(x), nan, dtype)[::2]
            assert function(there(x), where=where, out=out) is out
            same_bits(out, expected)
        else:
            out = there(np.full(x.shape, nan, dtype))
            assert function(x, where=where, out=out) is out
            same_bits(out, expected)
            out = there(x)
            assert function(out, where=where, out=out) is out
            same_bits(out, expected)
            turned = there(x).T
            assert function(turned, 0, where=where.T, out=turned) is turned
            same_bits(turned.T, expected)
        assert_array_equal(where, before)


def test_out_may_not_be_the_mask():
    base = np.zeros((4, 8), np.float32)
    where = base.view(bool)[:, :8]
    with pytest.raises(ValueError, match="out overlaps where"):
        fastbp.softmax(np.ones((4, 8), np.float32), where=where, out=base)
    assert_array_equal(base, 0)


# bits ---------------------------------------------------------------------------------------------


@dtypes
@functions
def test_a_row_does_not_depend_on_its_batch(name, dtype):
    for n_columns in (1, 5, 16, 32, 33, 100, 4097):
        x, where = masked_rows(dtype, n_columns, 40)
        function = getattr(fastbp, name)
        whole = function(x, where=where)
        for rows in ([3], [39], [0, 1], [7, 3, 3], list(range(39, -1, -1))):
            same_bits(function(x[rows], where=where[rows]), whole[rows])


@pytest.mark.parametrize("shape", [(40, 1000), (3300, 10), (3, 20_011), (1, 1)])
@functions
def test_number_of_threads_does_not_matter(name, shape, monkeypatch):
    numba = pytest.importorskip("numba")
    from fastbp.cpu import run

    most, before = numba.config.NUMBA_NUM_THREADS, numba.get_num_threads()
    for dtype in DTYPES:
        x, where = masked_rows(dtype, shape[1], shape[0])
        monkeypatch.setattr(run, "PARALLEL_FROM", 10**12)
        expected = getattr(fastbp, name)(x, where=where)
        monkeypatch.setattr(run, "PARALLEL_FROM", 0)
        try:
            for n in range(1, min(most, 3) + 1):
                numba.set_num_threads(n)
                same_bits(getattr(fastbp, name)(x, where=where), expected)
        finally:
            numba.set_num_threads(before)


DIGEST = """
import hashlib, numpy as np, fastbp
digest, rng = hashlib.sha256(), np.random.default_rng(0)
for dtype in ("f4", "f8"):
    for shape in ((40, 1000), (3300, 10), (3, 20_011)):
        x, where = rng.standard_normal(shape).astype(dtype), rng.random(shape) < 0.5
        for function in (fastbp.softmax, fastbp.log_softmax, fastbp.logsumexp):
            digest.update(function(x, where=where).tobytes())
print(digest.hexdigest())
"""


def test_three_threads_give_the_bits_of_one():
    found = set()
    for n in (1, 3):
        process = subprocess.run(
            [sys.executable, "-W", "error", "-c", DIGEST], check=True, capture_output=True,
            text=True, env={**os.environ, "NUMBA_NUM_THREADS": str(n)},
        )  # fmt: skip
        found.add(process.stdout)
    assert len(found) == 1


# errors -------------------------------------------------------------------------------------------


@functions
def test_errors_say_what_and_why(name):
    x = np.ones((2, 3), np.float32)
    out = np.full(2 if name == "logsumexp" else (2, 3), 7, np.float32)
    function = getattr(fastbp, name)
    for where, error, words in (
        (np.ones((2, 3), int), TypeError, ("where", "int64", "bool")),
        (np.ones((2, 3)), TypeError, ("where", "float64", "bool")),
        ([1, 0, 1], TypeError, ("where", "int64", "bool")),
        (1, TypeError, ("where", "bool")),
        ("all", TypeError, ("where", "<U3", "bool")),
        (np.array([None]), TypeError, ("where", "object", "bool")),
        (np.ones(2, bool), ValueError, ("where", "(2,)", "(2, 3)")),
        (np.ones((3, 2), bool), ValueError, ("where", "(3, 2)", "(2, 3)")),
        (np.ones((1, 2, 3), bool), ValueError, ("where", "(1, 2, 3)", "(2, 3)")),
        (np.ones((2, 0), bool), ValueError, ("where", "(2, 0)", "(2, 3)")),
        ([[True], [True, False]], ValueError, ("where",)),
    ):
        with pytest.raises(error) as caught:
            function(x, where=where, out=out)
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    assert_array_equal(out, 7)
    assert_array_equal(x, 1)
    with pytest.raises(TypeError, match="positional"):
        function(x, -1, np.ones((2, 3), bool))
