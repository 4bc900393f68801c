"""Arrays on a GPU: from the public functions to the launch, where the simulator takes over."""

from types import SimpleNamespace

import numpy as np
import pytest

import fastbp
from fastbp.cuda import arrays, driver, run

pytest.importorskip("greenlet")
pytest.importorskip("ml_dtypes")

from gpu_fakes import (
    DTYPES,
    DeviceArray,
    Foreign,
    address_of,
    fake_gpu,
    same,
    some,
    values_of,
)


@pytest.fixture
def gpu(monkeypatch):
    return fake_gpu(monkeypatch)


# the functions ------------------------------------------------------------------------------------

# name -> the names of its arguments
FUNCTIONS = {
    "softmax": "x",
    "log_softmax": "x",
    "logsumexp": "x",
    "softmax_backward": "dy y",
    "log_softmax_backward": "dy log_y",
    "logsumexp_backward": "per_row x lse",
    "sigmoid": "x",
    "sigmoid_backward": "dy y",
    "log_sigmoid": "x",
    "log_sigmoid_backward": "dy x",
}


def arguments_of(name, shape, dtype="float32"):
    x = some(shape, dtype)
    made = {
        "x": x,
        "dy": some(shape, dtype, 1),
        "y": fastbp.softmax(x),
        "log_y": fastbp.log_softmax(x),
        "per_row": some(shape[:-1], dtype, 2),
        "lse": fastbp.logsumexp(x),
    }
    return [made[argument] for argument in FUNCTIONS[name].split()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_compute_on_the_gpu_what_they_compute_on_a_cpu(gpu, name, dtype):
    given = arguments_of(name, (5, 7), dtype)
    function = getattr(fastbp, name)
    expected = function(*given)
    same(function(*(gpu.array(a) for a in given)), expected, dtype)
    (launch,) = gpu.launched
    assert launch[3] == run.Place(0, 0)


ROWS = [name for name in FUNCTIONS if "softmax" in name or "logsumexp" in name]


@pytest.mark.parametrize("regime", run.REGIMES, ids=lambda r: r.name)
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_any_regime(gpu, monkeypatch, name, regime):
    monkeypatch.setattr(run, "regime_on", lambda *_: regime)
    given = arguments_of(name, (3, 37), "float32")
    function = getattr(fastbp, name)
    same(function(*(gpu.array(a) for a in given)), function(*given))
    assert [launch[1] for launch in gpu.launched] == [regime.name]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("regime", run.REGIMES, ids=lambda r: r.name)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_masks(gpu, monkeypatch, name, regime, dtype):
    monkeypatch.setattr(run, "regime_on", lambda *_: regime)
    x = some((4, 9), dtype)
    where = np.random.default_rng(5).random((4, 9)) < 0.6
    where[1] = False
    x[0, ~where[0]] = np.nan
    function = getattr(fastbp, name)
    for mask in (where, where[0], where[:, :1]):
        same(function(gpu.array(x), where=gpu.array(mask)), function(x, where=mask), dtype)


LAYOUTS = {
    "transposed": (lambda x: np.ascontiguousarray(x.T).T, 1),
    "every_second": (lambda x: np.repeat(x, 2, -1)[..., ::2], 1),
    "columns_of_more": (lambda x: np.concatenate([x, x], -1)[..., : x.shape[-1]], 0),
}


@pytest.mark.parametrize(("axis"), [-1, 0, 1, (0, 2), (1, 2), None])
@pytest.mark.parametrize("name", ["softmax", "logsumexp"])
def test_any_axes(gpu, name, axis):
    x = some((3, 4, 5))
    function = getattr(fastbp, name)
    same(function(gpu.array(x), axis), np.asarray(function(x, axis)))


@pytest.mark.parametrize(("laid_out", "copies"), LAYOUTS.values(), ids=LAYOUTS)
def test_any_strides(gpu, laid_out, copies):
    x = laid_out(some((6, 5)))
    same(fastbp.softmax(gpu.array(x)), fastbp.softmax(x))
    assert len(gpu.launched) == 1 + copies
    same(fastbp.sigmoid(gpu.array(x)), fastbp.sigmoid(x))


def test_keepdims(gpu):
    x = some((3, 4))
    same(fastbp.logsumexp(gpu.array(x), keepdims=True), fastbp.logsumexp(x, keepdims=True))
    y, dy = fastbp.logsumexp(x, keepdims=True), some((3, 1))
    expected = fastbp.logsumexp_backward(dy, x, y, keepdims=True)
    given = (gpu.array(a) for a in (dy, x, y))
    same(fastbp.logsumexp_backward(*given, keepdims=True), expected)


def test_a_single_number(gpu):
    result = fastbp.logsumexp(gpu.array(some((4,))))
    assert values_of(result).shape == ()
    assert values_of(fastbp.sigmoid(gpu.array(some(())))).shape == ()


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.bool_])
def test_integers_are_taken_as_float64(gpu, dtype):
    x = np.array([[0, 1, 3], [1, 0, 0]], dtype)
    same(fastbp.softmax(gpu.array(x)), fastbp.softmax(x), "float64")
    same(fastbp.sigmoid(gpu.array(x)), fastbp.sigmoid(x), "float64")


