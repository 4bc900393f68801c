"""Compiling kernels for NVIDIA GPUs: the only place that knows numba-cuda.

numba-cuda is called below its decorators. They ask the driver for a device before anything is
compiled, and let the compiler contract products and sums, which pairs of numbers do not survive;
called so, it compiles for any architecture on a machine without a GPU, too.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..cpu.run import FORMULAS, callees
from .twins import WORDS, twin

Kernel = Callable[..., None]
Capability = tuple[int, int]

INSTALL = "pip install 'fastbp[cuda]'"
_taught: set[Any] = set()


class MissingCudaError(RuntimeError):
    """What is needed to compute on a GPU is not installed."""


def numba_cuda() -> Any:
    """The module numba.cuda, made sure to be numba-cuda's and not the old one within Numba.

    Raises
    ------
    MissingCudaError
        Saying what to install.
    """
    if not hasattr(np, "row_stack"):  # of NumPy 2.5 on; numba-cuda 0.30 asks for it
        setattr(np, "row_stack", np.vstack)  # noqa: B010  (by name, or linters would mend it)
    try:
        # What a .pth file does as a rule; those on PYTHONPATH are not read.
        import _numba_cuda_redirector  # noqa: F401
        from numba import cuda
    except ImportError as error:
        raise MissingCudaError(f"computing on a GPU needs numba-cuda: {INSTALL}") from error
    if getattr(cuda, "implementation", "") != "NVIDIA":
        raise MissingCudaError(
            "numba.cuda is the one that Numba brought, no longer kept up; fastbp needs numba-cuda, "
            f"imported before it: {INSTALL}"
        )
    return cuda


@dataclass(frozen=True)
class Code:
    """A compiled kernel."""

    name: str
    ptx: str
    library: Any

    def cubin(self, architecture: str, max_registers: int | None = None) -> tuple[bytes, str]:
        """Machine code for an architecture such as sm_90a, and what the assembler says of it."""
        from cuda.core import Linker, LinkerOptions, ObjectCode

        options = LinkerOptions(
            arch=architecture, max_register_count=max_registers, verbose=True, ptxas_options="-v"
        )
        linker = Linker(ObjectCode.from_ptx(self.ptx.encode()), options=options)
        return bytes(linker.link("cubin").code), linker.get_info_log()


def compiled(
    kernel: Kernel, name: str, signature: tuple[Any, ...], capability: Capability, threads: int
) -> Code:
    """A kernel for arguments of these Numba types, in blocks of at most so many threads."""
    numba_cuda()
    from numba.cuda import types
    from numba.cuda.compiler import compile_cuda, kernel_fixup
    from numba.cuda.cudadrv import nvvm

    _teach_words()
    _teach(kernel)
    with _without_a_device(capability):
        result = compile_cuda(
            twin(kernel), types.void, signature, cc=capability, nvvm_options={"opt": 3, "fma": 0}
        )
    library, mangled = result.library, result.fndesc.llvm_func_name
    entry = library.get_function(mangled)
    kernel_fixup(entry, debug=False)
    nvvm.set_launch_bounds(entry, threads)
    ptx = library.get_asm_str(cc=(*capability, "a" if capability >= (9, 0) else ""))
    ptx = re.sub(rf"(?<![\w$]){re.escape(mangled)}(?![\w$])", name, ptx)
    ptx = ptx.replace(f"{mangled}_param", f"{name}_param")
    return Code(name, ptx, library)


@contextlib.contextmanager
def _without_a_device(capability: Capability) -> Iterator[None]:
    """Let numba-cuda compile the functions that a kernel calls without asking for a device."""
    from numba.cuda import dispatcher
    from numba.cuda.codegen import CUDACodeLibrary

    get_device, ensure = dispatcher.get_current_device, CUDACodeLibrary._ensure_cc
    device = SimpleNamespace(compute_capability=capability)
    suffix = "a" if capability >= (9, 0) else ""
    dispatcher.get_current_device = lambda: device
    CUDACodeLibrary._ensure_cc = lambda _self, cc: cc or (*capability, suffix)
    try:
        yield
    finally:
        dispatcher.get_current_device, CUDACodeLibrary._ensure_cc = get_device, ensure


@cache
def _teach_words() -> None:
    """Make numba-cuda know the words, and the functions that some of them mean."""
    from .device import CHOSEN

    for chosen in CHOSEN:
        _teach(chosen)


def _teach(function: Any) -> None:
    """Make numba-cuda know every function of fastbp that this one calls; see `cpu.run`."""
    from numba.cuda.extending import register_jitable

    from .device import scalars

    if function in _taught or function.__module__ in WORDS:
        return
    _taught.add(function)
    if function.__module__.startswith(FORMULAS):
        scalars.teach(function)
        return
    register_jitable(forceinline=True)(twin(function))
    for callee in callees(function):
        _teach(callee)
