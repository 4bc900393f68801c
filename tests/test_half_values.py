"""Numbers of 16 bits: bits, special values, dtypes that differ, errors, and the tools of the table.

What every operation makes of them is in test_halves.
"""

import dataclasses
import sys

import numpy as np
import pytest
from halves import F32, arguments_for, assert_same_bits, half, rounded
from numpy.testing import assert_array_equal

import fastbp
from fastbp import reference, testing
from fastbp.__main__ import main
from fastbp.cpu import run
from fastbp.testing import OPS, check
from fastbp.testing.errors import finfo, flat, ulps

inf, nan = np.inf, np.nan


@pytest.fixture(params=["float16", "bfloat16"])
def dtype(request):
    return half(request.param)


# bits ---------------------------------------------------------------------------------------------

SEVERAL = [
    "softmax", "log_softmax", "logsumexp", "softmax_backward", "log_softmax_backward",
    "logsumexp_backward", "softmax_cross_entropy_with_grad[labels,rows]",
    "softmax_cross_entropy_with_grad[sparse,weights,label_smoothing,softcap,z_loss,rows]",
]  # fmt: skip


def by_row(arguments, rows):
    """The arguments that have a number or more for each row, with some rows of them."""
    n_rows = (
        len(arguments["logits" if "logits" in arguments else "dy"]) if len(arguments) > 1 else 0
    )

    def taken(value):
        if isinstance(value, tuple):
            return tuple(map(taken, value))
        is_of_rows = isinstance(value, np.ndarray) and len(value) == n_rows
        return value[rows] if is_of_rows or len(arguments) == 1 else value

    return {key: taken(value) for key, value in arguments.items()}


@pytest.mark.parametrize("name", SEVERAL)
def test_a_row_does_not_depend_on_its_batch(name, dtype):
    for n_columns in (2, 5, 16, 33, 65, 1000, 4097):
        named = OPS[name].named(arguments_for(name, (43, n_columns), dtype))
        whole = flat(OPS[name].function(**named))
        for rows in ([3], [42], [7, 3, 3], list(range(42, -1, -1))):
            alone = flat(OPS[name].function(**by_row(named, rows)))
            assert_same_bits(alone, tuple(part[rows] for part in whole))


def test_an_element_does_not_depend_on_its_place(dtype):
    x = arguments_for("sigmoid", (1, 70_000), dtype).args[0][0]
    whole = fastbp.sigmoid(x)
    for start, stop in [(0, 1), (5, 6), (3, 20), (1, 130), (9, 1033), (69_990, 70_000)]:
        assert_same_bits(fastbp.sigmoid(x[start:stop]), whole[start:stop])


@pytest.mark.parametrize("name", [*SEVERAL, "sigmoid", "sigmoid_cross_entropy_with_grad[hard]"])
def test_number_of_threads_does_not_matter(name, dtype, monkeypatch):
    numba = pytest.importorskip("numba")
    before = numba.get_num_threads()
    for shape in [(40, 1000), (3300, 10), (3, 20_011)]:
        arguments = arguments_for(name, shape, dtype)
        with monkeypatch.context() as patch:
            patch.setattr(run, "PARALLEL_FROM", 10**12)
            alone = OPS[name].call(arguments)
        try:
            numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
            assert_same_bits(OPS[name].call(arguments), alone)
        finally:
            numba.set_num_threads(before)


# special values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_columns", [2, 3, 17, 33, 70, 5000])
def test_special_values(n_columns, dtype):
    rng = np.random.default_rng(0)
    ordinary = rng.standard_normal((9, n_columns)).astype(dtype)
    x = ordinary.copy()
    huge = finfo(dtype).max
    x[1, 0], x[2, -1], x[3, 0], x[4], x[5] = nan, inf, -inf, -inf, -huge
    x[5, 0] = x[6, -1] = huge
    others = [0, 7, 8]
    for name in ("softmax", "log_softmax", "logsumexp"):
        function = getattr(fastbp, name)
        y = function(x)
        assert_same_bits(y, rounded(function(x.astype(F32)), dtype))
        assert_same_bits(y[others], function(ordinary)[others])
        assert np.isnan(y[1]).all()
    p = fastbp.softmax(x).astype(F32)
    assert np.isnan(p[[2, 4]]).all()
    assert_array_equal(p[[3, 5, 5, 6], [0, 0, 1, -1]], [0, 1, 0, 1])
    assert_array_equal(fastbp.logsumexp(x)[[2, 4, 5, 6]].astype(F32), [inf, -inf, huge, huge])
    label = np.zeros(9, int)
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, label, reduction="none")
    assert np.isfinite(loss[[*others, 5, 6]]).all()
    assert loss[3] == inf
    assert loss[5] == 0
    assert np.isnan(loss[[1, 2, 4]]).all()
    assert np.isnan(dlogits[[1, 2, 4]]).all()
    exact = reference.softmax_cross_entropy(x, label, reduction="none")
    np.testing.assert_allclose(loss, exact, rtol=1e-6)