@pytest.mark.parametrize("second", ["float64", "float16", "bfloat16"])
def test_the_first_decides_on_the_type(gpu, second):
    dy, y = some((3, 4)), fastbp.softmax(some((3, 4), second))
    expected = fastbp.softmax_backward(dy, y)
    same(fastbp.softmax_backward(gpu.array(dy), gpu.array(y)), expected)
    same(fastbp.sigmoid_backward(gpu.array(dy), gpu.array(y)), fastbp.sigmoid_backward(dy, y))


def test_nothing(gpu):
    for shape in ((0, 3), (3, 0), (0,)):
        x = gpu.array(some(shape))
        assert values_of(fastbp.softmax(x)).shape == shape
        assert values_of(fastbp.sigmoid(x)).shape == shape
    assert values_of(fastbp.logsumexp(gpu.array(some((0, 3))))).shape == (0,)
    assert not gpu.launched
    for dtype in DTYPES:
        found = values_of(fastbp.logsumexp(gpu.array(some((3, 0), dtype))))
        assert (found == -np.inf).all()
        assert found.shape == (3,)


# results in arrays given --------------------------------------------------------------------------


def test_out(gpu):
    x = some((4, 6))
    out = gpu.array(np.zeros((4, 6), np.float32))
    assert fastbp.softmax(gpu.array(x), out=out) is out
    same(out, fastbp.softmax(x))
    inside = gpu.array(np.zeros((4, 12), np.float32)[:, ::2])
    assert fastbp.softmax(gpu.array(x), 0, out=inside) is inside
    same(inside, fastbp.softmax(x, 0))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("regime", run.REGIMES, ids=lambda r: r.name)
def test_out_may_be_the_input(gpu, monkeypatch, regime, axis):
    monkeypatch.setattr(run, "regime_on", lambda *_: regime)
    x, mask = some((5, 6)), np.arange(6) != 2
    for options in ({}, {"where": mask}):
        given = gpu.array(x)
        masks = {name: gpu.array(m) for name, m in options.items()}
        assert fastbp.softmax(given, axis, **masks, out=given) is given
        same(given, fastbp.softmax(x, axis, **options))


def test_out_of_elements_may_be_any_input(gpu):
    dy, x = some((4, 6)), some((4, 6), seed=3)
    given = gpu.array(x)
    fastbp.log_sigmoid_backward(gpu.array(dy), given, out=given)
    same(given, fastbp.log_sigmoid_backward(dy, x))


WRONG = {
    "kind": (np.zeros((4, 6), np.float32), TypeError, "out is a numpy.ndarray; expected an array"),
    "dtype": (np.zeros((4, 6)), TypeError, "out has dtype float64; expected float32, the result's"),
    "shape": (np.zeros((4, 5), np.float32), ValueError, r"out has shape \(4, 5\); expected"),
    "twice": (np.broadcast_to(np.float32(0), (4, 6)), ValueError, "out holds one place several"),
}


@pytest.mark.parametrize(("out", "error", "says"), WRONG.values(), ids=WRONG)
def test_wrong_out(gpu, out, error, says):
    x = gpu.array(some((4, 6)))
    given = out if error is TypeError and out.dtype == np.float32 else gpu.array(out)
    for function in (fastbp.softmax, fastbp.sigmoid):
        with pytest.raises(error, match=says):
            function(x, out=given)
    assert not gpu.launched


def test_out_that_overlaps(gpu):
    whole = gpu.array(some((5, 6)))._values
    x, out = DeviceArray(whole[:4]), DeviceArray(whole[1:])
    before = whole.copy()
    with pytest.raises(ValueError, match="out overlaps x, expected all of it or nothing"):
        fastbp.softmax(x, out=out)
    with pytest.raises(ValueError, match="out overlaps x, which is still read"):
        fastbp.logsumexp(x, out=DeviceArray(whole[0, :4]))
    np.testing.assert_array_equal(whole, before)
    even, odd = DeviceArray(whole[::2][:2]), DeviceArray(whole[1::2])
    expected = fastbp.softmax(even._values.copy())
    same(fastbp.softmax(even, out=odd), expected)


