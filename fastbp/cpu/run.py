"""Compiling kernels, keeping them, and running them on one thread or several.

A kernel is a plain function `kernel(first, last, *arguments)` that does the rows, elements or
blocks first <= i < last. It is compiled when first called with arguments of new types. Small inputs
call it as it is, without starting any thread pool; for large ones a parallel loop calls the same
code with a range for each thread. As no kernel's result depends on the ranges, both return the same
bits.

What Python calls is `run_kernel`, compiled once for arguments of certain types: it is told where
the kernel's code stands. The parallel loop takes long to compile and is the same for all kernels,
as it is told where the arguments stand.

This is the only place that calls Numba's compiler.
"""

import gc
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from .elementwise import PARALLEL_FROM, TEAM
from .vectors import call_kernel, share

Kernel = Callable[..., Any]

FORMULAS = ("fastbp.elementary", "fastbp.formulas.")  # their functions are traced, not compiled

LOOP = "parallel loop"

# By kernel and the key that tells its arguments' types apart.
entries: dict[Any, Callable[..., Any]] = {}  # `run_kernel` for that kernel
_addresses: dict[Any, int] = {}  # of its native code
_functions: dict[Any, Callable[..., Any]] = {}  # what Python calls with arguments as they are
_kept: list[Any] = []  # what owns that code
_compiling = threading.RLock()
_launching = threading.Lock()  # for a threading layer that must not be entered twice
_layer_is_thread_safe = False
_threads_started = False
_forked_with_threads = False
_taught: set[Any] = set()


def serial(kernel: Kernel, key: Any, n: int, *arguments: Any) -> Any:
    """kernel(0, n, *arguments) in this thread. `key` tells the arguments' types apart."""
    function = _functions.get((kernel, key))
    if function is None:
        function = _functions[kernel, key] = shared_function(kernel, 0, n, *arguments)
    return function(0, n, *arguments)


