"""The command line, ``fastbp`` and ``python -m fastbp``: the only file that prints.

Each command is a function from its parsed arguments to the exit status, and one function that
adds its parser. Exit status 2 with one line on stderr is a misuse, 130 an interrupt (Ctrl-C).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import fastbp
from fastbp import demo, startup, testing
from fastbp.arguments import DTYPES_HELP, dtype, number, whole
from fastbp.bench import options, picture, tables
from fastbp.bench.problems import WrongAnswerError
from fastbp.bench.report import Report

MISUSE, INTERRUPTED = 2, 130


class OneLineParser(argparse.ArgumentParser):
    """Reports a misuse in a single line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(MISUSE, f"{self.prog}: error: {' '.join(message.split())}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        status = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("fastbp: interrupted", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has gone. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    return status


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
        return int(args.run(args))
    except SystemExit as stop:  # argparse's: 0 after --help, 2 after a misuse
        return int(stop.code or 0)


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog="fastbp",
        description="Softmax, sigmoid, cross-entropy and their gradients, fast and exact.",
    )
    parser.add_argument("--version", action="version", version=f"fastbp {fastbp.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="command", required=True)
    for add_command in (_add_train, _add_info, _add_warmup, _add_verify, _add_bench):
        add_command(commands)
    return parser


def _add_info(commands: Any) -> None:
    parser = commands.add_parser(
        "info",
        help="show what fastbp runs on",
        description="Show versions, processor, threads, the cache of compiled kernels, devices.",
    )
    parser.set_defaults(run=_info)


def _info(_args: argparse.Namespace) -> int:
    facts = startup.info()
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")
    return 0


def _add_warmup(commands: Any) -> None:
    parser = commands.add_parser(
        "warmup",
        help="compile every operation ahead",
        description="Compile every operation ahead, so that no later call has to.",
    )
    help_ = f"{DTYPES_HELP} float32"
    parser.add_argument("dtypes", nargs="*", type=dtype, default="float32", help=help_)
    parser.set_defaults(run=_warmup)


def _warmup(args: argparse.Namespace) -> int:
    seconds = fastbp.warmup(args.dtypes)
    width = max(map(len, seconds))
    for name, took in seconds.items():
        print(f"{name:<{width}}  {took:6.2f} s")
    print(f"{'all':<{width}}  {sum(seconds.values()):6.2f} s")
    return 0


def _add_verify(commands: Any) -> None:
    parser = commands.add_parser(
        "verify",
        help="measure the accuracy of every operation on this machine",
        description="Compare every operation with the reference; exit status 1 if one fails.",
    )
    default = ["float32", "float64"]
    help_ = f"{DTYPES_HELP} {' '.join(default)}"
    parser.add_argument("--dtypes", nargs="+", type=dtype, default=default, help=help_)
    parser.set_defaults(run=_verify)


def _verify(args: argparse.Namespace) -> int:
    width = max(len(name) for name in testing.OPS)
    line = f"{{:<{width}}}  {{:<8}}  {{:>9}}  {{:>7}}  {{:<6}}  {{}}"
    print(line.format("operation", "dtype", "error", "promise", "", "unit"))
    rows = []
    for name in testing.OPS:  # one at a time, as the first call of an operation compiles it
        for row in testing.verify([name], args.dtypes):
            verdict = "ok" if row.ok else "FAILED"
            error, promise = f"{row.error:.3g}", f"{row.promise:.3g}"
            print(
                line.format(row.operation, row.dtype, error, promise, verdict, row.unit), flush=True
            )
            rows.append(row)
    failed = sum(not row.ok for row in rows)
    print(f"{failed} of {len(rows)} failed" if failed else f"all {len(rows)} within their promise")
    return 1 if failed else 0


def _add_train(commands: Any) -> None:
    default = demo.Settings()
    parser = commands.add_parser(
        "train",
        help="train a network on images of handwritten digits",
        description="Train Linear -> Sigmoid -> Linear -> softmax cross-entropy on images of "
        "handwritten digits, and time the same training with NumPy beside it.",
    )

    def option(*names: str, help: str, **settings: Any) -> None:
        if "default" in settings:
            help += " (default: %(default)s)"
        parser.add_argument(*names, help=help, **settings)

    option("--data", choices=demo.DATA_SETS, default="digits", help="which images")
    option("--hidden", type=whole(1, 100_000), default=default.hidden, help="hidden units")
    option("--epochs", type=whole(1), default=default.epochs, help="most passes over the data")
    option("--batch-size", type=whole(1), default=default.batch_size, help="images per step")
    option("--lr", type=number(), default=default.lr, help="learning rate")
    option("--momentum", type=number(1), default=default.momentum, help="momentum, in [0, 1)")
    option(
        "--tol",
        type=number(),
        default=default.tol,
        help="stop when the loss of an epoch changes by less than this, "
        f"{default.patience} times in a row; 0 never stops early",
    )
    option("--seed", type=whole(0), default=default.seed, help="of split, weights and order")
    option("--plot", metavar="FILE", help="draw loss curves and predictions into this picture")
    option("--no-reference", action="store_true", help="do not train the NumPy reference")
    option("-q", "--quiet", action="store_true", help="print the accuracy only, no progress bar")
    parser.set_defaults(run=_train, parser=parser)


def _train(args: argparse.Namespace) -> int:
    settings = demo.Settings(
        hidden=args.hidden,
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        momentum=args.momentum,
        tol=args.tol,
        seed=args.seed,
    )
    say = _say_nothing if args.quiet else print
    try:
        if args.plot is not None:
            _check_plot_file(args)
        data = demo.load_data(args.data, seed=args.seed)
        height, width = data.image_shape
        say(
            f"data        {data.name}: {len(data.x_train)} images to learn, "
            f"{len(data.x_test)} to test, {height} x {width} pixels",
            flush=True,
        )
        outcome = demo.train(
            data, settings, with_reference=not args.no_reference, progress=not args.quiet
        )
        if args.plot is not None:
            demo.plot(outcome, args.plot)
    except (ImportError, MemoryError) as error:
        args.parser.error(str(error))

    history = outcome.history
    reasons = {
        "epochs": "all epochs are done",
        "converged": f"the loss changed by less than {args.tol:g}, "
        f"{settings.patience} times in a row",
        "diverged": "the loss is no longer finite; try a smaller --lr",
    }
    layers = " -> ".join(repr(layer).removesuffix("()") for layer in outcome.net.layers)
    say(f"network     {layers} -> softmax cross-entropy, {outcome.n_params} parameters")
    say(f"stopped     after {history.n_epochs} epochs: {reasons[history.stop_reason]}")
    say(f"loss        {history.loss[0]:.4g} in the first epoch, {history.loss[-1]:.4g} in the last")
    print(
        f"accuracy    {100 * outcome.accuracy:.1f} % of the test images "
        f"({outcome.n_right} of {len(outcome.predicted)})"
    )
    seconds = sum(history.seconds)
    say(
        f"time        fastbp {seconds:.3f} s, after {outcome.first_call_seconds:.2f} s "
        "for the first call (compiling, or loading what was compiled)"
    )
    if outcome.reference_history is not None:
        reference_seconds = sum(outcome.reference_history.seconds)
        say(
            f"            NumPy reference (float64) {reference_seconds:.3f} s, "
            f"{reference_seconds / seconds:.2f} times as long"
        )
    if outcome.loss_difference is not None:
        say(f"            loss curves differ by {outcome.loss_difference:.0e} at most (relative)")
    if args.plot is not None:
        say(f"plot        {args.plot}")
    return 1 if history.stop_reason == "diverged" else 0


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure the speed of every operation beside other libraries",
        description="Time operations on this machine: fastbp beside NumPy and every other library "
        "that is installed, and beside a copy of as many bytes.",
    )
    options.add_options(parser)
    parser.set_defaults(run=_bench, parser=parser)


