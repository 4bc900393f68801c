"""Every operation of the table against the reference: shapes, layouts, out, special values.

The table says how an error is measured and how large it may be; see `fastbp.testing.OPS`.

One thread computes here, but for a few large inputs: that several return the same bits is shown in
test_bits, and the parallel loops of all operations would take as long to compile as these tests.
"""

import dataclasses
import inspect
import itertools
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from options import each

import fastbp
from fastbp import layers, reference, testing
from fastbp.__main__ import main
from fastbp.cpu import run
from fastbp.testing import OPS, Arguments, check
from fastbp.testing.check import error_of_reference
from fastbp.testing.errors import flat

inf, nan = np.inf, np.nan
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
SHAPES = [
    (0, 3), (1, 1), (5, 1), (1, 16), (3, 1), (2, 3), (5, 7), (37, 16), (3, 17), (33, 10), (5, 32),
    (3, 33), (4, 63), (4, 64), (4, 65), (3, 1000), (2, 4097),
]  # fmt: skip
LARGE = [(40, 1000), (1, 40000)]  # enough for several threads
# BLAS libraries sum in an order that depends on shape and layout, and so their bits do.
EXACT_BITS = [name for name in OPS if not name.startswith("linear")]
# Arguments (n_rows, n_columns) or with one number for each row.
BY_ROW = {"x", "y", "dy", "logits", "probs", "targets", "sample_weight", "dloss"}

# One of each kernel; other variants differ in options, which know nothing of layouts and sizes.
FIRST = [
    name for i, name in enumerate(OPS)
    if name.partition("[")[0] not in [other.partition("[")[0] for other in list(OPS)[:i]]
    or name.endswith(("with_grad[probabilities]", "with_grad[sparse]"))
]  # fmt: skip

