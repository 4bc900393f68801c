"""Compiling ahead, and what this machine is."""

import os
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

# Small enough for the serial kernels, and large enough for the parallel ones.
WARMUP_SHAPES = ((2, 3), (64, 1024))


def warmup(
    dtypes: DTypeLike | Iterable[DTypeLike] = np.float32, *, options: bool = False
) -> dict[str, float]:
    """Compile operations ahead, so that no later call has to.

    Parameters
    ----------
    dtypes : dtype or several
        Out of float32 (the default), float64, float16 and bfloat16 of `ml_dtypes`, which may be
        named.
    options : bool
        Whether to compile the options of losses, too, which takes minutes.

    Returns
    -------
    dict
        Seconds taken by each operation and dtype. They are few if the kernels were on disk.

    Raises
    ------
    TypeError
        If a dtype is another one.
    ImportError
        If bfloat16 is named and `ml_dtypes` is not installed.

    Notes
    -----
    Operations are called as `fastbp.testing.OPS` lists them, with int64 labels; a label type, an
    option or a combination of options beyond that compiles when it is first met.
    """
    from .testing import OPS, as_dtype

    several = dtypes if isinstance(dtypes, (list, tuple, set)) else (dtypes,)
    kinds = [as_dtype(d) for d in several]
    seconds = {}
    rng = np.random.default_rng(0)
    for kind in kinds:
        for name, operation in OPS.items():
            if not (options or operation.is_plain):
                continue
            start = time.perf_counter()
            for shape in WARMUP_SHAPES:
                given = operation.inputs(rng, shape, kind)
                operation.function(*given.args, **given.kwargs)
            seconds[f"{name} {kind.name}"] = time.perf_counter() - start
    return seconds


def info() -> dict[str, Any]:
    """What fastbp runs on: versions, processor, vectors, threads, cache, devices."""
    import platform

    import llvmlite.binding as llvm
    import numba

    from .cpu import cache, run

    features = llvm.get_host_cpu_features()
    width = 512 if features.get("avx512f") else 256 if features.get("avx2") else 128
    try:
        layer = numba.threading_layer()
    except ValueError:  # no parallel kernel has run yet
        layer = f"{numba.config.THREADING_LAYER} (not started)"
    has_fma = features.get("fma") or "neon" in features
    kernels, size = cache.size()
    try:
        folder = str(cache.folder())
        writable = _writable(folder)
    except RuntimeError:  # there is no home folder
        folder, writable = "none", False
    return {
        "fastbp": _version(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "platform": platform.platform(),
        "cpu": f"{numba.config.CPU_NAME or llvm.get_host_cpu_name()}, {os.cpu_count()} cores",
        "vectors": f"{width} bits, {'with' if has_fma else 'without'} fused multiply-add",
        "threads": run.usable_threads(),
        "threading layer": layer,
        "cache folder": folder if writable else f"{folder} (cannot be written)",
        "cache size": f"{kernels} kernels, {size / 1e6:.1f} MB",
        "devices": "cpu",
    }


def _writable(folder: str) -> bool:
    """Whether the folder, or the nearest one above it that exists, can be written to."""
    while not os.path.exists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def _version() -> str:
    from . import __version__

    return __version__
