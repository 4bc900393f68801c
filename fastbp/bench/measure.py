"""Timing calls that keep threads, and the run over all operations, shapes and libraries."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import gc
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .libraries import Call, RefusedError, make_call
from .peers import copies, load_libraries
from .problems import (
    COPY,
    FASTBP,
    OPERATIONS,
    SHAPES,
    WrongAnswerError,
    make_problem,
    shape_name,
    tasks,
)
from .report import Case, Report


@dataclass(frozen=True)
class Settings:
    """How long to measure.

    A library's threads go on spinning for some milliseconds after their work, and keep a core from
    whoever comes next: calls of two libraries must not alternate. So each has a stretch of time to
    itself, after a pause and a warm-up, in several rounds, as machines have good and bad moments.
    """

    rounds: int = 3
    stretch: float = 0.06  # seconds
    warm_up: float = 0.01
    pause: float = 0.02
    percentile: float = 20  # low: whatever disturbs a call makes it slower
    least_samples: int = 5
    # Quick calls are timed several at a time, or the clock would be part of the result.
    sample: float = 20e-6


QUICK = Settings(rounds=1, stretch=0.02)


def measure(calls: Mapping[str, Call], settings: Settings | None = None) -> dict[str, float]:
    """Microseconds of each call: a low percentile over all rounds."""
    settings = settings or Settings()
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(settings.rounds):
        for name, call in calls.items():
            samples[name] += _time_in_a_stretch(call, settings)
    return {
        name: 1e6 * float(np.percentile(seconds, settings.percentile))
        for name, seconds in samples.items()
    }


def _time_in_a_stretch(call: Call, settings: Settings) -> list[float]:
    """Seconds per call, many times."""
    clock = time.perf_counter
    time.sleep(settings.pause)
    samples: list[float] = []
    collects = gc.isenabled()
    gc.disable()
    try:
        start = now = clock()
        n = 0
        while not n or now < start + settings.warm_up:
            call()
            n += 1
            now = clock()
        repeats = range(max(1, int(settings.sample * n / (now - start))))
        end = now + settings.stretch
        while now < end or len(samples) < settings.least_samples:
            start = clock()
            for _ in repeats:
                call()
            now = clock()
            samples.append((now - start) / len(repeats))
    finally:
        if collects:
            gc.enable()
    return samples


def run(
    operations: Sequence[str] = OPERATIONS,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    *,
    dtypes: Sequence[str] = ("float32",),
    threads: int | None = None,
    settings: Settings | None = None,
    compiled_slowly: bool = True,
    command: str = "fastbp bench",
    progress: Callable[[str, int, int], object] | None = None,
) -> Report:
    """Measure operations on shapes, with all libraries that are installed.

    Parameters
    ----------
    operations : sequence of str
        Names out of `OPERATIONS`.
    shapes : sequence of (n_rows, n_columns) or (n_rows, n_columns, axis)
        Operations on elements leave out those with axis 0.
    dtypes : sequence of str
        Out of "float32", "float64", "float16" and "bfloat16".
    threads : int, optional
        How many threads each library may use; all usable cores by default.
    settings : Settings, optional
        How long to measure.
    compiled_slowly : bool
        Whether to measure libraries that compile for seconds, too.
    command : str
        What the report says of how it was made.
    progress : callable, optional
        progress(what, done, total) is called before each of `total` cases.

    Raises
    ------
    WrongAnswerError
        If a library's answer is wrong; of 16 bits only if fastbp's is, and others are left out.
    """
    settings = settings or Settings()
    threads = threads or available_threads()
    before = machine()
    libraries, missing = load_libraries(threads, compiled_slowly=compiled_slowly)
    cases, wrong = [], []
    todo = tasks(operations, shapes, dtypes)
    for done, task in enumerate(todo):
        if progress is not None:
            progress(str(task), done, len(todo))
        problem = make_problem(*task)
        calls = copies(problem.bytes_moved, threads, libraries.values())
        of_copies = list(calls)
        for name, library in libraries.items():
            if library.has(task.operation, task.dtype):
                try:
                    calls[name] = make_call(library, problem)
                except RefusedError:
                    continue
                except WrongAnswerError:
                    # Sums overflow in float16, and that is for their library to mend.
                    if name == FASTBP or problem.dtype.itemsize > 2:
                        raise
                    wrong.append(f"{name} in {task}")
        times = measure(calls, settings)
        fastest_copy = min(times.pop(name) for name in of_copies)
        cases.append(
            Case(
                task.operation,
                shape_name(task.shape),
                problem.bytes_moved,
                {COPY: fastest_copy, **times},
                task.dtype,
            )
        )
    return Report(
        date=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        command=command,
        machine=before,
        threads=threads,
        settings=dataclasses.asdict(settings),
        versions={library.name: library.version for library in libraries.values()},
        not_installed=missing,
        cases=cases,
        wrong=wrong,
    )


def available_threads() -> int:
    """The number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, str]:
    """What the times depend on: processor, cores, system, Python, and how busy the machine is."""
    # The mean over the last minute, which is before the measurement. Windows does not tell it.
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "cpu": _cpu_name(),
        "cores": str(available_threads()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": f"{load:.2f}",
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
