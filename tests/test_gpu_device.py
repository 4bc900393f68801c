"""The table of operations on a GPU, and what only a GPU has: streams, graphs, huge arrays.

`pytest tests --cuda`, on a machine with a GPU and PyTorch, CuPy or numba-cuda. The arrays are those
of the first that is installed; the others are tried with a few operations.
"""

import numpy as np
import pytest
from gpu_arrays import LIBRARIES, Rehearsal, each, on_device
from gpu_recorder import DTYPES, FIRST, ON_CPUS, ON_GPUS
from numpy.testing import assert_array_equal

import fastbp
from fastbp.testing import OPS, Arguments
from fastbp.testing.check import error_of_reference
from fastbp.testing.errors import flat
from fastbp.testing.inputs import as_dtype, logits, upstream

pytestmark = pytest.mark.cuda

inf, nan = np.inf, np.nan
# One of each way in which threads share rows, with tails; and one that many blocks share.
SHAPES = [(5, 7), (300, 16), (130, 32), (9, 33), (37, 1000), (3, 1025), (2, 5000), (2, 40001)]

CASES = [
    (name, dtype)
    for name in ON_GPUS
    for dtype in DTYPES if dtype == "float32" or name in FIRST
]  # fmt: skip
# Of 16 bits, the y given do not sum to 1, on which the formula relies; on CPUs it is the same.
PROMISES_OF_HALVES = {"softmax_backward": 0.65}
FEW = ["softmax", "logsumexp", "sigmoid_backward[x]", "softmax_cross_entropy_with_grad[labels]"]


def tried(kind):
    """(library, None), or (None, why there is none)."""
    try:
        return kind(), None
    except Exception as error:  # noqa: BLE001  (of libraries, of drivers, of CUDA itself)
        return None, f"{kind.name}: {type(error).__name__}: {error}"


def load(kinds):
    found = [tried(kind) for kind in kinds]
    first = next((library for library, _ in found if library is not None), None)
    return first or pytest.skip("; ".join(reason for _, reason in found))


@pytest.fixture(scope="module")
def library(request):
    """The first library that has arrays on a GPU."""
    if request.config.getoption("cuda_rehearsal"):
        return Rehearsal()
    return load(LIBRARIES.values())


@pytest.fixture(scope="module")
def torch(library):
    """PyTorch on a GPU."""
    if library.name != "torch":
        pytest.skip(f"needs PyTorch on a GPU; the arrays here are those of {library.name}")
    return library.torch


def arguments_for(name, shape, dtype, seed=0):
    rng = np.random.default_rng([seed, *shape])
    return OPS[name].inputs(rng, shape, as_dtype(dtype))


def assert_keeps_its_promise(library, name, arguments):
    operation = OPS[name]
    result = operation.call(on_device(library, arguments))
    for part in flat(result):
        assert library.is_own(part), type(part)
    result = each(library.to_host, result)
    given = operation.named(arguments)
    dtype = next(v.dtype for v in flat(tuple(given.values())) if isinstance(v, np.ndarray))
    error = operation.measure(arguments, result)
    promise = PROMISES_OF_HALVES.get(name, 0) if dtype.itemsize == 2 else 0
    promise = max(promise, operation.promise_of(result))
    assert error <= promise + error_of_reference(dtype)


# the table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda value: value)
def test_operation_keeps_its_promise(library, name, dtype):
    for seed, shape in enumerate(SHAPES):
        assert_keeps_its_promise(library, name, arguments_for(name, shape, dtype, seed))


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 1), (1, 65_536), (2, 300_001)], ids=str)
@pytest.mark.parametrize("name", [*FEW, "softmax_backward", "log_softmax_backward"])
def test_unusual_shapes(library, name, shape):
    assert_keeps_its_promise(library, name, arguments_for(name, shape, "float32"))