def test_numbers_too_large_become_infinite():
    """As NumPy rounds; float32 sums do not overflow."""
    x = np.float16([[65504, 65504]])
    assert fastbp.logsumexp(x)[0] == 65504
    assert_array_equal(fastbp.linear(x, np.float16([[1], [1]])), inf)
    assert_array_equal(fastbp.linear(x, np.float16([[1], [-0.5]])), 32752)
    loss, dpred = fastbp.squared_error_with_grad(x, -x, reduction="none")
    assert_array_equal(loss, np.float32(131008) ** 2)
    assert_array_equal(dpred, inf)


def test_subnormal_numbers(dtype):
    smallest = dtype.type(finfo(dtype).smallest_subnormal)
    few = np.array([smallest, -smallest, 5 * smallest.astype(np.float64)], dtype)
    assert_same_bits(fastbp.log_softmax_backward(few, np.full(3, -inf, dtype)), few)
    x = np.array(np.log(3 * smallest.astype(np.float64)), dtype)
    assert 2 * smallest <= fastbp.sigmoid(x) <= 4 * smallest


def test_many_classes_that_are_nearly_alike(dtype):
    """More of them than the largest float16; PyTorch's loss of these is inf."""
    n_classes = 128_256
    x = (0.02 * np.random.default_rng(0).standard_normal((2, n_classes))).astype(dtype)
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, [5, 7], reduction="none")
    exact = reference.softmax_cross_entropy_with_grad(x, [5, 7], reduction="none")
    assert loss.dtype == F32
    np.testing.assert_allclose(loss, exact[0], rtol=1e-7)
    assert np.abs(loss - 11.76).max() < 0.1
    assert ulps(dlogits, exact[1]).max() <= 0.501
    assert_array_equal(np.isfinite(fastbp.log_softmax(x)), True)
    assert fastbp.softmax(x).astype(np.float64).sum() == pytest.approx(2, rel=0.02)


def test_a_sum_over_many_rows(dtype):
    """It is larger than the largest float16."""
    x = (10 * np.random.default_rng(0).standard_normal((20_000, 100))).astype(dtype)
    label = np.random.default_rng(1).integers(100, size=20_000)
    loss = fastbp.softmax_cross_entropy(x, label, reduction="sum")
    assert loss.dtype == F32
    assert 2e5 < loss < inf
    exact = reference.softmax_cross_entropy(x, label, reduction="sum")
    np.testing.assert_allclose(loss, exact, rtol=1e-7)


# other arguments ----------------------------------------------------------------------------------


def test_weights_keep_their_precision(dtype):
    """Weights of losses are not rounded to the logits' 16 bits."""
    rng = np.random.default_rng(0)
    x, label = arguments_for("softmax_cross_entropy[labels]", (33, 10), dtype).args
    weights = {
        "class_weight": rng.random(10, dtype=F32), "sample_weight": rng.random(33, dtype=F32)
    }  # fmt: skip
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, label, **weights)
    wide = fastbp.softmax_cross_entropy_with_grad(x.astype(F32), label, **weights)
    assert_same_bits((loss, dlogits), (wide[0], rounded(wide[1], dtype)))
    sixteen = {key: value.astype(dtype) for key, value in weights.items()}
    assert fastbp.softmax_cross_entropy(x, label, **sixteen) != loss


def test_the_first_float_decides(dtype):
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((33, 10)).astype(F32), rng.random((33, 10)).astype(F32)
    function = fastbp.softmax_cross_entropy_with_grad
    loss, dlogits = function(x, t.astype(dtype))
    assert dlogits.dtype == F32
    assert_same_bits((loss, dlogits), function(x, t.astype(dtype).astype(F32)))
    loss, dlogits = function(x.astype(dtype), t)
    assert dlogits.dtype == dtype
    assert_same_bits((loss, dlogits), function(x.astype(dtype), t.astype(dtype)))
    for dy, y, decides in ((x.astype(dtype), t, dtype), (x, t.astype(dtype), F32),
                           (x.astype(dtype), t.astype(np.float16), dtype)):  # fmt: skip
        dx = fastbp.softmax_backward(dy, y)
        assert dx.dtype == decides
        assert_same_bits(dx, fastbp.softmax_backward(dy, y.astype(decides)))
    given = np.float32(0.1)  # a gradient by a loss is a number of any precision
    dx = fastbp.softmax_cross_entropy_backward(given, x.astype(dtype), np.zeros(33, int))
    wide = fastbp.softmax_cross_entropy_backward(
        given, x.astype(dtype).astype(F32), np.zeros(33, int)
    )
    assert_same_bits(dx, rounded(wide, dtype))


