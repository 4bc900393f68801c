"""Arrays of libraries on a GPU, their layouts, and launches."""

import re
import sys
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp
from fastbp.cuda import arrays, calls, compiler, copies, driver, layouts, run

pytest.importorskip("greenlet")
pytest.importorskip("ml_dtypes")

from gpu_fakes import BFLOAT16, DeviceArray, address_of, fake_gpu, some

softmax = import_module("fastbp.ops.softmax")  # the page, not the function
execute = run.execute  # as it is without the fake


@pytest.fixture
def gpu(monkeypatch):
    return fake_gpu(monkeypatch)


# libraries ----------------------------------------------------------------------------------------


def test_tensors_of_pytorch():
    torch = pytest.importorskip("torch")
    x = torch.zeros(3, 4, dtype=torch.bfloat16)
    found = arrays.TORCH.view(x.T, "x")
    assert found[:4] == (x.data_ptr(), "bfloat16", (4, 3), (1, 4))
    assert arrays.library_of(torch.nn.Parameter) is arrays.TORCH
    assert not arrays.is_on_device(x)
    made = arrays.TORCH.empty_like(found, "float32")
    assert (made.dtype, made.stride()) == (torch.float32, (1, 4))
    with pytest.raises(TypeError, match=r"x requires gradients, .*fastbp\.torch"):
        arrays.TORCH.view(x.float().requires_grad_(), "x")
    with pytest.raises(TypeError, match=r"x has layout torch\.sparse_coo"):
        arrays.TORCH.view(x.float().to_sparse(), "x")


