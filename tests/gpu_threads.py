"""The GPU that `gpu_simulator` runs kernels on: its memory, and blocks of threads.

It raises a `MistakeError` where a real one might compute something else, or anything at all. Tests
import this module; it holds none itself.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu_numbers import Number
from greenlet import getcurrent, greenlet

from fastbp.cuda.staging import BLOCK, SCRATCH, THREAD, WARPS

LANES = 32


class MistakeError(Exception):
    """What a kernel does on a GPU is not what it should do, or nobody knows what it is."""


class OutOfBoundsError(MistakeError):
    """No such number."""


class MisalignedError(MistakeError):
    """16 bytes were to be read or written at once, from elsewhere than a multiple of 16."""


class RaceError(MistakeError):
    """Two threads use a number, one of them writes it, and nobody waits in between."""


class DivergentError(MistakeError):
    """Threads wait that will never meet."""


class DisagreementError(MistakeError):
    """Threads have folded their numbers and do not have the same."""


# memory -------------------------------------------------------------------------------------------


class Uses:
    """Who wrote a number last, and who has read it since."""

    def __init__(self):
        self.writer, self.readers = {}, {}

    def note(self, places, thread, writing):
        now = thread.moment
        for place in places:
            written, readers = self.writer.get(place, now), self.readers.setdefault(place, {})
            for before in (written, *readers.values()) if writing else (written,):
                if before is not now and not thread.is_after(before):
                    raise RaceError(f"{now} uses what {before} uses")
            if writing:
                self.writer[place] = now
                readers.clear()
            else:
                readers[now[:2]] = now


@dataclass(frozen=True)
class Memory:
    """Numbers in the GPU's memory or on the chip."""

    numbers: Any  # one after another
    exists: Any  # for each of them, whether it may be used; or None, for all
    address: int
    uses: Uses

    def use(self, k, writing):
        """p[k] exists, and no other thread uses it at this time."""
        if not 0 <= k < len(self.numbers) or (self.exists is not None and not self.exists[k]):
            raise OutOfBoundsError(f"number {k} of {len(self.numbers)}")
        size = self.numbers.itemsize
        start = self.address + k * size
        self.uses.note(range(start, start + size, min(size, 4)), getcurrent(), writing)

    def read(self, k):
        self.use(k, writing=False)
        value = self.numbers[k]
        if value.dtype.kind in "biu":
            return int(value)
        return Number(computed(value.dtype)(value))

    def write(self, k, value):
        kind = self.numbers.dtype
        value = value.value if type(value) is Number else value
        if type(value) is not (int if kind.kind in "iu" else computed(kind)):
            raise TypeError(f"{value!r} for a {kind}")
        self.use(k, writing=True)
        self.numbers[k] = kind.type(value)


def computed(kind):
    """The type in which numbers that are kept in this one are computed."""
    return np.float32 if kind.itemsize == 2 and kind.kind not in "iu" else kind.type


@dataclass(frozen=True)
class Row:
    """A pointer, and the size of the group of threads that go along it."""

    memory: Memory
    start: int
    group: int

    @property
    def size(self):
        return self.memory.numbers.itemsize

    def read(self, j):
        return self.memory.read(self.start + j)

    __getitem__ = read

    def write(self, j, value):
        self.memory.write(self.start + j, value)

    def address(self, j=0):
        return self.memory.address + (self.start + j) * self.size

    def literal(self, value):
        """A literal as a number of the type computed with; a number, of which it must be."""
        kind = self.memory.numbers.dtype
        if kind.kind in "iu":
            return int(value)
        return Number(Number(computed(kind)(0)).of_my_type(value))


@dataclass(frozen=True)
class Matrix:
    """Rows in the GPU's memory."""

    memory: Memory
    stride: int
    rows: int
    columns: int
    group: int
    staged: bool


# blocks of threads --------------------------------------------------------------------------------


class Thread(greenlet):
    """A thread of a block; it runs until it waits for others."""

    def __init__(self, block, index, kernel, arguments):
        super().__init__()
        self.block, self.index, self.kernel, self.arguments = block, index, kernel, arguments
        self.meeting = self.answer = None
        self.moment = (block.number, index, 0, 0)  # with how often its block and warp have met

    def run(self):
        with np.errstate(all="ignore"):
            self.kernel(*self.arguments)

    def is_after(self, moment):
        """Whether all that another thread did in that moment is over, and to be seen."""
        block, index, of_block, of_warp = moment
        _, me, mine, my_warps = self.moment
        if block != self.block.number:
            return False
        same_warp = index // LANES == me // LANES
        return index == me or of_block < mine or (same_warp and of_warp < my_warps)

    def meet(self, group, fold=None, value=None):
        """Wait for the group; with a fold, exchange values, which shows a warp no memory."""
        if group == THREAD:
            return value
        frame, site = sys._getframe(1), []
        while frame.f_code is not Thread.run.__code__:
            site.append((frame.f_code.co_name, frame.f_lasti))
            frame = frame.f_back
        self.meeting = (group, site, fold, value)
        self.parent.switch()
        block, index, of_block, of_warp = self.moment
        if group == BLOCK:
            of_block += 1
        elif fold is None:
            of_warp += 1
        self.moment = (block, index, of_block, of_warp)
        return self.answer


class Block:
    """Threads that share the chip's memory."""

    def __init__(self, launch, number, kernel, arguments):
        self.launch, self.number = launch, number
        self.on_chip = bytearray(b"\xff") * (launch.chip - SCRATCH)  # NaN in both types
        self.uses = Uses()
        self.threads = [Thread(self, i, kernel, arguments) for i in range(launch.threads)]

    def chip(self, kind):
        return Memory(np.frombuffer(self.on_chip, kind), None, SCRATCH, self.uses)

    def run(self, order):
        ready = list(self.threads)
        while ready:
            order.shuffle(ready)
            for thread in ready:
                thread.switch()
            ready = self.released()

    def released(self):
        """The threads that need no longer wait."""
        warps = [self.threads[i : i + LANES] for i in range(0, len(self.threads), LANES)]
        met = [warp for warp in warps if self.have_met(warp, WARPS)]
        if not met and self.have_met(self.threads, BLOCK):
            met = [self.threads]
        for group in met:
            _, _, fold, _ = group[0].meeting
            if fold is not None:
                for thread, answer in zip(group, fold([t.meeting[3] for t in group]), strict=True):
                    thread.answer = answer
        ready = [thread for group in met for thread in group]
        if not ready and not all(thread.dead for thread in self.threads):
            raise DivergentError(self.described())
        return ready

    def have_met(self, threads, group):
        living = [t for t in threads if not t.dead]
        if not living or any(t.meeting[0] != group for t in living):
            return False
        if len(living) < len(threads) or any(t.meeting[1] != living[0].meeting[1] for t in living):
            raise DivergentError(self.described())
        return True

    def described(self):
        places = {}
        for thread in self.threads:
            where = "the end" if thread.dead else " < ".join(name for name, _ in thread.meeting[1])
            places.setdefault(where, []).append(thread.index)
        return f"block {self.number}: " + "; ".join(f"{k}: threads {v}" for k, v in places.items())
