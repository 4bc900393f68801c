"""Numbers as formulas see them on a GPU, computed by NumPy.

A `Number` has the operators of `fastbp.cuda.device.scalars.Scalar`, each rounded once, to the
number's own type, as a GPU does it. It may hold an array instead of one number: then a formula is
computed for many at once, of which it never knows. Tests import this module; it holds none itself.
"""

import ctypes
import sys
from ctypes.util import find_library

import numpy as np

from fastbp.elementary import MANTISSA_BITS

INTEGER = {32: np.uint32, 64: np.uint64}


def _fused(name, kind):
    """The C library's fma or fmaf, of numbers or arrays."""
    library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else find_library("m"))
    function = getattr(library, name)
    function.argtypes, function.restype = (kind,) * 3, kind
    return np.frompyfunc(function, 3, 1)


FMA = {32: _fused("fmaf", ctypes.c_float), 64: _fused("fma", ctypes.c_double)}


class Number:
    """A float32 or float64 of a thread."""

    __slots__ = ("value",)
    __hash__ = None  # == compares numbers
    has_wider = False  # sums of float32 are pairs
    on_gpu = True

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"Number({self.value!r})"

    lanes = 1

    def parts(self, _lanes):
        return [self]

    @property
    def bits(self):
        return self.value.itemsize * 8

    def literal(self, value):
        return Number(self.value.dtype.type(value))

    def of_my_type(self, other):
        """What NumPy holds of another number, or of a literal, which takes this one's type."""
        if type(other) is Number:
            if other.value.dtype != self.value.dtype:
                raise TypeError(f"{self.value.dtype} met {other.value.dtype}")
            return other.value
        if type(other) not in (float, int):
            raise TypeError(f"{self.value.dtype} met a {type(other).__name__}")
        return self.value.dtype.type(other)

    def __add__(self, other):
        return Number(self.value + self.of_my_type(other))

    def __sub__(self, other):
        return Number(self.value - self.of_my_type(other))

    def __mul__(self, other):
        return Number(self.value * self.of_my_type(other))

    def __truediv__(self, other):
        return Number(self.value / self.of_my_type(other))

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other):
        return Number(self.of_my_type(other) - self.value)

    def __rtruediv__(self, other):
        return Number(self.of_my_type(other) / self.value)

    def __neg__(self):
        return Number(-self.value)

    def __abs__(self):
        return Number(abs(self.value))

    def __lt__(self, other):
        return Truth(self.value < self.of_my_type(other))

    def __le__(self, other):
        return Truth(self.value <= self.of_my_type(other))

    def __gt__(self, other):
        return Truth(self.value > self.of_my_type(other))

    def __ge__(self, other):
        return Truth(self.value >= self.of_my_type(other))

    def __eq__(self, other):
        return Truth(self.value == self.of_my_type(other))

    def __ne__(self, other):
        return Truth(self.value != self.of_my_type(other))

    def fma(self, b, c):
        result = FMA[self.bits](self.value, self.of_my_type(b), self.of_my_type(c))
        kind = self.value.dtype
        return Number(result.astype(kind) if isinstance(result, np.ndarray) else kind.type(result))

    def widen(self):
        return self

    def narrow(self):
        if self.bits == 32:
            raise TypeError("a float32 was to become narrower")
        return Number(np.float32(self.value))

    def shift_to_exponent(self, mantissa_bits):
        integer = INTEGER[self.bits]
        return self.from_bits(self.value.view(integer) << integer(mantissa_bits))

    def split_exponent(self, lowest):
        integer, digits = INTEGER[self.bits], MANTISSA_BITS[self.bits]
        own = self.value.view(integer)
        k = (own - integer(lowest)) >> integer(digits)
        u = own - (k << integer(digits))
        top = {32: 0x4B000000, 64: 0x4330000000000000}[self.bits]
        return self.from_bits(k | integer(top)) - 2.0**digits, self.from_bits(u)

    def by_bits(self, other):
        a, b = self.value, np.asarray(self.of_my_type(other))
        integer = INTEGER[self.bits]
        swap = a.view(integer) <= b.view(integer)
        large, small = np.where(swap, b, a), np.where(swap, a, b)
        return Number(large[()]), Number(small[()])

    def differs(self, other):
        return self != other

    def masked(self, ones):
        return ones.where(self, 0.0)

    def from_bits(self, integers):
        return Number(integers.view(self.value.dtype))


class Truth:
    """Whether something holds, in a thread."""

    __slots__ = ("value",)
    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __bool__(self):
        raise TypeError("a formula branched on a number, which is not known while compiling")

    def __and__(self, other):
        return Truth(self.value & other.value)

    def __or__(self, other):
        return Truth(self.value | other.value)

    def where(self, a, b):
        like = next((n for n in (a, b) if type(n) is Number), Number(np.float64(0)))
        a, b = like.of_my_type(a), like.of_my_type(b)
        if isinstance(self.value, np.ndarray):
            return Number(np.where(self.value, a, b))
        return Number(a if self.value else b)
