"""A GPU in Python, to run kernels without one.

`simulated(function)` is the function with words that mean something here and with simulated
functions in place of those of fastbp that it calls; formulas compute `Number`s. `run_simulated`
runs a kernel so, thread by thread, in an order drawn by chance. It raises a `MistakeError` where a
GPU might compute something else, or anything at all: numbers outside of an array or of the chip's
memory, a 16-byte access to an address that is no multiple of 16, a number that one thread writes
and another one reads or writes without having waited, threads that wait for each other in vain,
or that fold their numbers and do not agree.

Tests import this module; it holds none itself.
"""

import random

import numpy as np
from gpu_numbers import Number
from gpu_threads import Block, Matrix, Memory, Row, Uses
from gpu_words import simulated

from fastbp.cuda.run import TILE, WARP, Launch, Real, geometry
from fastbp.cuda.staging import SCRATCH, THREAD


def run_simulated(
    kernel, arguments, regime, rows, columns, slots, dtype, seed=0, blocks=None, threads=64
):
    """Launch a kernel, of rows shared as `regime` says or, if that is None, of elements.

    Arguments are matrices and rows (NumPy arrays), `Real` numbers, integers and None. Blocks have
    fewer threads than on a GPU; how many there are may be given, too.
    """
    order, uses = random.Random(seed), Uses()  # noqa: S311
    launch = Launch(2, threads, SCRATCH)
    if regime is not None:
        launch = geometry(regime, rows, columns, slots, np.dtype(dtype).name)
        fewer = min(threads, launch.threads)
        chip = launch.chip - SCRATCH
        if regime in (TILE, WARP):
            chip = chip * fewer // launch.threads
        launch = Launch(launch.blocks, fewer, SCRATCH + chip)
    launch = launch._replace(blocks=blocks or launch.blocks)
    given = [argument(a, regime, uses) for a in arguments]
    numbers = list(range(launch.blocks))
    order.shuffle(numbers)
    with np.errstate(all="ignore"):
        for number in numbers:
            Block(launch, number, simulated(kernel), given).run(order)


def argument(value, regime, uses):
    """What a kernel is handed; its parts, if it is a tuple."""
    if isinstance(value, tuple):
        return tuple(argument(part, regime, uses) for part in value)
    if isinstance(value, Real):
        return Number(np.dtype(value.dtype).type(value.value))
    if not isinstance(value, np.ndarray):
        return value
    rows, columns = value.shape if value.ndim == 2 else (1, value.size)
    stride = value.strides[0] // value.itemsize if value.ndim == 2 else 0
    flat = np.lib.stride_tricks.as_strided(
        value, (max(0, (rows - 1) * stride + columns) if rows else 0,), (value.itemsize,)
    )
    exists = bytearray(len(flat))
    for i in range(rows):
        exists[i * stride : i * stride + columns] = b"\1" * columns
    memory = Memory(flat, exists, value.__array_interface__["data"][0], uses)
    if value.ndim == 1:
        return Row(memory, 0, THREAD)
    return Matrix(memory, stride, rows, columns, regime.group, regime.staged)


def in_memory(values, beyond_16=0, gap=0):
    """A copy so many numbers behind a multiple of 16 bytes, its rows so many numbers apart."""
    values = np.asarray(values)
    rows, columns = values.shape if values.ndim == 2 else (1, values.size)
    size = values.itemsize
    room = np.zeros(rows * (columns + gap) * size + 32 + beyond_16 * size, np.uint8)
    start = -room.__array_interface__["data"][0] % 16 + beyond_16 * size
    copy = np.ndarray((rows, columns), values.dtype, room, start, ((columns + gap) * size, size))
    copy[...] = values
    return copy if values.ndim == 2 else copy[0]
