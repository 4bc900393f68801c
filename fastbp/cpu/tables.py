"""The tables of doors (see `doors`), filled by Python."""

import ctypes
import struct
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from . import doors
from .run import door_address, team

# The three words of a rule for an argument, and the object whose address is among them.
Rule = tuple[int, int, int, Any]

METH_FASTCALL = 0x80
# Where NumPy's table of functions has them: part of its binary interface.
NEW_FROM_DESCR, SCALAR = 94, 60

# What is in a table of words is exchanged while nobody looks: under Python's lock.
HAS_LOCK = getattr(sys, "_is_gil_enabled", lambda: True)()

ANY_FLOAT: Rule = (doors.ANY_FLOAT, 0, 0, None)
ANYTHING: Rule = (doors.ANYTHING, 0, 0, None)


class Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@cache
def _method() -> Method:
    return Method(b"door", door_address(), METH_FASTCALL, None)


@cache
def _head() -> tuple[int, ...]:
    """What every table begins with, but for the number of entries."""
    try:
        from numpy._core import multiarray
    except ImportError:  # NumPy 1
        from numpy.core import multiarray  # type: ignore[no-redef]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_size_t, [ctypes.py_object, ctypes.c_char_p]
    functions = ctypes.c_size_t * (NEW_FROM_DESCR + 1)
    of_numpy = functions.from_address(get_pointer(multiarray._ARRAY_API, None))
    known = (None, np.ndarray, float, np.float64, np.float32, int, team)
    return *map(id, known), of_numpy[NEW_FROM_DESCR], of_numpy[SCALAR]


class Table:
    """The table of one door: entries with names, of which the oldest go when it is full."""

    def __init__(self) -> None:
        self._words = np.zeros(doors.FIRST + doors.MOST_ENTRIES * doors.ENTRY, np.int64)
        self._words[doors.NONE : doors.FIRST] = _head()
        self._names: list[Any] = [None] * doors.MOST_ENTRIES
        # Objects whose addresses are in the entries: no other one may take their place.
        self._held: list[Any] = [None] * doors.MOST_ENTRIES
        self._next = 0
        make = ctypes.pythonapi.PyCFunction_NewEx
        make.restype = ctypes.py_object
        make.argtypes = [ctypes.POINTER(Method), ctypes.py_object, ctypes.c_void_p]
        self.door: Callable[..., Any] = make(_method(), self._words, None)

    def __contains__(self, name: Any) -> bool:
        return name in self._names

    def add(
        self, name: Any, *, code: int, rules: Sequence[Rule], told: Sequence[int],
        result: int = doors.NOTHING, result_dtype: Any = None, out: int = 0,
        loss: int = doors.NOTHING, loss_dtype: Any = None, upstream: int = 0,
    ) -> None:  # fmt: skip
        """A new entry, see `doors`."""
        i = self._next
        self._next = (i + 1) % doors.MOST_ENTRIES
        entry = np.zeros(doors.ENTRY, np.int64)
        entry[: doors.TOLD] = (
            code, result, id(result_dtype), out, loss, id(loss_dtype), upstream, len(rules)
        )  # fmt: skip
        entry[doors.TOLD : doors.TOLD + len(told)] = told
        entry[doors.RULES : doors.RULES + 3 * len(rules)] = np.ravel([r[:3] for r in rules])
        start = doors.FIRST + i * doors.ENTRY
        self._words[start : start + doors.ENTRY] = entry
        self._words[doors.COUNT] = max(i + 1, self._words[doors.COUNT])
        self._names[i] = name
        self._held[i] = result_dtype, loss_dtype, [r[3] for r in rules]


def same(value: Any) -> Rule:
    """The rule for an option: a float or an int of this value, or this very object."""
    if type(value) is float:
        return doors.FLOAT, bits_of(value), 0, None
    if type(value) is int and -(2**63) <= value < 2**63:
        return doors.INT, value, 0, None
    return doors.SAME, id(value), 0, value


def array(like: np.ndarray[Any, Any]) -> Rule:
    """The rule for an array of the same dtype and number of axes."""
    kind = ctypes.c_int64.from_address(id(like.dtype) + doors.KIND).value
    return doors.ARRAY, kind, like.ndim, None


def bits_of(value: float) -> int:
    """A float64 as an integer of its bits."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])
