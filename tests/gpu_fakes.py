"""A GPU that is none, for tests of what happens before a kernel is launched.

Arrays are NumPy's memory behind `__cuda_array_interface__`; instead of the driver, `Gpu` launches
kernels in the simulator: it finds out which memory is at the addresses that they are given. Tests
import this module; it holds none itself.
"""

import random

import gpu_simulator
import ml_dtypes
import numpy as np
from gpu_numbers import Number
from gpu_threads import Block, Matrix, Memory, OutOfBoundsError, Row, Uses
from gpu_words import simulated

from fastbp.cuda import arrays, calls, driver, run

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": BFLOAT16}


class Foreign:
    """An array that NumPy cannot read, because it would be in a GPU's memory."""

    __module__ = "elsewhere.arrays"  # a library that nobody knows
    interface = 3

    def __init__(self, values, stream=None, read_only=False):
        self._values, self._stream, self._read_only = values, stream, read_only

    @property
    def dtype(self):
        return self._values.dtype

    @property
    def __cuda_array_interface__(self):
        x = self._values
        return {
            "version": self.interface, "shape": x.shape, "typestr": x.dtype.str,
            "data": (address_of(x) if x.size else 0, self._read_only),
            "strides": None if x.flags.c_contiguous else x.strides, "stream": self._stream,
        }  # fmt: skip

    def __array__(self, *_args, **_kwargs):
        raise AssertionError("a copy to the host")


def address_of(x):
    return x.__array_interface__["data"][0]


class DeviceArray(Foreign):
    """One of a library that is made known below."""


class Gpu:
    """Finds memory by its address, and runs kernels on it."""

    def __init__(self):
        self.owners, self.launched, self.followed, self.seed = [], [], [], 0

    def array(self, values, kind=DeviceArray, **options):
        """A copy of values, with the same gaps and order; it may be a view."""
        values = np.asarray(values)
        base = values if values.base is None else values.base
        while base.base is not None:
            base = base.base
        room = np.frombuffer(bytearray(base.tobytes(order="A") or b"\0"), np.uint8)
        self.owners.append(room)
        offset = address_of(values) - address_of(base)
        copy = np.ndarray(values.shape, values.dtype, room, offset, values.strides)
        return kind(copy, **options)

    def empty(self, shape, dtype):
        """New memory, full of what nobody should ever see."""
        values = np.empty(shape, DTYPES.get(dtype, dtype))
        if values.size:
            values.view(np.uint8 if values.ndim else values.dtype)[...] = 0x7B
        return self.array(values)

    def at(self, address, dtype):
        """All memory from there on to the end."""
        dtype = np.dtype(DTYPES.get(dtype, dtype))
        for room in self.owners:
            first = address_of(room)
            if first <= address < first + room.nbytes:
                count = (room.nbytes - (address - first)) // dtype.itemsize
                return np.ndarray(count, dtype, room, address - first)
        raise OutOfBoundsError(f"address {address}")

    def execute(self, kernel, regime, shape, most, place, arguments):
        assert shape.threads <= most
        self.launched.append((kernel, regime.name, shape, place, arguments))
        assert len(run.layout(arguments)) == len(run.flat(arguments))
        uses, self.seed = Uses(), self.seed + 1
        given = [self.argument(a, regime, uses) for a in arguments]
        threads = 32
        chip = shape.chip - run.SCRATCH
        if regime in (run.TILE, run.WARP):
            chip = chip * threads // shape.threads
        small = run.Launch(min(shape.blocks, 3), threads, run.SCRATCH + max(chip, 0))
        for number in range(small.blocks):
            block = Block(small, number, simulated(kernel), given)
            block.run(random.Random(self.seed))  # noqa: S311

    def argument(self, given, regime, uses):
        if isinstance(given, run.Rows):
            numbers = self.at(given.address, given.dtype)
            memory = Memory(numbers, None, given.address, uses)
            return Matrix(
                memory, given.stride, given.rows, given.columns, regime.group, regime.staged
            )
        if isinstance(given, run.Numbers):
            numbers = self.at(given.address, given.dtype)
            return Row(Memory(numbers, None, given.address, uses), 0, 1)
        if isinstance(given, run.Real):
            return Number(np.dtype(given.dtype).type(given.value))
        return gpu_simulator.argument(given, regime, uses)


def fake_gpu(monkeypatch):
    """Have fastbp find this one, and no other, until the test is over."""
    fake = Gpu()

    class Room:
        def __init__(self, size, index, stream):
            self.owner = fake.empty((size,), "uint8")
            self.address = address_of(self.owner._values) if size else 0

    library = arrays.Library(
        "fake", lambda _x: True, arrays.view_of_interface, lambda _device: 7,
        lambda shape, dtype, _like: fake.empty(shape, dtype),
        lambda like, dtype: fake.empty(like.shape, dtype),
    )  # fmt: skip
    monkeypatch.setitem(arrays.LIBRARIES, DeviceArray.__module__, library)
    arrays.library_of.cache_clear()
    monkeypatch.setattr(run, "execute", fake.execute)
    monkeypatch.setattr(calls, "_launched", {})
    monkeypatch.setattr(driver, "device", lambda index: driver.Device(index, (9, 0), 232448, 132))
    monkeypatch.setattr(driver, "device_of", lambda address: 0)
    monkeypatch.setattr(driver, "Memory", Room)
    monkeypatch.setattr(driver, "follow", lambda *streams: fake.followed.append(streams))
    return fake


def values_of(result):
    assert type(result) is DeviceArray
    return result._values


def some(shape, dtype="float32", seed=0):
    return (4 * np.random.default_rng(seed).standard_normal(shape)).astype(DTYPES[dtype])


def same(result, expected, dtype="float32"):
    found = values_of(result)
    assert found.dtype == np.dtype(DTYPES[dtype])
    assert found.shape == expected.shape
    tolerance = {"float32": 1e-6, "float64": 1e-14, "float16": 1e-3, "bfloat16": 8e-3}[dtype]
    np.testing.assert_allclose(
        found.astype(np.float64), np.asarray(expected).astype(np.float64), tolerance, 1e-7
    )