def test_out_that_is_read_only(gpu):
    x = gpu.array(some((4, 6)))
    with pytest.raises(ValueError, match="out is read-only"):
        fastbp.softmax(x, out=gpu.array(some((4, 6)), read_only=True))


# errors -------------------------------------------------------------------------------------------


def test_arrays_of_one_call_live_in_one_place(gpu, monkeypatch):
    host = some((3, 4))
    device = gpu.array(host)
    with pytest.raises(TypeError, match=r"y is a numpy.ndarray; expected an array on a GPU, as dy"):
        fastbp.softmax_backward(device, host)
    with pytest.raises(TypeError, match="y lives on a GPU; expected a NumPy array"):
        fastbp.softmax_backward(host, device)
    with pytest.raises(TypeError, match=r"where is a numpy.ndarray; expected an array on a GPU"):
        fastbp.softmax(device, where=host > 0)
    with pytest.raises(TypeError, match="x lives on a GPU; expected a NumPy array"):
        fastbp.logsumexp_backward(1.0, device, device)
    monkeypatch.setattr(
        driver, "device_of", lambda address: int(address != address_of(device._values))
    )
    with pytest.raises(ValueError, match="y is on GPU 1; expected 0, that of dy"):
        fastbp.softmax_backward(device, gpu.array(host))


def test_wrong_arguments(gpu):
    x = gpu.array(some((3, 4)))
    cases = [
        (TypeError, "x has dtype complex64; expected", lambda: fastbp.softmax(
            gpu.array(np.zeros(3, np.complex64)))),
        (TypeError, "x has dtype >f4", lambda: fastbp.softmax(gpu.array(np.zeros(3, ">f4")))),
        (ValueError, "axis is 2; expected -2 to 1", lambda: fastbp.softmax(x, 2)),
        (ValueError, r"y has shape \(3,\); expected \(3, 4\), the shape of dy",
         lambda: fastbp.softmax_backward(x, gpu.array(some((3,))))),
        (TypeError, "where has dtype float32; expected bool", lambda: fastbp.softmax(x, where=x)),
        (ValueError, r"where has shape \(3,\); expected one that broadcasts",
         lambda: fastbp.softmax(x, where=gpu.array(np.ones(3, bool)))),
        (ValueError, r"dy has shape \(3, 4\); expected \(3,\), the shape of logsumexp's result",
         lambda: fastbp.logsumexp_backward(x, x, x)),
    ]  # fmt: skip
    for error, says, call in cases:
        with pytest.raises(error, match=says):
            call()
    assert not gpu.launched


def test_masked_arrays(gpu):
    x = gpu.array(some((3,)))
    given = {**x.__cuda_array_interface__, "mask": x}
    with pytest.raises(TypeError, match="x is a masked array, whose mask would be lost"):
        fastbp.softmax(SimpleNamespace(__cuda_array_interface__=given))


def test_a_library_that_nobody_knows(gpu):
    x = some((3, 4))
    given = gpu.array(x, Foreign)
    with pytest.raises(TypeError, match=r"elsewhere\.arrays\.Foreign cannot be made .* as out"):
        fastbp.softmax(given)
    out = gpu.array(np.zeros_like(x), Foreign)
    assert fastbp.softmax(given, 0, out=out) is out
    np.testing.assert_allclose(out._values, fastbp.softmax(x, 0), 1e-6)


def test_streams(gpu):
    dy, y = some((3, 4)), fastbp.softmax(some((3, 4)))
    out = gpu.array(np.zeros_like(dy), stream=30)
    fastbp.softmax_backward(gpu.array(dy, stream=10), gpu.array(y, stream=20), out=out)
    assert gpu.launched[0][3] == run.Place(0, 10)
    assert gpu.followed == [(10, 20, 0), (10, 30, 0), (30, 10, 0)]


def test_what_is_on_no_gpu_stays_on_the_cpu(gpu):
    for x in (some((3, 4)), [1.0, 2.0], 3.0, np.float32(1), np.zeros(3).view(np.recarray)):
        assert not arrays.is_on_device(x)
    assert type(fastbp.softmax(some((3, 4)))) is np.ndarray
    assert not gpu.launched
