"""The options of ``fastbp bench``, and the report that they ask for; printing is not done here."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..arguments import DTYPES_HELP, dtype, whole
from . import cold, measure, problems
from .report import Report
from .tables import progress_bar


class OptionError(Exception):
    """An option cannot be followed."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add them all to the command's parser."""
    names = dict.fromkeys(name.partition("[")[0] for name in problems.OPERATIONS)
    option = parser.add_argument
    option(
        "--operations",
        type=_operations,
        nargs="+",
        metavar="NAME",
        help=f"out of {', '.join(names)} (default: all)",
    )
    option(
        "--shapes",
        type=_shape,
        nargs="+",
        metavar="ROWSxCOLUMNS",
        help="with @0 where columns hold what belongs together; "
        f"default: {_shape_names(problems.SHAPES)}",
    )
    option("--large", action="store_true", help=f"add {_shape_names(problems.LARGE_SHAPES)}")
    option("--dtypes", type=dtype, nargs="+", help=f"{DTYPES_HELP} float32")
    option(
        "--threads",
        type=whole(1, measure.available_threads()),
        help="for each library (default: all cores)",
    )
    option("--rounds", type=whole(1), help="more of them find quieter moments")
    option(
        "--quick",
        action="store_true",
        help=f"one short round of {_shape_names(problems.QUICK_SHAPES)}, without torch.compile",
    )
    option(
        "--cold",
        action="store_true",
        help="also time new processes, from importing fastbp to its first result: minutes, as "
        "they compile everything anew",
    )
    option("--json", metavar="FILE", help="store the times in this file")
    option("--plot", metavar="FILE", help="draw them into this picture")
    option("--markdown", action="store_true", help="print tables in Markdown")
    option(
        "--from",
        metavar="FILE",
        dest="stored",
        help="show what --json has stored in this file, measure nothing",
    )


def report_of(args: argparse.Namespace) -> Report:
    """What the options ask for, measured or read from a file.

    Raises
    ------
    OptionError
        If an option cannot be followed.
    ImportError
        If rich is not installed.
    problems.WrongAnswerError
        If a library's answer is wrong.
    """
    return _measured(args) if args.stored is None else _stored(args)


def _measured(args: argparse.Namespace) -> Report:
    if args.json is not None:
        _check_json_file(args.json)
    operations = problems.OPERATIONS if args.operations is None else sum(args.operations, ())
    shapes = tuple(args.shapes or (problems.QUICK_SHAPES if args.quick else problems.SHAPES))
    shapes += problems.LARGE_SHAPES * args.large
    dtypes = [kind.name for kind in args.dtypes or ()] or ["float32"]
    if not problems.tasks(operations, shapes, dtypes):
        raise OptionError("argument --shapes: none is for these operations, which have no axis")
    settings = measure.QUICK if args.quick else measure.Settings()
    if args.rounds is not None:
        settings = dataclasses.replace(settings, rounds=args.rounds)
    with progress_bar() as progress:
        report = measure.run(
            operations,
            shapes,
            dtypes=dtypes,
            threads=args.threads,
            settings=settings,
            compiled_slowly=not args.quick,
            command=_command(args),
            progress=progress,
        )
        if not args.cold:
            return report
        calls = cold.QUICK_CALLS if args.quick else tuple(cold.CALLS)
        starts = cold.measure_cold(calls, threads=report.threads, progress=progress)
        return dataclasses.replace(report, cold=starts)


FLAGS = ("large", "quick", "cold")


def _command(args: argparse.Namespace) -> str:
    """The command that measures the same, for the report."""
    words = ["fastbp", "bench"]
    if args.operations is not None:
        words += ["--operations", *map(shlex.quote, sum(args.operations, ()))]
    if args.shapes is not None:
        words += ["--shapes", *map(problems.shape_name, args.shapes)]
    if args.dtypes is not None:
        words += ["--dtypes", *(kind.name for kind in args.dtypes)]
    for name in ("threads", "rounds"):
        if getattr(args, name) is not None:
            words += [f"--{name}", str(getattr(args, name))]
    return " ".join(words + [f"--{flag}" for flag in FLAGS if getattr(args, flag)])


def _stored(args: argparse.Namespace) -> Report:
    for name in ("threads", "rounds", "json", *FLAGS):
        if getattr(args, name):
            raise OptionError(f"argument --{name}: not allowed with --from, which measures nothing")
    operations = None if args.operations is None else sum(args.operations, ())
    shapes = None if args.shapes is None else list(map(problems.shape_name, args.shapes))
    dtypes = None if args.dtypes is None else [kind.name for kind in args.dtypes]
    try:
        result = Report.load(args.stored).part(operations, shapes, dtypes)
    except OSError as error:
        raise OptionError(
            f"argument --from: cannot read {args.stored!r}: {error.strerror}"
        ) from None
    except ValueError as error:
        raise OptionError(f"argument --from: {error}") from None
    if not result.cases:
        raise OptionError(f"argument --from: {args.stored!r} has nothing of the kind")
    return result


def _check_json_file(name: str) -> None:
    """Find out before the measurement that there is no writing into the file."""
    file = Path(name)
    try:
        existed = file.exists()
        with file.open("ab"):
            pass
        if not existed:
            file.unlink()
    except OSError as error:
        raise OptionError(f"argument --json: cannot write {name!r}: {error.strerror}") from None


def _operations(text: str) -> tuple[str, ...]:
    """An argument type: an operation's name, without the brackets of its variants or with them."""
    chosen = tuple(n for n in problems.OPERATIONS if text in (n, n.partition("[")[0]))
    if not chosen:
        known = ", ".join(problems.OPERATIONS)
        raise argparse.ArgumentTypeError(f"there is no {text!r}, only {known}")
    return chosen


def _shape(text: str) -> problems.Shape:
    """An argument type: 32x10."""
    try:
        return problems.parse_shape(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _shape_names(shapes: Sequence[problems.Shape]) -> str:
    return " ".join(map(problems.shape_name, shapes))
