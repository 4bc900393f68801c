"""What operations would launch on a GPU, told by arrays that are nowhere: nothing is computed.

It holds no tests itself.
"""

import contextlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from gpu_arrays import each

import fastbp
from fastbp.cuda import arrays, driver, run
from fastbp.cuda.label_losses import NO_ROW
from fastbp.testing import OPS, Arguments
from fastbp.testing.inputs import as_dtype

pytest.importorskip("ml_dtypes")  # for bfloat16

HOPPER = driver.Device(0, (9, 0), 232_448, 132)

# These take NumPy arrays alone.
ON_CPUS = {name for name in OPS if name.startswith("linear")}
ON_GPUS = [name for name in OPS if name not in ON_CPUS]

# One of each function and kind of targets.
FIRST = [
    name for i, name in enumerate(ON_GPUS)
    if name.partition("[")[0] not in [other.partition("[")[0] for other in ON_GPUS[:i]]
    or name.endswith(("with_grad[probabilities]", "with_grad[sparse]"))
]  # fmt: skip

DTYPES = ("float32", "float64", "float16", "bfloat16")
# Each way in which threads share rows has one; and there is one that blocks share, if they can.
COLUMNS = (7, 100, 2000, 60_000, 70_000)


class Nowhere:
    """An array on a GPU that does not exist."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = tuple(shape), dtype

    @property
    def __cuda_array_interface__(self):
        typestr = "|V2" if self.dtype == "bfloat16" else np.dtype(self.dtype).str
        return {"shape": self.shape, "typestr": typestr, "data": (4096, False), "version": 3}


class Launched(NamedTuple):
    """A kernel and what it was launched with."""

    kernel: Any
    regime: run.Regime
    threads: int  # of a block, at most
    arguments: tuple[Any, ...]

    @property
    def key(self):
        """What its code depends on."""
        return self.kernel, self.regime.name, self.threads, run.kinds(self.arguments)

    @property
    def dtypes(self):
        """Of all its arguments."""
        return {a.dtype for a in self.arguments if isinstance(a, tuple)}


@contextlib.contextmanager
def recorded(device=HOPPER):
    """The list of what is launched meanwhile."""
    found = []

    def execute(kernel, regime, shape, most, place, arguments):
        assert shape.threads <= most
        found.append(Launched(kernel, regime, most, arguments))

    class Memory:
        def __init__(self, size, index, stream):
            self.address = 4096

    library = arrays.Library(
        "nowhere", lambda _x: True, arrays.view_of_interface, lambda _device: 0,
        lambda shape, dtype, _like: Nowhere(shape, dtype),
        lambda like, dtype: Nowhere(like.shape, dtype),
    )  # fmt: skip
    caches = arrays.library_of, arrays._may_be_on_device, run._regime
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(arrays.LIBRARIES, Nowhere.__module__.partition(".")[0], library)
        for cached in caches:
            cached.cache_clear()
        patch.setattr(run, "execute", execute)
        patch.setattr(driver, "device", lambda _index: device)
        patch.setattr(driver, "device_of", lambda _address: 0)
        patch.setattr(driver, "Memory", Memory)
        patch.setattr(driver, "follow", lambda *_streams: None)
        patch.setattr(driver, "fetch", lambda *_where: np.int64(NO_ROW).tobytes())
        yield found
    for cached in caches:
        cached.cache_clear()


def masked(function):
    """A call that sees a part of its input."""
    return lambda x, columns: function(x, where=Nowhere((3, columns), "bool"))


def by_class(x, columns):
    """Margins whose classes lie one after another."""
    flat, labels = Nowhere((3 * columns,), x.dtype), Nowhere((3,), "int32")
    return fastbp.softmax_cross_entropy_grad_hess(flat, labels, layout="classes")


# What is launched beside what the table has: masks, and arrays in another order or of another type.
MORE = {
    "softmax[where]": masked(fastbp.softmax),
    "log_softmax[where]": masked(fastbp.log_softmax),
    "logsumexp[where]": masked(fastbp.logsumexp),
    "softmax[axis=0]": lambda x, _columns: fastbp.softmax(x, 0),
    "softmax_cross_entropy_grad_hess[classes]": by_class,
    "softmax[of int32]": lambda _x, columns: fastbp.softmax(Nowhere((3, columns), "int32")),
}


def launches_of(name, dtype, columns, device=HOPPER):
    """What an operation launches for rows of that length."""
    shape = (3, columns)
    if name in MORE:
        with recorded(device) as found:
            MORE[name](Nowhere(shape, dtype), columns)
        return found
    given = OPS[name].inputs(np.random.default_rng(0), shape, as_dtype(dtype))

    def move(value):
        return Nowhere(value.shape, value.dtype.name) if isinstance(value, np.ndarray) else value

    named = {key: each(move, value) for key, value in given.kwargs.items()}
    with recorded(device) as found:
        OPS[name].call(Arguments(each(move, given.args), named))
    return found