def launch(kernel: Kernel, key: Any, n: int, work: int, grain: int, *arguments: Any) -> None:
    """kernel over range(n): in this thread if the `work` is little, else shared among threads.

    Ranges begin at multiples of `grain`. `key` tells the arguments' types apart.
    """
    entry = entries.get((kernel, key))
    if entry is None:
        entry = _build(kernel, key, arguments)
    if work >= PARALLEL_FROM and n > grain:
        threads = usable_threads()
        if threads > 1:
            _launch_parallel(entry, n, min(threads, -(-n // grain)), grain, arguments)
            return
    entry(0, n, 1, grain, arguments)


def usable_threads() -> int:
    """As many threads as the caller allows Numba to use; 1 where starting them would not be safe.

    After a fork, the child has none of its parent's threads, and GNU OpenMP aborts it if it asks.
    """
    if _forked_with_threads:
        return 1
    from numba import get_num_threads

    return int(get_num_threads())


def team() -> int:
    """The address of the parallel loop times `TEAM`, plus how many threads may be used, or 0.

    It is known once threads have been started, and only where several callers may use them at a
    time. (One number is taken from Python sooner than two.)
    """
    if not _layer_is_thread_safe or LOOP not in _addresses:
        return 0
    return _addresses[LOOP] * TEAM + min(usable_threads(), TEAM - 1)


def _launch_parallel(
    entry: Kernel, n: int, chunks: int, grain: int, arguments: tuple[Any, ...]
) -> None:
    global _threads_started
    loop = _addresses.get(LOOP) or _build_loop()
    _threads_started = True
    if _layer_is_thread_safe:
        entry(loop, n, chunks, grain, arguments)
    elif _launching.acquire(blocking=False):
        try:
            entry(loop, n, chunks, grain, arguments)
            _note_threading_layer()
        finally:
            _launching.release()
    else:  # another Python thread is using the pool
        entry(0, n, 1, grain, arguments)


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
    """A compiled function of arguments like these."""
    with _compiling:
        signature = tuple(numba_type(a) for a in arguments)
        if (source, signature) not in _functions:
            compiled = _compiled(full_name(source), source, signature)
            # Called directly: Numba's dispatcher would take 1 µs to find what is known here.
            _functions[source, signature] = compiled.entry_point
        return _functions[source, signature]


def address(kernel: Kernel, key: Any) -> int | None:
    """Where the code of a kernel stands, if it has been compiled."""
    return _addresses.get((kernel, key))


def address_for(kernel: Kernel, key: Any, *arguments: Any) -> int:
    """The same, compiled first for arguments like these if need be."""
    if (kernel, key) not in _addresses:
        _build(kernel, key, arguments)
    return _addresses[kernel, key]


def _build(kernel: Kernel, key: Any, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """Compile a kernel, or load it."""
    # Here and below, imported when needed: importing fastbp must not start the compiler.
    from numba.core import types

    with _compiling:
        if (kernel, key) not in entries:
            kinds = [numba_type(a) for a in arguments]
            signature = (types.intp, types.intp, *kinds)
            name = (
                f"kernel {full_name(kernel)}"  # other than with an entry for Python, see `serial`
            )
            compiled = _compiled(name, kernel, signature, no_cpython_wrapper=True)
            _addresses[kernel, key] = _address(compiled)
            run = shared_function(run_kernel, *(0,) * 5, arguments)
            entries[kernel, key] = partial(run, _addresses[kernel, key])
        return entries[kernel, key]


def _address(compiled: Any) -> int:
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


def _address_for_c(compiled: Any) -> int:
    """The address of the code that is called as C's functions are."""
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name))


def _address_of(
    what: Any, find: Callable[[Any], int], name: str, function: Kernel, signature: Any,
    **options: bool,
) -> int:  # fmt: skip
    """Where the code for something stands: found in the compiled function, once."""
    with _compiling:
        if what not in _addresses:
            _addresses[what] = find(_compiled(name, function, signature, **options))
        return _addresses[what]


def inner_address(function: Callable[[int, int], int]) -> int:
    """The address of the code of what a door calls, see `doors`."""
    from numba.core import types

    name, kinds = full_name(function), (types.intp, types.intp)
    return _address_of(function, _address, name, function, kinds, no_cpython_wrapper=True)


def door_address() -> int:
    """The address of all doors' code, which is called as a function written in C."""
    from numba.core import types

    from .doors import door

    wrapped = {"no_cpython_wrapper": True, "no_cfunc_wrapper": False}
    return _address_of(door, _address_for_c, "door", door, (types.intp,) * 3, **wrapped)


def run_kernel(
    kernel: int, loop: int, n: int, chunks: int, grain: int, arguments: tuple[Any, ...]
) -> None:
    """Run the kernel at an address, in the parallel loop at another address if there are chunks."""
    share(loop, kernel, n, chunks, grain, arguments)


def _build_loop() -> int:
    """The address of the parallel loop, which calls a kernel with a range for each thread.

    It calls `unpack`, the address of what gives the kernel the arguments that stand at `place`.
    """
    from numba import prange
    from numba.core import types

    def loop(unpack: int, kernel: int, place: int, n: int, chunks: int, grain: int) -> None:
        grains = (n + grain - 1) // grain
        for c in prange(chunks):
            first = c * grains // chunks * grain
            last = min(n, (c + 1) * grains // chunks * grain)
            call_kernel(unpack, first, last, (kernel, place))

    return _address_of(LOOP, _address, LOOP, loop, (types.intp,) * 6, parallel=True)


def _compiled(name: str, function: Kernel, signature: Any, **options: bool) -> Any:
    """The function compiled for arguments of these types, or loaded."""
    from numba.core.registry import cpu_target

    from .cache import load, save

    context = cpu_target.target_context
    found = load(name, signature, context)
    if found is None:
        found = _compile(function, signature, options)
        save(name, signature, context, found)
    _kept.append(found)
    return found


def _compile(function: Kernel, signature: Any, options: dict[str, Any]) -> Any:
    from numba import njit
    from numba.core.errors import NumbaWarning

    from .pipeline import ForKernels

    _teach(function)
    if "parallel" not in options:
        options = options | {"pipeline_class": ForKernels}
    collecting = gc.isenabled()
    gc.disable()  # of the many objects that compiling makes, few can go before its end
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumbaWarning)
            options = {"no_cfunc_wrapper": True} | options
            compiler = njit(nogil=True, error_model="numpy", **options)
            dispatcher = compiler(function)
            dispatcher.compile(signature)
    finally:
        if collecting:
            gc.enable()
    return dispatcher.overloads[signature]


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
    if isinstance(argument, tuple):
        return types.Tuple([numba_type(a) for a in argument])
    if argument is None:
        return types.none
    if isinstance(argument, bool):
        return types.boolean
    return types.intp if isinstance(argument, int) else types.float64


def _teach(function: Any) -> None:
    """Make Numba know every function of fastbp that this one calls.

    Formulas are traced and the words of `vectors` have their own meaning (in `words`, `folds`,
    `tiles` and `streams`); all others are compiled as they stand.
    """
    from numba.extending import register_jitable

    # (All make their words known.)
    from . import calling, folds, object_words, panel_words, simd, streams, tiles, words  # noqa: F401
    from .pipeline import ForInlined

    if function in _taught or function.__module__ == "fastbp.cpu.vectors":
        return
    _taught.add(function)
    if function.__module__.startswith(FORMULAS):
        simd.teach(function)
        return
    register_jitable(
        error_model="numpy", forceinline=True, no_cfunc_wrapper=True, pipeline_class=ForInlined
    )(function)
    for callee in callees(function):
        _teach(callee)


def callees(function: FunctionType) -> Iterator[FunctionType]:
    """The functions of fastbp that this one calls."""
    found = [function.__globals__.get(name) for name in names_in(function.__code__)]
    found += [cell.cell_contents for cell in function.__closure__ or ()]
    for callee in found:
        if isinstance(callee, FunctionType) and callee.__module__.startswith("fastbp."):
            yield callee


def names_in(code: CodeType) -> set[str]:
    """All names that some code, and what is nested in it, looks up."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= names_in(constant)
    return names