operations = pytest.mark.parametrize("name", OPS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(autouse=True)
def one_thread(request, monkeypatch):
    if request.node.originalname != "test_large_inputs":
        monkeypatch.setattr(run, "PARALLEL_FROM", 10**12)


def in_one_dtype_or_both(names, both=FIRST):
    """(name, dtype): all in float32, one of each kernel in float64 too."""
    cases = [(name, dtype) for name in names for dtype in DTYPES if name in both or dtype == "f4"]
    return pytest.mark.parametrize(("name", "dtype"), cases, ids=str)


# A loss alone is that of `_with_grad`, in kernels of its own that take as long to compile.
IN_BOTH = [name for name in OPS if name in FIRST or name.replace("[", "_with_grad[") not in OPS]
in_dtypes = in_one_dtype_or_both(OPS, IN_BOTH)


def arguments_for(name, shape, dtype, seed=0):
    return OPS[name].inputs(np.random.default_rng([seed, *shape]), shape, dtype)


def as_tuple(result):
    return flat(result) if isinstance(result, tuple) else (result,)


def assert_same_bits(actual, expected):
    """Equal results, and equal signs of zeros."""
    for pair in zip(as_tuple(actual), as_tuple(expected), strict=True):
        a, e = map(np.asarray, pair)
        assert a.dtype == e.dtype
        assert_array_equal(a, e)
        assert_array_equal(np.signbit(a) & (a == 0), np.signbit(e) & (e == 0))


def snapshot(named):
    return {key: each(np.array, value) for key, value in named.items()}


def assert_unchanged(named, before):
    for key, value in named.items():
        for now, then in zip(as_tuple(value), as_tuple(before[key]), strict=True):
            assert_array_equal(now, then, err_msg=f"{key} was changed")


def takes(name, parameter):
    return parameter in inspect.signature(OPS[name].function).parameters


# accuracy -----------------------------------------------------------------------------------------


def shape_name(shape):
    return f"{shape[0]}x{shape[1]}"


@pytest.mark.parametrize("shape", LARGE, ids=shape_name)
@pytest.mark.parametrize(
    "name", ["softmax", "logsumexp", "sigmoid", "softmax_cross_entropy_with_grad[labels]"]
)
def test_large_inputs(name, shape):
    test_operation_keeps_its_promise(name, DTYPES[0], shape)


@pytest.mark.parametrize("shape", SHAPES, ids=shape_name)
@in_dtypes
def test_operation_keeps_its_promise(name, dtype, shape):
    operation = OPS[name]
    arguments = arguments_for(name, shape, dtype)
    before = snapshot(operation.named(arguments))

    result = operation.call(arguments)

    for part in as_tuple(result):
        assert isinstance(part, np.ndarray | np.floating)
        assert part.dtype == dtype
    assert_unchanged(operation.named(arguments), before)
    error = operation.measure(arguments, result)
    assert error <= operation.promise + error_of_reference(dtype)


@dtypes
@operations
def test_inputs_are_no_trifle(name, dtype):
    """Where all exact values are tiny, or all special, an absolute error would pass for right."""
    exact = OPS[name].exact(arguments_for(name, (33, 10), dtype))
    for part in as_tuple(exact):
        finite = np.abs(part[np.isfinite(part)]) if part.ndim else np.abs(part)
        assert np.max(finite) > 1e-3
        assert np.size(finite) >= 0.5 * np.size(part)


def test_inputs_have_what_makes_them_hard():
    for dtype in DTYPES:
        x = arguments_for("softmax", (64, 10), dtype).args[0]
        p = np.asarray(reference.softmax(x))
        ordered = np.sort(x, axis=1)
        margin = ordered[:, -1] - ordered[:, -2]
        assert np.any((margin > 15) & (margin < 70)), "confident rows"
        assert np.any(margin == 0), "ties"
        assert np.any(np.abs(x) > 9000), "offsets"
        tiny = np.finfo(dtype).tiny
        assert np.count_nonzero((p > 0) & (p < tiny)) > 10, "subnormal probabilities"


@dtypes
@operations
def test_a_wrong_digit_is_found(name, dtype):
    """The measure itself can fail: the largest number of a result, off by one part in 10⁵."""
    operation = OPS[name]
    arguments = arguments_for(name, (33, 10), dtype)
    exact = [np.array(part, dtype) for part in as_tuple(operation.exact(arguments))]
    for k in range(len(exact)):
        wrong = [part.copy() for part in exact]
        flat = wrong[k].reshape(-1)
        i = np.nanargmax(np.where(np.isfinite(flat), np.abs(flat), 0))
        flat[i] *= 1 + 1e-5
        result = tuple(wrong) if len(wrong) > 1 else wrong[0]
        if "linear" in name and dtype == np.float32:
            flat[i] *= 1 + 1e-3
        assert operation.measure(arguments, result) > operation.promise
        flat[i] = nan
        assert operation.measure(arguments, result) == inf


LOSSES = [name for name in OPS if name.startswith("softmax_cross_entropy[")]


@in_one_dtype_or_both(LOSSES, IN_BOTH)
def test_losses_agree_with_each_other(name, dtype):
    """The loss of `_with_grad` is that of the plain function, bit for bit."""
    arguments = arguments_for(name, (33, 10), dtype)
    loss, dlogits = OPS[name.replace("[", "_with_grad[")].call(arguments)
    assert_same_bits(OPS[name].call(arguments), loss)
    one = np.ones(np.shape(loss), dtype)[()]
    backward = fastbp.softmax_cross_entropy_backward(one, *arguments.args, **arguments.kwargs)
    assert_same_bits(backward, dlogits)


# layouts ------------------------------------------------------------------------------------------


def column_slice(a, step=1):
    """Columns of a wider array that is NaN elsewhere."""
    other = nan if a.dtype.kind == "f" else 10**6
    wide = np.full((*a.shape[:-1], step * a.shape[-1] + 5), other, a.dtype)
    view = wide[..., 2 : 2 + step * a.shape[-1] : step]
    view[...] = a
    return view


def unaligned(a, offset=1):
    buffer = np.zeros(a.nbytes + offset, np.uint8)
    view = np.frombuffer(buffer, a.dtype, a.size, offset).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned or not a.size or offset % a.itemsize == 0
    return view


def reversed_strides(a):
    everywhere = (slice(None, None, -1),) * a.ndim
    return a[everywhere].copy()[everywhere]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def as_subclass(a):
    class Custom(np.ndarray):
        pass

    return a.view(Custom)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "reversed": reversed_strides,
    "columns of a wider array": column_slice,
    "every third column": lambda a: column_slice(a, 3),
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "unaligned": unaligned,
    "half aligned": lambda a: unaligned(a, 4),
    "read-only": read_only,
    "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder()),
    "a subclass": as_subclass,
}


def shapes_for(name):
    """A column, short rows, rows with a tail; and of one of each kernel many of them."""
    return [(6, 1), (5, 7), (4, 130)] + [(36, 1000)] * (name in FIRST)


@cache
def called(name, shape, dtype):
    arguments = arguments_for(name, shape, dtype)
    return arguments, OPS[name].call(arguments)