@pytest.mark.parametrize("kind", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("name", FEW)
def test_arrays_of_every_library(library, name, kind):
    other = library if library.name == "rehearsal" else load([kind])
    for dtype in ("float32", "float64", "float16"):
        assert_keeps_its_promise(other, name, arguments_for(name, (33, 100), dtype))


@pytest.mark.parametrize("name", sorted(ON_CPUS))
def test_what_works_on_cpus_alone_says_so(library, name):
    if library.name == "rehearsal":
        pytest.skip("there is no GPU to refuse")
    arguments = on_device(library, arguments_for(name, (5, 7), "float32"))
    with pytest.raises(TypeError, match="GPU"):
        OPS[name].call(arguments)


# special values -----------------------------------------------------------------------------------

SPECIAL = np.array([
    [1, 2, 3, 4, 5], [nan, 1, 2, 3, 4], [1, 2, 3, 4, nan], [-inf, 1, 2, 3, 4],
    [-inf, -inf, -inf, -inf, -inf], [inf, 1, 2, 3, 4], [inf, -inf, 0, 1, 2],
    [inf, inf, nan, -inf, 0], [3e38, -3e38, 0, 1, 2], [-3e38, -3e38, -3e38, -3e38, -3e38],
    [1e-40, -1e-40, 0, -0.0, 1e-38], [0, -90, -100, -103, -110],
])  # fmt: skip
WITH_LABELS = "softmax_cross_entropy_with_grad[labels,rows]"


@pytest.mark.parametrize("width", [5, 40, 1500, 20_000, 70_001])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", WITH_LABELS])
def test_special_values(library, name, width):
    """Each in rows of every length, between others; the rest of a row is far below."""
    x = np.full((len(SPECIAL), width), -inf, np.float32)
    x[:, :5] = SPECIAL
    labels = np.arange(len(x)) % 5
    arguments = Arguments((x, labels), {"reduction": "none"}) if name == WITH_LABELS else (
        Arguments((x,)))  # fmt: skip
    assert_keeps_its_promise(library, name, arguments)


@pytest.mark.parametrize("name", ["sigmoid", "log_sigmoid"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_elements(library, name, dtype):
    with np.errstate(over="ignore"):
        x = np.tile(SPECIAL, (7, 3)).astype(as_dtype(dtype))
    assert_keeps_its_promise(library, name, Arguments((x,)))


# labels -------------------------------------------------------------------------------------------

BAD = [(3, 12), (8, -1), (20, 2**40), (29, -(2**63))]
with_grad = fastbp.softmax_cross_entropy_with_grad


def rows_with_bad_labels():
    rng = np.random.default_rng(5)
    x = logits(rng, (40, 12), np.dtype(np.float32))
    labels = rng.integers(12, size=40)
    for row, label in BAD:
        labels[row] = label
    return x, labels


def test_a_bad_label_is_named_and_nothing_is_written(library):
    x, labels = map(library.to_device, rows_with_bad_labels())
    out = library.to_device(np.full((40, 12), 7, np.float32))
    with pytest.raises(IndexError, match=r"\b3\b.*\b12\b|\b12\b.*\b3\b"):
        with_grad(x, labels, out=out)
    assert (library.to_host(out) == 7).all()


@pytest.mark.parametrize("on_bad_label", ["nan", "ignore"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_bad_labels_touch_no_other_row(library, on_bad_label, reduction):
    x, labels = rows_with_bad_labels()
    options = {"on_bad_label": on_bad_label, "reduction": reduction}
    loss, dx = each(library.to_host, with_grad(*map(library.to_device, (x, labels)), **options))

    good = np.delete(np.arange(40), [row for row, _ in BAD])
    of_good = with_grad(x[good], labels[good], reduction=reduction)
    bad = nan if on_bad_label == "nan" else 0
    assert_array_equal(np.isnan(dx), np.isnan(with_grad(x, labels, **options)[1]))
    np.testing.assert_allclose(dx[good], of_good[1], rtol=1e-6)
    assert_array_equal(np.delete(dx, good, axis=0), np.full((len(BAD), 12), bad, np.float32))
    if reduction == "none":
        np.testing.assert_allclose(loss[good], of_good[0], rtol=1e-6)
        assert_array_equal(np.delete(loss, good), np.full(len(BAD), bad, np.float32))


@pytest.mark.parametrize("width", ["int8", "uint8", "int16", "int32", "uint32", "int64"])
def test_labels_of_every_width(library, width):
    x, _ = rows_with_bad_labels()
    labels = np.arange(40) % 12
    expected = each(library.to_host, with_grad(*map(library.to_device, (x, labels))))
    if library.name == "torch" and not hasattr(library.torch, width):
        pytest.skip(f"this PyTorch has no {width}")
    found = with_grad(*map(library.to_device, (x, labels.astype(width))))
    for now, then in zip(each(library.to_host, found), expected, strict=True):
        assert_array_equal(now, then)


# bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [10, 100, 1000, 3000, 30_000, 70_001])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_a_row_has_the_same_bits_wherever_it_stands(library, name, columns):
    """Alone, in a batch, behind any address, between columns of another array, in place."""
    function = OPS[name].function
    x = logits(np.random.default_rng(7), (33, columns), np.dtype(np.float32))
    whole = library.to_host(function(library.to_device(x)))
    assert_array_equal(library.to_host(function(library.to_device(x))), whole)
    for row in (0, 5, 32):
        alone = library.to_host(function(library.to_device(x[row : row + 1])))
        assert_array_equal(alone[0], whole[row])
    for shift in (1, 2, 3):
        wide = np.full((33, columns + 5), nan, np.float32)
        wide[:, shift : shift + columns] = x
        part = library.to_device(wide)[:, shift : shift + columns]
        assert_array_equal(library.to_host(function(part)), whole)
    if name != "logsumexp":
        given = library.to_device(x)
        assert function(given, out=given) is given
        assert_array_equal(library.to_host(given), whole)


@pytest.mark.parametrize("name", ["softmax", "logsumexp"])
@pytest.mark.parametrize("axis", [0, 1, (0, 2), None], ids=str)
def test_other_axes(library, name, axis):
    x = logits(np.random.default_rng(8), (60, 35), np.dtype(np.float64)).reshape(4, 15, 35)
    found = library.to_host(OPS[name].function(library.to_device(x), axis))
    np.testing.assert_allclose(found, OPS[name].function(x, axis), rtol=1e-13, atol=1e-300)


# streams and graphs -------------------------------------------------------------------------------


def a_call_of(name, columns):
    """Arguments of two kinds: what is in place first, and what comes later."""
    first, second = (arguments_for(name, (64, columns), "float32", seed) for seed in (1, 2))
    return OPS[name], first, second


def replace(given, later):
    """Other numbers in the same tensors."""
    olds, news = ((*a.args, *a.kwargs.values()) for a in (given, later))
    for old, new in zip(olds, news, strict=True):
        if hasattr(old, "copy_"):
            old.copy_(new)


@pytest.mark.parametrize("columns", [16, 500, 4000, 50_000, 70_000])
@pytest.mark.parametrize("name", FEW)
def test_on_a_side_stream_nobody_waits(library, torch, name, columns):
    """The input comes late, on that stream alone: the result waits for it, the call does not."""
    operation, first, second = a_call_of(name, columns)
    expected = each(library.to_host, operation.call(on_device(library, second)))
    given, later = on_device(library, first), on_device(library, second)
    if "labels" in name:  # "raise" must wait
        given.kwargs["on_bad_label"] = later.kwargs["on_bad_label"] = "nan"
    operation.call(given)  # compiles
    torch.cuda.synchronize()
    arrived = torch.cuda.Event()
    with library.side_stream() as stream:
        library.keep_busy()
        replace(given, later)
        arrived.record()
        result = operation.call(given)
        assert not arrived.query(), "the call has waited for the GPU"
    stream.synchronize()
    for now, then in zip(flat(each(library.to_host, result)), flat(expected), strict=True):
        assert_array_equal(now, then)


def test_on_a_side_stream_of_cupy(library):
    if library.name == "rehearsal":
        pytest.skip("there are no streams")
    cupy = load([LIBRARIES["cupy"]])
    x = logits(np.random.default_rng(9), (4000, 4000), np.dtype(np.float32))
    expected = cupy.to_host(fastbp.softmax(cupy.to_device(x)))
    late = cupy.to_device(x)
    given = cupy.cupy.zeros_like(late)
    cupy.cupy.cuda.Device().synchronize()
    with cupy.side_stream() as stream:
        for _ in range(200):  # some milliseconds
            given += late
        given[...] = late
        result = fastbp.softmax(given)
    stream.synchronize()
    assert_array_equal(cupy.to_host(result), expected)


@pytest.mark.parametrize("columns", [16, 500, 4000, 50_000, 70_000])
@pytest.mark.parametrize("name", FEW)
def test_in_a_graph(library, torch, name, columns):
    """Captured once, replayed with other numbers in the same place."""
    operation, first, second = a_call_of(name, columns)
    given, later = on_device(library, first), on_device(library, second)
    if "labels" in name:
        given.kwargs["on_bad_label"] = later.kwargs["on_bad_label"] = "nan"
    expected = each(library.to_host, operation.call(later))
    operation.call(given)  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = operation.call(given)
    replace(given, later)
    for part in flat(result):
        part.fill_(nan)
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    for now, then in zip(flat(each(library.to_host, result)), flat(expected), strict=True):
        assert_array_equal(now, then)


def test_a_tensor_with_gradients_is_refused(torch):
    x = torch.zeros(3, 4, device="cuda", requires_grad=True)
    with pytest.raises(TypeError, match=r"fastbp\.torch"):
        fastbp.softmax(x)


# more elements than 32 bits count -----------------------------------------------------------------

HUGE = 2**31


def filled(library, torch, shape):
    """A tensor of float16 whose last two rows end in other numbers than 0."""
    need = 2 * shape[0] * shape[1]
    if library.free_bytes() < 2.5 * need:
        pytest.skip(f"needs {2.5 * need / 2**30:.0f} GiB of free memory on the GPU")
    x = torch.zeros(shape, dtype=torch.float16, device="cuda")
    rng = np.random.default_rng(11)
    last = logits(rng, (2, min(shape[1], 50_000)), np.dtype(np.float16))
    x[-2:, -last.shape[1] :] = library.to_device(last)
    return x


@pytest.mark.parametrize("columns", [16, 1000, 4096, 65_536])
@pytest.mark.parametrize("name", ["softmax", "logsumexp", "sigmoid"])
def test_more_than_two_billion_elements(library, torch, name, columns):
    x = filled(library, torch, (HUGE // columns + 3, columns))
    function = OPS[name].function
    expected, first = function(x[-2:].clone()), function(x[:2].clone())
    found = function(x)
    assert torch.equal(found[-2:], expected)
    assert torch.equal(found[:2], first)


def test_a_row_of_more_than_two_billion(library, torch):
    x = filled(library, torch, (2, HUGE // 2 + 5)).view(1, -1)
    x.zero_()
    x[0, -1] = 1
    found = fastbp.logsumexp(x)
    assert float(found) == float(np.float16(np.log(HUGE + 9 + np.e)))


def test_labels_of_more_than_two_billion_logits(library, torch):
    columns = 32_768
    x = filled(library, torch, (HUGE // columns + 3, columns))
    labels = torch.full((len(x),), columns - 1, device="cuda")
    options = {"reduction": "none", "on_bad_label": "nan"}
    expected = with_grad(x[-2:].clone(), labels[-2:], **options)
    loss, dx = with_grad(x, labels, out=x, **options)
    assert dx is x
    assert torch.equal(loss[-2:], expected[0])
    assert torch.equal(dx[-2:], expected[1])


def test_backward_of_halves_is_no_forward_of_floats(library):
    """Gradients of 16 bits are rounded once, from float32."""
    y = fastbp.softmax(logits(np.random.default_rng(1), (9, 200), np.dtype(np.float16)))
    dy = upstream(np.random.default_rng(2), y.shape, y.dtype, y)
    assert_keeps_its_promise(library, "softmax_backward", Arguments((dy, y)))
