"""Compiling kernels, keeping them, and running them on one thread or several.

A kernel is a plain function `kernel(first, last, *arguments)` that does the rows, elements or
blocks first <= i < last. It is compiled when first called with arguments of new types: once as it
is, for small inputs, without starting any thread pool; and, when an input is large, once more
inside a parallel loop that hands the same code a range for each thread. As no kernel's result
depends on the ranges, both return the same bits.

This is the only place that calls Numba's compiler.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import numpy as np

Kernel = Callable[..., Any]

# Sharing work costs 2 to 3 µs: about as much as 10⁴ exponentials take.
PARALLEL_FROM = 32768

FORMULAS = ("fastbp.elementary", "fastbp.formulas")  # their functions are traced, not compiled

# Compiled kernels, by kernel and the key that tells its arguments' types apart.
entries: dict[Any, Callable[..., Any]] = {}
_compiling = threading.RLock()
_launching = threading.Lock()  # for a threading layer that must not be entered twice
_layer_is_thread_safe = False
_threads_started = False
_forked_with_threads = False
_taught: set[Any] = set()


def serial(kernel: Kernel, key: Any, n: int, *arguments: Any) -> Any:
    """kernel(0, n, *arguments) in this thread. `key` tells the arguments' types apart."""
    entry = entries.get((kernel, key))
    if entry is None:
        entry = _build(kernel, key, arguments, parallel=False)
    return entry(0, n, *arguments)


def launch(kernel: Kernel, key: Any, n: int, work: int, grain: int, *arguments: Any) -> None:
    """kernel over range(n): in this thread if the `work` is little, else shared among threads.

    Ranges begin at multiples of `grain`.
    """
    if work >= PARALLEL_FROM and n > grain:
        threads = usable_threads()
        if threads > 1:
            _launch_parallel(kernel, key, n, min(threads, -(-n // grain)), grain, arguments)
            return
    serial(kernel, key, n, *arguments)


def usable_threads() -> int:
    """As many threads as the caller allows Numba to use; 1 where starting them would not be safe.

    After a fork, the child has none of its parent's threads, and GNU OpenMP aborts it if it asks.
    """
    if _forked_with_threads:
        return 1
    from numba import get_num_threads

    return int(get_num_threads())


def _launch_parallel(
    kernel: Kernel, key: Any, n: int, chunks: int, grain: int, arguments: tuple[Any, ...]
) -> None:
    global _threads_started
    entry = entries.get((kernel, key, "parallel"))
    if entry is None:
        entry = _build(kernel, key, arguments, parallel=True)
    _threads_started = True
    if _layer_is_thread_safe:
        entry(n, chunks, grain, arguments)
    elif _launching.acquire(blocking=False):
        try:
            entry(n, chunks, grain, arguments)
            _note_threading_layer()
        finally:
            _launching.release()
    else:  # another Python thread is using the pool
        serial(kernel, key, n, *arguments)


def _note_threading_layer() -> None:
    global _layer_is_thread_safe
    from numba import threading_layer

    _layer_is_thread_safe = threading_layer() in ("omp", "tbb")


def _after_fork() -> None:
    global _forked_with_threads, _compiling, _launching
    _forked_with_threads = _forked_with_threads or _threads_started
    # Another thread of the parent may have held them at the fork.
    _compiling, _launching = threading.RLock(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# compiling --------------------------------------------------------------------------------------


def _build(
    kernel: Kernel, key: Any, arguments: tuple[Any, ...], parallel: bool
) -> Callable[..., Any]:
    # Here and below, imported when needed: importing fastbp must not start the compiler.
    from numba import njit
    from numba.core import types
    from numba.core.errors import NumbaWarning

    from . import cache

    with _compiling, warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaWarning)
        full_key = (kernel, key, "parallel") if parallel else (kernel, key)
        if full_key in entries:
            return entries[full_key]
        kinds = tuple(numba_type(a) for a in arguments)
        if parallel:
            function = _shared(kernel)
            signature = (types.intp, types.intp, types.intp, types.Tuple(kinds))
        else:
            function = kernel
            signature = (types.intp, types.intp, *kinds)
        dispatcher = njit(nogil=True, error_model="numpy", parallel=parallel)(function)
        name = full_name(kernel)
        compiled = cache.load(name, signature, dispatcher.targetctx)
        if compiled is None:
            _teach(kernel)
            dispatcher.compile(signature)
            compiled = dispatcher.overloads[signature]
            cache.save(name, signature, dispatcher.targetctx, compiled)
        # Called directly: Numba's dispatcher would take 1 µs to find what is known here.
        entries[full_key] = compiled.entry_point
        return entries[full_key]


def _shared(kernel: Kernel) -> Kernel:
    """The kernel as the body of a parallel loop."""
    from numba import prange

    def shared(n: int, chunks: int, grain: int, arguments: tuple[Any, ...]) -> None:
        grains = (n + grain - 1) // grain
        for c in prange(chunks):
            first = c * grains // chunks * grain
            last = min(n, (c + 1) * grains // chunks * grain)
            kernel(first, last, *arguments)

    return shared


def full_name(function: Any) -> str:
    """A name that no other function of fastbp has: it tells what a closure closes over."""
    closed = [cell.cell_contents for cell in function.__closure__ or ()]
    names = ", ".join(full_name(c) for c in closed if isinstance(c, FunctionType))
    return f"{function.__module__}.{function.__qualname__}({names})"


def numba_type(argument: Any) -> Any:
    """The type under which a kernel takes an argument: arrays with any strides."""
    from numba.core import types
    from numba.np.numpy_support import from_dtype

    if isinstance(argument, np.ndarray):
        return types.Array(from_dtype(argument.dtype), argument.ndim, "A")
    if argument is None:
        return types.none
    if isinstance(argument, bool):
        return types.boolean
    return types.intp if isinstance(argument, int) else types.float64


def _teach(function: Any) -> None:
    """Make Numba know every function of fastbp that this one calls.

    Formulas are traced and the words of `vectors` have their own meaning (in `simd` and `words`);
    all others are compiled as they stand.
    """
    from numba.extending import register_jitable

    from . import simd, words  # noqa: F401  (words makes itself known)

    if function in _taught or function.__module__ == "fastbp.cpu.vectors":
        return
    _taught.add(function)
    if function.__module__ in FORMULAS:
        simd.teach(function)
        return
    register_jitable(error_model="numpy", forceinline=True)(function)
    for callee in _callees(function):
        _teach(callee)


def _callees(function: FunctionType) -> Iterator[FunctionType]:
    names: set[str] = set()
    pending: list[CodeType] = [function.__code__]
    while pending:
        code = pending.pop()
        names.update(code.co_names)
        pending.extend(c for c in code.co_consts if isinstance(c, CodeType))
    found = [function.__globals__.get(name) for name in names]
    found += [cell.cell_contents for cell in function.__closure__ or ()]
    for callee in found:
        if isinstance(callee, FunctionType) and callee.__module__.startswith("fastbp."):
            yield callee