def arrays_only(function):
    return lambda value: function(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("layout", LAYOUTS)
@in_one_dtype_or_both(OPS)
def test_layout_does_not_matter(name, dtype, layout):
    operation, there = OPS[name], arrays_only(LAYOUTS[layout])
    for shape in shapes_for(name):
        arguments, expected = called(name, shape, dtype)
        named = {key: each(there, v) for key, v in operation.named(arguments).items()}
        before = snapshot(named)
        result = operation.function(**named)
        assert_unchanged(named, before)
        for part in as_tuple(result):
            assert type(part) is np.ndarray or isinstance(part, np.floating)
        if name in EXACT_BITS:
            assert_same_bits(result, expected)
        else:
            assert operation.measure(arguments, result) <= operation.promise


def rows_along_axis_0(a):
    return a.T.copy() if a.ndim == 2 else a


def columns_back(a):
    return a.T if np.ndim(a) == 2 else a


def in_the_middle(a):
    """(6, n) as (2, n, 3), (6,) as (2, 3)."""
    a = a.reshape(2, 3, *a.shape[1:])
    return a.transpose(0, 2, 1).copy() if a.ndim == 3 else a


def middle_back(a):
    if np.ndim(a) == 3:
        return a.transpose(0, 2, 1).reshape(6, -1)
    return np.reshape(a, 6) if np.ndim(a) == 2 else a


# (axis, how rows get there, and back, how numbers of a row get there)
AXES = {
    "0": (0, rows_along_axis_0, columns_back, lambda a: a),
    "-2": (-2, rows_along_axis_0, columns_back, lambda a: a),
    "1 of 3": (1, in_the_middle, middle_back, lambda a: a.reshape(2, 3, -1)),
    "-2 of 3": (-2, in_the_middle, middle_back, lambda a: a.reshape(2, 3, -1)),
}


@pytest.mark.parametrize("axis", AXES)
@in_one_dtype_or_both(name for name in OPS if takes(name, "axis"))
def test_axis(name, dtype, axis):
    operation = OPS[name]
    axis, there, back, numbers_there = AXES[axis]
    for n_columns in (1, 5, 40, *([7000] if name in FIRST else [])):
        arguments, expected = called(name, (6, n_columns), dtype)
        moved = dict(operation.named(arguments))
        for key, value in moved.items():
            if key in BY_ROW:
                way = numbers_there if isinstance(value, tuple) else there
                moved[key] = each(arrays_only(way), value)
        result = operation.function(**moved, axis=axis)
        assert_same_bits(tuple(back(part) for part in as_tuple(result)), as_tuple(expected))


@dtypes
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_several_axes(name, dtype):
    function = getattr(fastbp, name)
    x = arguments_for(name, (6, 35), dtype).args[0]
    expected = function(x)
    assert_same_bits(function(x.reshape(6, 5, 7), axis=(1, 2)).reshape(6, 35), expected)
    assert_same_bits(function(x.reshape(6, 5, 7), axis=(-1, -2)).reshape(6, 35), expected)
    moved = x.reshape(2, 3, 5, 7).transpose(2, 0, 3, 1)  # (5, 2, 7, 3)
    result = function(moved, axis=(0, 2)).transpose(1, 3, 0, 2).reshape(6, 35)
    assert_same_bits(result, expected)
    assert_same_bits(function(x, axis=None), function(x.reshape(-1)).reshape(6, 35))
    assert_same_bits(function(x, axis=(0, 1)), function(x, axis=None))


@dtypes
def test_logsumexp_shapes(dtype):
    x = arguments_for("logsumexp", (6, 35), dtype).args[0]
    y = fastbp.logsumexp(x)
    assert y.shape == (6,)
    assert_same_bits(fastbp.logsumexp(x, keepdims=True), y[:, None])
    assert_same_bits(fastbp.logsumexp(x.reshape(6, 5, 7), axis=(1, 2)), y)
    total = fastbp.logsumexp(x, axis=None)
    assert isinstance(total, dtype.type)
    assert_same_bits(fastbp.logsumexp(x, axis=None, keepdims=True), np.full((1, 1), total))
    assert_same_bits(fastbp.logsumexp(x.reshape(-1)), total)
    dy = np.ones(6, dtype)
    dx = fastbp.logsumexp_backward(dy, x, y)
    by_keepdims = fastbp.logsumexp_backward(dy[:, None], x, y[:, None], keepdims=True)
    assert_same_bits(by_keepdims, dx)
    by_axes = fastbp.logsumexp_backward(dy, x.reshape(6, 5, 7), y, axis=(1, 2))
    assert_same_bits(by_axes.reshape(6, 35), dx)


# out ----------------------------------------------------------------------------------------------

OUTS = {
    "C": np.empty,
    "Fortran": lambda shape, dtype: np.empty(shape, dtype, order="F"),
    "columns of a wider array": lambda shape, dtype: column_slice(np.empty(shape, dtype)),
    "every third column": lambda shape, dtype: column_slice(np.empty(shape, dtype), 3),
    "reversed": lambda shape, dtype: reversed_strides(np.empty(shape, dtype)),
    "unaligned": lambda shape, dtype: unaligned(np.zeros(shape, dtype)),
}
WITH_OUT = [name for name in OPS if takes(name, "out")]


@pytest.mark.parametrize("out", OUTS)
@in_one_dtype_or_both(WITH_OUT)
def test_out(name, dtype, out):
    operation = OPS[name]
    for shape in shapes_for(name):
        arguments, expected = called(name, shape, dtype)
        expected = as_tuple(expected)
        result = OUTS[out](expected[-1].shape, dtype)
        if result.size:
            result[...] = nan
        surroundings = result.base.copy() if out == "columns of a wider array" else None
        returned = as_tuple(operation.function(*arguments.args, **arguments.kwargs, out=result))
        assert returned[-1] is result
        assert_same_bits(returned, expected)
        if surroundings is not None:
            untouched = np.isnan(surroundings)
            untouched[..., 2:-3] = False
            assert_array_equal(np.isnan(result.base)[..., :2], True)
            assert_array_equal(np.isnan(result.base)[..., -3:], True)


def replaceable(name):
    """The arguments that `out` may be: any of an elementwise function's, the first of rows'."""
    for first in ("logits", "pred", "probs"):
        if takes(name, first):
            return [first]
    if "sigmoid" in name:
        return [p for p in ("x", "y", "dy") if p in OPS[name].named(arguments_for(
            name, (1, 1), DTYPES[0]))]  # fmt: skip
    return {"softmax": ["x"], "log_softmax": ["x"], "softmax_backward": ["dy"],
            "log_softmax_backward": ["dy"], "logsumexp_backward": ["x"],
            "logsumexp": []}.get(name, ["logits"])  # fmt: skip


@dtypes
@pytest.mark.parametrize("name", WITH_OUT)
def test_in_place(name, dtype):
    operation = OPS[name]
    for parameter in replaceable(name):
        for shape, order in itertools.product(shapes_for(name), "CF"):
            arguments, expected = called(name, shape, dtype)
            expected = as_tuple(expected)
            named = dict(operation.named(arguments))
            named[parameter] = out = named[parameter].copy(order=order)
            others = snapshot({key: value for key, value in named.items() if key != parameter})
            returned = as_tuple(operation.function(**named, out=out))
            assert returned[-1] is out
            assert_same_bits(returned, expected)
            assert_unchanged({key: named[key] for key in others}, others)


# kinds of input -----------------------------------------------------------------------------------


def listed(value):
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


@pytest.mark.parametrize("name", IN_BOTH)
def test_lists_are_float64(name):
    operation = OPS[name]
    arguments = arguments_for(name, (5, 7), DTYPES[1])
    named = {key: each(listed, value) for key, value in operation.named(arguments).items()}
    result = operation.function(**named)
    if name in EXACT_BITS:
        assert_same_bits(result, operation.call(arguments))
    else:
        assert operation.measure(arguments, result) <= operation.promise


@pytest.mark.parametrize("kind", ["i1", "u1", "i4", "i8", "u8", "?"])
def test_integers_and_bools_are_float64(kind):
    x = np.array([[0, 1, 1], [1, 0, 1]], kind)
    wide = x.astype(np.float64)
    for name in ("softmax", "log_softmax", "logsumexp", "sigmoid", "log_sigmoid"):
        assert_same_bits(getattr(fastbp, name)(x), getattr(fastbp, name)(wide))
    labels = [0, 2]
    expected = fastbp.softmax_cross_entropy(wide, labels)
    assert_same_bits(fastbp.softmax_cross_entropy(x, labels), expected)
    assert_same_bits(fastbp.sigmoid_backward(x, x=x), fastbp.sigmoid_backward(wide, x=wide))


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4"])
def test_labels_of_any_width(kind):
    x = arguments_for("softmax", (33, 10), DTYPES[0]).args[0]
    labels = np.random.default_rng(0).integers(10, size=33)
    function = fastbp.softmax_cross_entropy
    several = ({}, {"ignore_index": 3}, {"label_smoothing": 0.1})
    for options in several[: 3 if kind == "i4" else 2]:  # each kind is compiled
        expected = function(x, labels, **options)
        assert_same_bits(function(x, labels.astype(kind), **options), expected)


def test_the_first_float_decides():
    """The others are converted: to float32 with a rounding, to float64 without one."""
    dy, y = np.float32([[1, 0]]), np.float64([[0.1, 0.9]])
    expected = fastbp.softmax_backward(dy, y.astype(np.float32))
    assert_same_bits(fastbp.softmax_backward(dy, y), expected)
    assert fastbp.softmax_backward(dy.astype(np.float64), y.astype(np.float32)).dtype == np.float64
    x, t = np.float32([[1, 2]]), np.float64([[0.3, 0.7]])
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, t, sample_weight=np.float64([2]))
    assert loss.dtype == dlogits.dtype == np.float32


