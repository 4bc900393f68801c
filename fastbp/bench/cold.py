"""How long a new process takes to its first results: with nothing compiled yet, and with all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .report import ColdStart

# What is timed, after importing NumPy and fastbp, which is part of it.
_LABELS = "np.zeros((32, 10), np.float32), np.arange(32) % 10"
CALLS = {
    "softmax": "fastbp.softmax(np.zeros((32, 10), np.float32))",
    "softmax_cross_entropy_with_grad": f"fastbp.softmax_cross_entropy_with_grad({_LABELS})",
    "warmup": "fastbp.warmup()",
}
QUICK_CALLS = ("softmax",)

REPEATS = 3  # with all compiled; the least counts

_PROGRAM = """
import time
start = time.perf_counter()
import fastbp
import numpy as np
{call}
seconds = time.perf_counter() - start
import os
os.write(1, repr(seconds).encode())
"""


def measure_cold(
    names: Sequence[str] = tuple(CALLS),
    *,
    threads: int,
    progress: Callable[[str, int, int], object] | None = None,
) -> list[ColdStart]:
    """Seconds of the import and of one call, each time in a process of its own.

    Parameters
    ----------
    names : sequence of str
        Out of `CALLS`.
    threads : int
        How many threads fastbp may use.
    progress : callable, optional
        progress(what, done, total) is called before each name.
    """
    found = []
    for done, name in enumerate(names):
        if progress is not None:
            progress(f"cold start: {name}", done, len(names))
        with tempfile.TemporaryDirectory() as folder:
            variables = {"FASTBP_CACHE_DIR": folder, "NUMBA_NUM_THREADS": str(threads)}
            empty = _seconds(CALLS[name], variables)
            filled = min(_seconds(CALLS[name], variables) for _ in range(REPEATS))
        found.append(ColdStart(name, empty, filled))
    return found


def _seconds(call: str, variables: Mapping[str, str]) -> float:
    """What a new process measures, in which this fastbp is the one that is imported."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    output = subprocess.check_output(  # noqa: S603 - a program that is written above
        [sys.executable, "-c", _PROGRAM.format(call=call)],
        env={**os.environ, **variables, "PYTHONPATH": path},
    )
    return float(output)