def test_linear_rounds_once(dtype):
    rng = np.random.default_rng(0)
    x, w, b, dy = (
        rng.standard_normal(s).astype(F32) for s in ((3, 5, 40), (40, 7), (7,), (3, 5, 7))
    )
    small = x.astype(dtype)
    wide = small.astype(F32)
    for weight, layout in ((w, "in_out"), (w.T.copy(), "out_in")):
        y = fastbp.linear(small, weight, b, weight_layout=layout)
        assert_same_bits(y, rounded(fastbp.linear(wide, weight, b, weight_layout=layout), dtype))
        results = fastbp.linear_backward(dy.astype(dtype), small, weight, weight_layout=layout)
        exact = fastbp.linear_backward(
            dy.astype(dtype).astype(F32), wide, weight, weight_layout=layout
        )
        assert_same_bits(results, tuple(rounded(part, dtype) for part in exact))
    assert fastbp.linear(x, w.astype(dtype), b.astype(dtype)).dtype == F32


# errors -------------------------------------------------------------------------------------------

OTHERS = [
    "float8_e5m2", "float8_e4m3fn", "float8_e8m0fnu", "float6_e2m3fn", "float4_e2m1fn",
    "int4", "uint4", "int1", "uint1", "complex32", "bcomplex32",
]  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_types_are_errors(kind):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if not hasattr(ml_dtypes, kind):
        pytest.skip("this ml_dtypes has no such type")
    # What was compiled for float16 must not be taken for int1, of the same letter.
    for known in ("float16", "bfloat16"):
        fastbp.sigmoid(np.ones((2, 3), half(known)))
    other = np.zeros((2, 3)).astype(getattr(ml_dtypes, kind))
    x = np.zeros((2, 3), np.float16)
    calls = [
        lambda: fastbp.sigmoid(other),
        lambda: fastbp.softmax(other),
        lambda: fastbp.softmax_backward(x, other),
        lambda: fastbp.linear(x, other.T),
        lambda: fastbp.softmax_cross_entropy(other, [0, 1]),
        lambda: fastbp.softmax_cross_entropy(x, other),
        lambda: fastbp.softmax_cross_entropy(x, other[:, 0]),
        lambda: fastbp.softmax_cross_entropy(x, [0, 1], class_weight=other[0]),
        lambda: fastbp.squared_error(x, other),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=kind):
            call()
    with pytest.raises(TypeError, match=f"out has dtype {kind}; expected float16"):
        fastbp.sigmoid(x, out=other)


def test_out_has_the_inputs_dtype(dtype):
    x = np.ones((2, 3), dtype)
    for other in (np.float32, np.uint16, np.float64):
        with pytest.raises(TypeError, match=f"out has dtype .*expected {dtype.name}"):
            fastbp.softmax(x, out=np.ones((2, 3), other))
        with pytest.raises(TypeError, match=f"out has dtype .*expected {dtype.name}"):
            fastbp.sigmoid(x, out=np.ones((2, 3), other))


# the tools built on the table ---------------------------------------------------------------------


@pytest.fixture
def two(monkeypatch):
    """A table of two operations."""
    table = {name: OPS[name] for name in ("softmax", "softmax_cross_entropy[labels]")}
    monkeypatch.setattr(testing, "OPS", table)
    monkeypatch.setattr(check, "OPS", table)
    return table


def test_verify(dtype, two, capsys):
    rows = fastbp.verify(dtypes=[dtype.name, dtype, np.float32])
    assert [row.dtype for row in rows] == 2 * [dtype.name, dtype.name, "float32"]
    assert all(row.ok for row in rows)
    assert [row.promise for row in rows[::2]] == [0.501, 2, 2]
    assert 0.4 < rows[0].error <= 0.501
    assert main(["verify", "--dtypes", dtype.name]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["softmax", dtype.name]

    def rounded_down(x):
        y = fastbp.softmax(x.astype(F32))
        return (y.view(np.uint32) & 0xFFFF0000).view(F32).astype(x.dtype)

    two["softmax"] = dataclasses.replace(OPS["softmax"], function=rounded_down)
    assert [row.ok for row in fastbp.verify(dtypes=[dtype])] == [False, True]
    assert main(["verify", "--dtypes", "float32", dtype.name]) == 1


def test_warmup(dtype, two):
    for given in (dtype, dtype.name, [dtype.name]):
        assert set(fastbp.warmup(given)) == {f"{name} {dtype.name}" for name in two}


def test_dtypes_that_there_are_not(monkeypatch, capsys):
    for given in ("int8", "longdouble", ">f2", np.uint16):
        with pytest.raises(TypeError, match="expected float32, float64, float16 or bfloat16"):
            fastbp.verify(["softmax"], [given])
    for command in (["verify", "--dtypes"], ["warmup"]):
        assert main([*command, "float8"]) == 2
        assert "float8" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match="pip install ml_dtypes"):
        fastbp.warmup("bfloat16")
    assert main(["verify", "--dtypes", "bfloat16"]) == 2
    captured = capsys.readouterr()
    assert "pip install ml_dtypes" in captured.err
    assert captured.err.count("\n") == 1