@dtypes
def test_numbers(dtype):
    """A single number gives a single number; a row without other axes gives one for the row."""
    two = dtype.type(2)
    for name in ("sigmoid", "log_sigmoid"):
        y = getattr(fastbp, name)(two)
        assert isinstance(y, dtype.type)
        assert y == getattr(fastbp, name)(np.array([two]))[0]
    assert isinstance(fastbp.sigmoid_backward(two, x=two), dtype.type)
    row = np.array([1, 2, 3], dtype)
    assert fastbp.softmax(row).shape == (3,)
    assert isinstance(fastbp.logsumexp(row), dtype.type)
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(row, 2)
    assert isinstance(loss, dtype.type)
    assert dlogits.shape == (3,)
    assert_same_bits(fastbp.softmax_cross_entropy(row, 2, reduction="none"), loss)
    assert_same_bits(fastbp.softmax_cross_entropy(row[None], [2]), loss)


# special values -----------------------------------------------------------------------------------
#
# The table of the interface, a row at a time. Each is planted among ordinary rows, whose results
# must be the same bits as without it, and at several places of short and long rows.

WIDTHS = [2, 3, 16, 17, 33, 70, 5000]


def planted(dtype, n_columns, values):
    """Ordinary rows (7, n_columns), and the same with `values` by column in row 3."""
    x = arguments_for("softmax", (8, n_columns), dtype, seed=5).args[0][:7]
    x[3] = np.random.default_rng(0).standard_normal(n_columns)
    special = x.copy()
    for column, value in values.items():
        special[3, column] = value
    return x, special