def _bench(args: argparse.Namespace) -> int:
    try:
        if args.plot is not None:
            _check_plot_file(args)
        report = options.report_of(args)
        if args.markdown:
            print(tables.markdown(report), end="")
        else:
            _print_tables(report)
        if args.json is not None:
            report.save(args.json)
        if args.plot is not None:
            picture.plot(report, args.plot)
    except (ImportError, MemoryError, options.OptionError) as error:
        args.parser.error(str(error) or "not enough memory; choose smaller --shapes")
    except WrongAnswerError as error:
        print(f"{args.parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


def _print_tables(report: Report) -> None:
    drawn = tables.tables(report)
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no width, and lines must not be cut
        console = Console(highlight=False, width=120)
    for line in tables.summary(report):
        console.print(line, markup=False)
    for table in drawn:
        console.print()
        console.print(table)


def _check_plot_file(args: argparse.Namespace) -> None:
    try:
        demo.check_plot_file(args.plot)
    except ValueError as error:
        args.parser.error(f"argument --plot: {error}")
    except OSError as error:
        args.parser.error(f"argument --plot: cannot write {args.plot!r}: {error.strerror}")


def _say_nothing(*_values: object, **_options: object) -> None:
    """Stands in for print where only the result is wanted."""


if __name__ == "__main__":
    sys.exit(main())