def test_arrays_of_cupy(monkeypatch):
    """As far as what CuPy documents tells it."""
    devices = []

    class NDArray:
        __module__, __cuda_array_interface__ = "cupy", None

        def __init__(self, shape, dtype):
            self.shape, self.dtype = shape, np.dtype(dtype)
            self.strides = np.empty(shape, dtype).strides
            self.data = SimpleNamespace(ptr=64, device_id=3)

    class OnDevice:
        def __init__(self, number):
            self.number = number

        def __enter__(self):
            devices.append(self.number)

        def __exit__(self, *_error):
            devices.append(None)

    cuda = SimpleNamespace(Device=OnDevice, get_current_stream=lambda: SimpleNamespace(ptr=9))
    cupy = SimpleNamespace(
        ndarray=NDArray, cuda=cuda, empty=NDArray, empty_like=lambda x, kind: NDArray(x.shape, kind)
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    x = NDArray((2, 5), BFLOAT16)
    assert arrays.is_on_device(x)
    found = arrays.view_of(x, "x", "x")
    assert found[:5] == (64, "bfloat16", (2, 5), (5, 1), 3)
    assert arrays.CUPY.current_stream(3) == 9
    for made in (layouts.new((2,), "bfloat16", found), layouts.new_like(found, "bfloat16")):
        assert made.dtype == "bfloat16"
    assert layouts.room((2,), "float32", found, run.Place(3, 9)).dtype == "float32"
    assert devices == [3, None] * 4


def test_arrays_of_jax_are_for_others_to_hand_over():
    class JaxArray:
        __module__ = "jaxlib._jax"

        def devices(self):
            return [SimpleNamespace(platform="gpu")]

    with pytest.raises(TypeError, match="x is a JAX array on a GPU"):
        fastbp.softmax(JaxArray())


def test_bfloat16_has_no_letters_of_its_own():
    assert arrays.dtype_of("<V2", "torch.bfloat16", "x") == "bfloat16"
    assert arrays.dtype_of("<V2", "", "x") == "void16"
    assert arrays.dtype_of("<f2", "float16", "x") == "float16"


# layouts and launches -----------------------------------------------------------------------------


def view(values):
    strides = tuple(s // values.itemsize for s in values.strides)
    return arrays.View(64, "float32", values.shape, strides, 0, arrays.OTHERS, values)


def test_rows_are_views_where_strides_allow_it():
    x = np.zeros((4, 3, 5), np.float32)
    assert layouts.rows_of(view(x), (2,)) == run.Rows(64, "float32", 5, 12, 5)
    assert layouts.rows_of(view(x), (1, 2)) == run.Rows(64, "float32", 15, 4, 15)
    assert layouts.rows_of(view(x[::-1]), (1, 2)) == run.Rows(64, "float32", -15, 4, 15)
    assert layouts.rows_of(view(x[:, 0]), (1,)) == run.Rows(64, "float32", 15, 4, 5)
    assert layouts.rows_of(view(x[:, :, :2]), (2,)) == run.Rows(64, "float32", 5, 12, 2)
    assert layouts.rows_of(view(x), (1,)) is None
    assert layouts.rows_of(view(x[:, ::2]), (2,)) is None
    assert layouts.rows_of(view(x[:, :, ::2]), (2,)) is None


def test_which_regime_depends_on_the_gpu_for_long_rows_alone():
    assert run.regime_of(32, 3, "float64") is run.TILE
    assert run.regime_of(1024, 3, "float64") is run.WARP
    assert run.regime_of(57_000, 1, "bfloat16", 232448) is run.BLOCK
    assert run.regime_of(57_000, 1, "bfloat16") is run.LONG
    assert run.regime_of(58_000, 1, "float32", 232448) is run.LONG


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_short_rows_need_no_more_of_the_chip_than_every_gpu_has(slots, dtype):
    for columns in range(1, 1025, 31):
        regime = run.regime_of(columns, slots, dtype)
        shape = run.geometry(regime, 1000, columns, slots, dtype)
        assert shape.chip <= run.CHIP
        assert shape.threads <= run.most_threads(dtype, regime)
        assert shape.threads % 32 == 0


def test_arguments_are_packed_as_kernels_take_them():
    given = (run.Rows(8, "float32", 3, 2, 3), run.Numbers(16, "int64"), 5, None,
             run.Real(0.5, "float32"), run.Real(0.25, "float64"))  # fmt: skip
    assert run.flat(given) == [8, 3, 2, 3, 16, 5, 0.5, 0.25]
    assert run.layout(given) == "QqqqQqfd"


def test_compiled_kernels_take_the_words_that_are_packed():
    pytest.importorskip("numba_cuda")
    rows, numbers = run.Rows(0, "float32", 0, 0, 0), run.Numbers(0, "float32")
    letters = {"u64": "Qq", "f32": "f", "f64": "d"}
    for kernel, given in (
        (copies.fill, (0, numbers, run.Real(0.0, "float32"))),
        (copies.fill, (0, run.Numbers(0, "float64"), run.Real(0.0, "float64"))),
        (calls.on_gpu(softmax.logsumexp_backward_rows), (numbers, numbers, rows, rows)),
    ):
        types = tuple(run.numba_type(a, run.WARP) for a in given)
        ptx = compiler.compiled(kernel, "k", types, (9, 0), run.SHORT_ROWS).ptx
        entry = ptx[ptx.index(".entry") : ptx.index("{", ptx.index(".entry"))]
        taken = re.findall(r"\.param \.(\w+) ", entry)
        assert len(taken) == len(run.layout(given))
        assert all(a in letters[b] for a, b in zip(run.layout(given), taken, strict=True))


def test_a_launch_is_done_again_for_arrays_laid_out_alike(gpu, monkeypatch):
    real, launches = run.execute, []
    monkeypatch.setattr(run, "execute", execute)
    function = driver.Function("code", None, 0)
    monkeypatch.setattr(run, "_load", lambda *_: function)
    monkeypatch.setattr(driver, "launch", lambda *given: launches.append(given))
    x, y = (gpu.array(some((4, 40), seed=i)) for i in range(2))
    for given in (x, y):
        out = fastbp.softmax(given)
        address, result = address_of(given._values), address_of(out._values)
        *before, words_ = launches[-1]
        assert before == [function, 1, 128, run.SCRATCH + 4 * 48 * 4, 0]
        assert words_ == [address, 40, 4, 40, result, 40, 4, 40]
    monkeypatch.setattr(run, "execute", None)
    fastbp.softmax(x, out=y)
    assert launches[-1][-1][4] == address_of(y._values)
    whole = gpu.array(some((5, 40)))._values
    with pytest.raises(ValueError, match="overlaps"):
        fastbp.softmax(DeviceArray(whole[1:]), out=DeviceArray(whole[:4]))
    monkeypatch.setattr(run, "execute", execute)
    part = gpu.array(some((4, 80))[:, :40])
    fastbp.softmax(part)
    assert launches[-1][-1][:2] == [address_of(part._values), 80]
    monkeypatch.setattr(run, "execute", real)
    fastbp.softmax(gpu.array(some((4, 41))))
    assert len(launches) == 4
    assert len(gpu.launched) == 1


def test_without_numba_cuda_it_says_what_to_install(monkeypatch):
    for name in ("cuda", "cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    for cached in (driver._driver, driver.device, driver._context):
        cached.cache_clear()
    x = DeviceArray(some((3, 4)))
    with pytest.raises(RuntimeError, match=r"pip install 'fastbp\[cuda\]'"):
        fastbp.softmax(x)
    driver._driver.cache_clear()