def check_rows(dtype, n_columns, values, expected):
    """expected: function name -> what its row 3 is; other rows keep their bits."""
    x, special = planted(dtype, n_columns, values)
    others = [0, 1, 2, 4, 5, 6]
    for name, row in expected.items():
        function = getattr(fastbp, name)
        before, result = function(x), function(special)
        assert_same_bits(result[others], before[others])
        if row is not None:
            assert_array_equal(result[3], row)
    exact = {name: getattr(reference, name)(special) for name in expected}
    for name in expected:
        assert_array_equal(np.isnan(getattr(fastbp, name)(special)), np.isnan(exact[name]))


def loss_and_gradient(dtype, n_columns, values, label=1):
    """Loss and gradient of row 3; the other rows' must be as without the values."""
    x, special = planted(dtype, n_columns, values)
    labels = np.full(7, label)
    others = [0, 1, 2, 4, 5, 6]
    before = fastbp.softmax_cross_entropy_with_grad(x, labels, reduction="none")
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(special, labels, reduction="none")
    assert_same_bits((loss[others], dlogits[others]), (before[0][others], before[1][others]))
    targets = (labels[:, None] == np.arange(n_columns)).astype(dtype)
    soft = fastbp.softmax_cross_entropy_with_grad(special, targets, reduction="none")
    assert_array_equal(np.isnan(soft[1]), np.isnan(dlogits))
    np.testing.assert_allclose(soft[0], loss, rtol=1e-5)
    np.testing.assert_allclose(soft[1], dlogits, rtol=1e-5)
    return loss[3], dlogits[3]


@pytest.mark.parametrize("n_columns", WIDTHS)
@dtypes
def test_nan_stays_in_its_row(dtype, n_columns):
    for column in {0, 1, n_columns - 1}:
        for values in ({column: nan}, {column: nan, (column + 1) % n_columns: inf}):
            whole = np.full(n_columns, nan)
            check_rows(
                dtype, n_columns, values,
                {"softmax": whole, "log_softmax": whole, "logsumexp": nan},
            )  # fmt: skip
            loss, dlogits = loss_and_gradient(dtype, n_columns, values)
            assert np.isnan(loss)
            assert np.isnan(dlogits).all()


@pytest.mark.parametrize("n_columns", WIDTHS)
@dtypes
def test_some_minus_infinities(dtype, n_columns):
    masked = list(range(1, n_columns, 2))
    values = dict.fromkeys(masked, -inf)
    kept = [j for j in range(n_columns) if j not in masked]
    special = planted(dtype, n_columns, values)[1]
    check_rows(dtype, n_columns, values, {"softmax": None, "log_softmax": None, "logsumexp": None})
    y = fastbp.softmax(special)[3]
    assert_array_equal(y[masked], 0)
    assert not np.signbit(y).any()
    assert_array_equal(fastbp.log_softmax(special)[3][masked], -inf)
    row = special[3:4]
    for name in ("softmax", "log_softmax", "logsumexp"):
        arguments = Arguments((row,))
        operation = OPS[name]
        error = operation.measure(arguments, operation.call(arguments))
        assert error <= operation.promise + error_of_reference(dtype)
    # A label there costs +inf, and its gradient is p - 1.
    loss, dlogits = loss_and_gradient(dtype, n_columns, values, label=1)
    assert loss == inf
    assert dlogits[1] == -1
    np.testing.assert_allclose(dlogits[kept], y[kept], rtol=1e-5)
    # It changes nothing for another label.
    loss, dlogits = loss_and_gradient(dtype, n_columns, values, label=0)
    assert np.isfinite(loss)
    assert_array_equal(dlogits[masked], 0)


@pytest.mark.parametrize("n_columns", [1, *WIDTHS])
@dtypes
def test_nothing_but_minus_infinities(dtype, n_columns):
    values = dict.fromkeys(range(n_columns), -inf)
    whole = np.full(n_columns, nan)
    check_rows(
        dtype, n_columns, values, {"softmax": whole, "log_softmax": whole, "logsumexp": -inf}
    )
    loss, dlogits = loss_and_gradient(dtype, n_columns, values, label=0)
    assert np.isnan(loss)
    assert np.isnan(dlogits).all()


@pytest.mark.parametrize("n_columns", [1, *WIDTHS])
@dtypes
def test_plus_infinity(dtype, n_columns):
    for values in (
        {n_columns - 1: inf},
        {0: inf, n_columns - 1: inf},
        {0: -inf, n_columns - 1: inf},
    ):
        whole = np.full(n_columns, nan)
        check_rows(
            dtype, n_columns, values, {"softmax": whole, "log_softmax": whole, "logsumexp": inf}
        )
        loss, dlogits = loss_and_gradient(dtype, n_columns, values, label=0)
        assert np.isnan(loss)
        assert np.isnan(dlogits).all()


