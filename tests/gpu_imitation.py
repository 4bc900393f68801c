"""Arrays that say they live on a GPU, though NumPy holds them, and kernels run by the simulator.

So whole functions can be tested without a GPU: checks, launches and results. `imitate` makes
fastbp take this for a GPU. Tests import this module; it holds none itself.
"""

import random

import numpy as np
from gpu_numbers import Number
from gpu_simulator import argument
from gpu_threads import Block, Uses
from gpu_words import simulated
from halves import half

from fastbp.cuda import arrays, driver, run
from fastbp.cuda.arrays import Library, View

MULTIPROCESSORS = 1  # so that a block has several long rows
FEWER_THREADS = {"tile": 32, "warp": 64, "block": 64, "long": 64}

memory = {}  # address -> the bytes that begin there


class Array:
    """An array that is not NumPy's."""

    def __init__(self, values):
        values = np.asarray(values)
        # Of nothing, too, there is something with an address.
        room = np.zeros(max(1, values.size) * values.itemsize + 32, np.uint8)
        start = -room.ctypes.data % 16
        self.values = np.ndarray(values.shape, values.dtype, room, start)
        self.values[...] = values
        end = start + max(1, values.size) * values.itemsize
        memory[room.ctypes.data + start] = room[start:end]

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)

    @property
    def T(self):  # noqa: N802
        """The same memory, its axes exchanged."""
        other = object.__new__(Array)
        other.values = self.values.T
        return other

    @property
    def __cuda_array_interface__(self):
        raise AssertionError("fastbp should look at the library's own attributes")


def view_of(x, _name):
    v = x.values
    strides = tuple(s // v.itemsize for s in v.strides)
    return View(v.ctypes.data, v.dtype.name, v.shape, strides, 0, LIBRARY, x)


def empty(shape, dtype, _like):
    return Array(np.full(shape, 12345, half(dtype) if "float" in dtype else dtype))


LIBRARY = Library(
    "imitation", lambda _x: True, view_of, lambda _device: 7, empty,
    lambda like, dtype: empty(like.shape, dtype, like), has_pool=True,
)  # fmt: skip


def place_in_memory(address, dtype, count=None):
    """The numbers from that address on, as many as there are."""
    if not address:  # of nothing
        return np.empty(0, dtype)
    base = max(a for a in memory if a <= address)
    rest = memory[base][address - base :]
    size = dtype.itemsize
    rest = rest[: len(rest) // size * size if count is None else count * size]
    return rest.view(dtype)


def as_argument(value, regime, uses):
    if isinstance(value, run.Reals):
        return tuple(Number(np.dtype(value.dtype).type(v)) for v in value.values)
    if isinstance(value, run.Real):
        return Number(np.dtype(value.dtype).type(value.value))
    if isinstance(value, run.Numbers):
        return argument(place_in_memory(value.address, dtype_of(value.dtype)), regime, uses)
    if isinstance(value, run.Rows):
        dtype = dtype_of(value.dtype)
        numbers = place_in_memory(
            value.address, dtype, (value.rows - 1) * value.stride + value.columns
        )
        strides = (value.stride * dtype.itemsize, dtype.itemsize)
        matrix = np.lib.stride_tricks.as_strided(numbers, (value.rows, value.columns), strides)
        return argument(matrix, regime, uses)
    return argument(value, regime, uses)


def dtype_of(name):
    return half(name) if name in ("float16", "bfloat16") else np.dtype(name)


def execute(kernel, regime, shape, _most, _place, arguments):
    """In fewer threads than on a GPU."""
    fewer = min(FEWER_THREADS[regime.name], shape.threads)
    rows = next((a for a in arguments if isinstance(a, run.Rows)), None)
    blocks, chip = shape.blocks, shape.chip - run.SCRATCH
    if rows is not None and regime in (run.TILE, run.WARP):
        per_block = fewer if regime is run.TILE else fewer // 32
        blocks, chip = -(-rows.rows // per_block), chip * fewer // shape.threads
    shape = run.Launch(blocks, fewer, chip + run.SCRATCH)
    order, uses = random.Random(blocks), Uses()  # noqa: S311
    given = [as_argument(a, regime, uses) for a in arguments]
    numbers = list(range(shape.blocks))
    order.shuffle(numbers)
    with np.errstate(all="ignore"):
        for number in numbers:
            Block(shape, number, simulated(kernel), given).run(order)


def fetch(address, size, _stream, _device):
    return place_in_memory(address, np.dtype(np.uint8), size).tobytes()


def imitate(patch, regime=None):
    """Take this for a GPU; rows are shared as the regime says."""
    patch.setitem(arrays.LIBRARIES, "gpu_imitation", LIBRARY)
    arrays.library_of.cache_clear()
    arrays._may_be_on_device.cache_clear()
    device = driver.Device(0, (9, 0), 48 * 1024, MULTIPROCESSORS)
    patch.setattr(driver, "device", lambda _index: device)
    patch.setattr(driver, "fetch", fetch)
    patch.setattr(run, "execute", execute)
    if regime is not None:
        patch.setattr(run, "regime_on", lambda *_: regime)
    memory.clear()
