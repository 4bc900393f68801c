"""Compiling kernels, keeping them, and running them on one thread or several.

A kernel is a plain function `kernel(first, last, *arguments)` that does the rows, elements or
blocks first <= i < last. It is compiled when first called with arguments of new types. Small inputs
call it as it is, without starting any thread pool; for large ones a parallel loop, compiled once
for all kernels of such arguments, calls the same code with a range for each thread. As no kernel's
result depends on the ranges, both return the same bits.

This is the only place that calls Numba's compiler.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from .elementwise import PARALLEL_FROM

Kernel = Callable[..., Any]

FORMULAS = ("fastbp.elementary", "fastbp.formulas.")  # their functions are traced, not compiled

# Compiled kernels, by kernel and the key that tells its arguments' types apart.
entries: dict[Any, Callable[..., Any]] = {}
_addresses: dict[Any, int] = {}  # of their native code
_loops: dict[Any, Callable[..., Any]] = {}  # parallel loops, by the types of the arguments
_functions: dict[Any, Callable[..., Any]] = {}  # what is no kernel, by function and types
_kept: list[Any] = []  # what owns that code
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
        entry = _build(kernel, key, arguments)
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
        entry = _build_parallel(kernel, key, arguments)
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


def shared_function(source: Kernel, *arguments: Any) -> Kernel:
    """A compiled function of arguments like these, which is no kernel: it has no range."""
    with _compiling:
        signature = tuple(numba_type(a) for a in arguments)
        if (source, signature) not in _functions:
            compiled = _compiled(full_name(source), source, signature, parallel=False)
            _functions[source, signature] = compiled.entry_point
        return _functions[source, signature]


def address(kernel: Kernel, key: Any) -> int | None:
    """Where the code of a kernel stands, if it has been compiled."""
    return _addresses.get((kernel, key))


def _build(kernel: Kernel, key: Any, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """Compile a kernel, or load it."""
    # Here and below, imported when needed: importing fastbp must not start the compiler.
    from numba.core import types

    with _compiling:
        if (kernel, key) not in entries:
            kinds = [numba_type(a) for a in arguments]
            signature = (types.intp, types.intp, *kinds)
            compiled = _compiled(full_name(kernel), kernel, signature, parallel=False)
            _addresses[kernel, key] = compiled.library.get_pointer_to_function(
                compiled.fndesc.llvm_func_name
            )
            # Called directly: Numba's dispatcher would take 1 µs to find what is known here.
            entries[kernel, key] = compiled.entry_point
        return entries[kernel, key]


def _build_parallel(kernel: Kernel, key: Any, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """The kernel in a parallel loop."""
    from numba.core import types

    with _compiling:
        _build(kernel, key, arguments)
        kinds = types.Tuple([numba_type(a) for a in arguments])
        if kinds not in _loops:
            signature = (types.intp, types.intp, types.intp, types.intp, kinds)
            _loops[kinds] = _compiled("shared", _shared(), signature, parallel=True).entry_point
        entries[kernel, key, "parallel"] = partial(_loops[kinds], _addresses[kernel, key])
        return entries[kernel, key, "parallel"]


def _compiled(name: str, function: Kernel, signature: Any, parallel: bool) -> Any:
    from numba import njit
    from numba.core.errors import NumbaWarning

    from . import cache

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaWarning)
        dispatcher = njit(nogil=True, error_model="numpy", parallel=parallel)(function)
        found = cache.load(name, signature, dispatcher.targetctx)
        if found is None:
            _teach(function)
            dispatcher.compile(signature)
            found = dispatcher.overloads[signature]
            cache.save(name, signature, dispatcher.targetctx, found)
        _kept.append(found)
        return found


def _shared() -> Kernel:
    """A parallel loop that calls a compiled kernel, given by its address, with a range each.

    As it depends on the types of the arguments alone, kernels share it.
    """
    from numba import prange

    from .vectors import call_kernel

    def shared(address: int, n: int, chunks: int, grain: int, arguments: tuple[Any, ...]) -> None:
        grains = (n + grain - 1) // grain
        for c in prange(chunks):
            first = c * grains // chunks * grain
            last = min(n, (c + 1) * grains // chunks * grain)
            call_kernel(address, first, last, arguments)

    return shared


def full_name(function: Any) -> str:
    """A name that no other function of fastbp has: it tells what a closure closes over."""
    closed = [cell.cell_contents for cell in function.__closure__ or ()]
    names = (full_name(c) if isinstance(c, FunctionType) else repr(c) for c in closed)
    return f"{function.__module__}.{function.__qualname__}({', '.join(names)})"


def numba_type(argument: Any) -> Any:
    """The type under which a kernel takes an argument: arrays with any strides."""
    from numba.core import types
    from numba.np.numpy_support import from_dtype

    from .halves import BY_NAME

    if isinstance(argument, np.ndarray):
        dtype = argument.dtype
        return types.Array(BY_NAME.get(dtype.name) or from_dtype(dtype), argument.ndim, "A")
    if argument is None:
        return types.none
    if isinstance(argument, bool):
        return types.boolean
    return types.intp if isinstance(argument, int) else types.float64


def _teach(function: Any) -> None:
    """Make Numba know every function of fastbp that this one calls.

    Formulas are traced and the words of `vectors` have their own meaning (in `words` and `tiles`);
    all others are compiled as they stand.
    """
    from numba.extending import register_jitable

    from . import simd, tiles, words  # noqa: F401  (both make their words known)

    if function in _taught or function.__module__ == "fastbp.cpu.vectors":
        return
    _taught.add(function)
    if function.__module__.startswith(FORMULAS):
        simd.teach(function)
        return
    register_jitable(error_model="numpy", forceinline=True)(function)
    for callee in callees(function):
        _teach(callee)


def callees(function: FunctionType) -> Iterator[FunctionType]:
    """The functions of fastbp that this one calls."""
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