@dtypes
def test_probability_0_on_minus_infinity_contributes_0(dtype):
    x = np.array([[1, -inf, 2], [-inf, -inf, 0]], dtype)
    t = np.array([[0.5, 0, 0.5], [0, 0, 1]], dtype)
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, t, reduction="none")
    exact = reference.softmax_cross_entropy_with_grad(x, t, reduction="none")
    np.testing.assert_allclose(loss, exact[0], rtol=1e-6)
    np.testing.assert_allclose(dlogits, exact[1], rtol=1e-5)
    assert loss[1] == 0
    assert not np.signbit(loss[1])
    assert_array_equal(dlogits[1], 0)


@dtypes
def test_label_smoothing_on_minus_infinity_is_infinite(dtype):
    x = np.array([[1, -inf, 2], [1, 1, 2]], dtype)
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(
        x, [0, 0], label_smoothing=0.5, reduction="none"
    )
    exact = reference.softmax_cross_entropy_with_grad(
        x, [0, 0], label_smoothing=0.5, reduction="none"
    )
    assert loss[0] == inf
    np.testing.assert_allclose(loss, exact[0], rtol=1e-6)
    np.testing.assert_allclose(dlogits, exact[1], rtol=1e-5)


@pytest.mark.parametrize("n_columns", WIDTHS)
@dtypes
def test_huge_logits_do_not_overflow(dtype, n_columns):
    big = dtype.type(3e38 if dtype == np.float32 else 1.7e308)
    for first, second in itertools.product((big, -big), repeat=2):
        x = np.full((2, n_columns), second, dtype)
        x[:, 0] = first
        x[1, -1] = 0
        for name in ("softmax", "log_softmax", "logsumexp"):
            operation, arguments = OPS[name], Arguments((x,))
            result = operation.call(arguments)
            error = operation.measure(arguments, result)
            assert error <= operation.promise + error_of_reference(dtype), (name, first, second)
        for label in (0, n_columns - 1):
            labels = np.full(2, label)
            arguments = Arguments((x, labels), {"reduction": "none"})
            operation = OPS["softmax_cross_entropy_with_grad[labels,rows]"]
            error = operation.measure(arguments, operation.call(arguments))
            assert error <= operation.promise + error_of_reference(dtype), (label, first, second)
            targets = (labels[:, None] == np.arange(n_columns)).astype(dtype)
            soft = fastbp.softmax_cross_entropy_with_grad(x, targets, reduction="none")
            hard = operation.call(arguments)
            np.testing.assert_allclose(soft[0], hard[0], rtol=1e-6)
            np.testing.assert_allclose(soft[1], hard[1], rtol=1e-6)


@dtypes
def test_nothing(dtype):
    for shape in [(0, 3), (3, 0), (0, 0), (2, 0, 3), (0,)]:
        x = np.empty(shape, dtype)
        for name in ("softmax", "log_softmax", "sigmoid", "log_sigmoid"):
            y = getattr(fastbp, name)(x)
            assert y.shape == shape
            assert y.dtype == dtype
        for name in ("softmax_backward", "log_softmax_backward", "sigmoid_backward"):
            assert getattr(fastbp, name)(x, x).shape == shape
        lse = fastbp.logsumexp(x)
        assert np.shape(lse) == shape[:-1]
        assert_array_equal(lse, np.full(shape[:-1], -inf))
        assert fastbp.logsumexp_backward(np.ones(shape[:-1], dtype), x, lse).shape == shape
    no_rows, no_labels = np.empty((0, 3), dtype), np.empty(0, int)
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(no_rows, no_labels, reduction="none")
    assert loss.shape == (0,)
    assert dlogits.shape == (0, 3)
    assert np.isnan(fastbp.softmax_cross_entropy(no_rows, no_labels))
    assert fastbp.softmax_cross_entropy(no_rows, no_labels, empty="zero") == 0
    assert fastbp.softmax_cross_entropy(no_rows, no_labels, reduction="sum") == 0
    nothing_at_all = np.empty((0, 0), dtype)
    assert np.isnan(fastbp.softmax_cross_entropy(nothing_at_all, no_labels))
    for targets in (np.zeros(3, int), np.empty((3, 0), dtype)):
        with pytest.raises(ValueError, match="logits"):
            fastbp.softmax_cross_entropy(np.empty((3, 0), dtype), targets)


@dtypes
def test_one_class(dtype):
    x = np.array([[-5], [0], [3e30], [1e-40]], dtype)
    assert_same_bits(fastbp.softmax(x), np.ones_like(x))
    assert_array_equal(fastbp.log_softmax(x), 0)
    assert_same_bits(fastbp.logsumexp(x), x[:, 0])
    for targets in (np.zeros(4, int), np.ones((4, 1), dtype)):
        for reduction, zero in (("none", np.zeros(4, dtype)), ("mean", dtype.type(0))):
            loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, targets, reduction=reduction)
            assert_same_bits(loss, zero)
            assert_same_bits(dlogits, np.zeros_like(x))


@dtypes
def test_sigmoid_at_the_ends(dtype):
    x = np.array([inf, -inf, nan, 0, -0.0], dtype)
    assert_array_equal(fastbp.sigmoid(x), np.array([1, 0, nan, 0.5, 0.5], dtype))
    assert_array_equal(fastbp.log_sigmoid(x)[:3], np.array([0, -inf, nan], dtype))
    assert np.signbit(fastbp.log_sigmoid(x)[0])
    one = np.ones_like(x)
    slope = fastbp.sigmoid_backward(one, x=x)
    assert_array_equal(slope, np.array([0, 0, nan, 0.25, 0.25], dtype))
    assert_array_equal(fastbp.log_sigmoid_backward(one, x), np.array([0, 1, nan, 0.5, 0.5], dtype))
    huge = np.finfo(dtype).max
    assert_array_equal(fastbp.sigmoid(np.array([huge, -huge])), [1, 0])
    assert_array_equal(fastbp.log_sigmoid(np.array([huge, -huge])), [0, -huge])
    # NaN reaches no neighbour, wherever it stands in a vector
    for n in (1, 3, 16, 40, 100):
        for i in {0, n // 2, n - 1}:
            row = np.zeros(n, dtype)
            row[i] = nan
            assert_array_equal(np.isnan(fastbp.sigmoid(row)), np.isnan(row))
            assert_array_equal(np.isnan(fastbp.log_sigmoid(row)), np.isnan(row))


def test_subnormal_results_are_kept():
    assert fastbp.sigmoid(np.float32(-100)) == np.float32(3.78e-44)
    assert fastbp.softmax(np.float32([0, -100]))[1] == np.float32(3.78e-44)
    assert fastbp.sigmoid(-740.0) == np.exp(-740)
    loss = fastbp.softmax_cross_entropy(np.float32([100, 0]), 0)
    assert loss == np.float32(3.78e-44)
    subnormal = np.float32([1e-40, 0, -1e-42])
    assert_array_equal(fastbp.softmax(subnormal), np.float32(1 / 3))


@pytest.mark.parametrize("targets", [[0], [[1.0, 0.0, 0.0]]], ids=["label", "probabilities"])
def test_confident_rows_keep_their_digits(targets):
    x = np.float32([[20, 0, 0]])
    t = np.array(targets, np.int64 if len(np.shape(targets)) == 1 else np.float32)
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, t)
    np.testing.assert_allclose(loss, 4.122307e-09, rtol=1e-6)
    np.testing.assert_allclose(dlogits, [[-4.122307e-09, 2.0611537e-09, 2.0611537e-09]], rtol=1e-6)
    np.testing.assert_allclose(fastbp.log_softmax(x)[0, 0], -4.122307e-09, rtol=1e-6)


# ignored rows and bad labels ----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weight": [1, 2, 3.0]}])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@dtypes
def test_ignored_rows_are_never_read(dtype, reduction, options):
    labels = np.array([0, -100, 2, 1, -100])
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(dtype)
    kept = labels != -100
    every = {**options, "reduction": reduction, "ignore_index": -100}
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x[kept], labels[kept], **every)
    for poison in (nan, inf, -inf):
        x[~kept] = poison
        poisoned = fastbp.softmax_cross_entropy_with_grad(x, labels, **every)
        if reduction == "none":
            assert_same_bits(poisoned[0][kept], loss)
            assert_same_bits(poisoned[0][~kept], np.zeros(2, dtype))
        else:
            assert_same_bits(poisoned[0], loss)
        assert_same_bits(poisoned[1][kept], dlogits)
        assert_same_bits(poisoned[1][~kept], np.zeros((2, 3), dtype))
        in_place = x.copy()
        fastbp.softmax_cross_entropy_with_grad(in_place, labels, **every, out=in_place)
        assert_same_bits(in_place, poisoned[1])
        weights = np.where(kept, 1, nan).astype(dtype)
        weighted = fastbp.softmax_cross_entropy_with_grad(x, labels, **every, sample_weight=weights)
        assert_same_bits(weighted, poisoned)


@dtypes
def test_all_rows_ignored(dtype):
    x = np.full((4, 3), nan, dtype)
    labels = np.full(4, 7)
    for empty, mean in (("nan", nan), ("zero", 0.0)):
        options = {"ignore_index": 7, "empty": empty}
        loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, labels, **options)
        assert_array_equal(loss, mean)
        assert_same_bits(dlogits, np.zeros_like(x))
    assert fastbp.softmax_cross_entropy(x, labels, ignore_index=7, reduction="sum") == 0


def test_an_ignored_label_may_be_a_class():
    x = np.array([[1.0, 2], [3, 5], [0, 4]])
    loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, [0, 1, 0], ignore_index=0)
    assert_same_bits(loss, fastbp.softmax_cross_entropy(x[1:2], [1]))
    assert_array_equal(dlogits[[0, 2]], 0)


@dtypes
def test_weights_of_zero(dtype):
    x = np.array([[1, 2, 3], [3, 2, -inf]], dtype)
    options = {"sample_weight": np.zeros(2, dtype)}
    for empty, mean in (("nan", nan), ("zero", 0.0)):
        loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, [0, 1], empty=empty, **options)
        assert_array_equal(loss, mean)
        assert_same_bits(dlogits, np.zeros_like(x))


@dtypes
def test_bad_labels(dtype):
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(dtype)
    labels = np.array([0, 3, 2, -1, 1])
    good = [0, 2, 4]
    few = fastbp.softmax_cross_entropy_with_grad(x[good], labels[good])
    for smoothing in (0.0, 0.1):
        options = {"on_bad_label": "nan", "label_smoothing": smoothing}
        few = fastbp.softmax_cross_entropy_with_grad(
            x[good], labels[good], label_smoothing=smoothing
        )
        loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, labels, **options)
        assert np.isnan(loss)
        assert_same_bits(dlogits[good], few[1])  # bad rows do not count in the denominator
        assert np.isnan(dlogits[[1, 3]]).all()
        loss = fastbp.softmax_cross_entropy(x, labels, **options, reduction="none")
        assert_array_equal(np.isnan(loss), [False, True, False, True, False])
        options["on_bad_label"] = "ignore"
        loss, dlogits = fastbp.softmax_cross_entropy_with_grad(x, labels, **options)
        assert_same_bits(loss, few[0])
        assert_same_bits(dlogits[good], few[1])
        assert_same_bits(dlogits[[1, 3]], np.zeros((2, 3), dtype))


@pytest.mark.parametrize("kind", ["i1", "i8", "u1", "u8"])
@pytest.mark.parametrize("policy", ["nan", "ignore"])
def test_extreme_labels_are_bad_and_not_read(kind, policy):
    info = np.iinfo(kind)
    x = np.float32([[1, 2, 3]] * 3)
    labels = np.array([1, info.max, info.min or 200], kind)
    loss = fastbp.softmax_cross_entropy(x, labels, on_bad_label=policy, reduction="none")
    assert np.isfinite(loss[0])
    assert_array_equal(loss[1:], nan if policy == "nan" else 0)
    with pytest.raises(IndexError, match=str(info.max)):
        fastbp.softmax_cross_entropy(x, labels)


# the tools built on the table ---------------------------------------------------------------------


def test_verify_finds_a_broken_operation(monkeypatch, capsys):
    """A row for each dtype, and from the command line exit status 1."""
    rows = fastbp.verify(["softmax", "sigmoid"])
    assert [(r.operation, r.dtype) for r in rows] == [
        ("softmax", "float32"), ("softmax", "float64"),
        ("sigmoid", "float32"), ("sigmoid", "float64"),
    ]  # fmt: skip
    assert all(row.ok and 0 < row.error <= row.promise for row in rows)

    two = {name: OPS[name] for name in ("softmax", "sigmoid")}
    monkeypatch.setattr(testing, "OPS", two)
    monkeypatch.setattr(check, "OPS", two)
    assert main(["verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 4 + 1
    assert lines[0].split() == ["operation", "dtype", "error", "promise", "unit"]
    assert all("ok" in line.split() for line in lines[1:-1])

    for wrong in (np.tanh, lambda x: np.full_like(x, nan)):
        two["sigmoid"] = dataclasses.replace(OPS["sigmoid"], function=wrong)
        assert not any(row.ok for row in fastbp.verify(["sigmoid"]))
        assert main(["verify"]) == 1
        out = capsys.readouterr().out
        assert out.count("FAILED") == 2
        assert out.splitlines()[-1] == "2 of 4 failed"


def test_verify_knows_its_operations():
    with pytest.raises(KeyError, match="hardmax"):
        fastbp.verify(["hardmax"])


def test_gradcheck():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 4))
    net = layers.Sequential(
        layers.Linear(4, 3, rng=0, dtype=np.float64), layers.Tanh(), layers.Softmax()
    )
    weight = net.params["0.weight"].copy()
    assert 0 < testing.gradcheck(net, x) <= 1
    assert_array_equal(net.params["0.weight"], weight)
    for options in ({}, {"reduction": "none"}, {"label_smoothing": 0.1}):
        loss = layers.SoftmaxCrossEntropy(**options)
        assert 0 < testing.gradcheck(loss, x, [0, 1, 2, 3, 0]) <= 1


def test_gradcheck_finds_a_wrong_gradient():
    class Wrong(layers.Linear):
        def __init__(self, of):
            super().__init__(3, 2, rng=0, dtype=np.float64)
            self.of = of

        def backward(self, dy):
            dx = super().backward(dy)
            wrong = dx if self.of == "x" else self.grads[self.of]
            wrong.flat[1] *= 1.001 if self.of != "bias" else nan
            return dx

    x = np.random.default_rng(0).standard_normal((4, 3))
    for of, place in (("x", r"\(0, 1\)"), ("weight", r"\(0, 1\)"), ("bias", r"\(1,\)")):
        with pytest.raises(AssertionError, match=f"gradient of {of} at {place} is .* give"):
            testing.gradcheck(Wrong(of), x)
    with pytest.raises(TypeError, match=r"'weight'.*float32; expected float64"):
        testing.gradcheck(layers.Linear(3, 2), x)
