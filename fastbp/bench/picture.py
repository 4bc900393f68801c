"""What was measured, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .problems import COPY, FASTBP
from .report import Report
from .tables import summary, title

STYLES = {  # colors that stay apart for most eyes (Okabe and Ito), and markers for the others
    FASTBP: ("#d55e00", "o"),
    "numpy": ("#999999", "s"),
    "torch": ("#0072b2", "^"),
    "torch.compile": ("#56b4e9", "v"),
    "jax": ("#009e73", "D"),
    "onnxruntime": ("#cc79a7", "P"),
    "scipy": ("#b8a900", "X"),
    "scikit-learn": ("#e69f00", "<"),
    "numexpr": ("#000000", ">"),
    COPY: ("0.4", ""),
}
UNKNOWN_STYLE = ("0.6", "*")


def plot(report: Report, file: str | Path) -> None:
    """Draw times by that of a copy, over shapes: a panel for each operation and dtype.

    Parameters
    ----------
    report : Report
        From `run` or `Report.load`.
    file : str or Path
        Where to; the suffix decides on the format (.png, .pdf, .svg …).

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('a plot needs Matplotlib: pip install "fastbp[bench]"') from None
    parts = report.parts()
    n_columns = min(len(parts), 2 if len(parts) <= 4 else 3)
    n_rows = -(-len(parts) // n_columns)
    figure = Figure(figsize=(4.3 * n_columns, 3.2 * n_rows + 1.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    shapes = list(dict.fromkeys(case.shape for case in report.cases))
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).ravel()
    lines: dict[str, Any] = {}
    for i, (axes, part) in enumerate(zip(panels, parts, strict=False)):
        lines |= _draw_part(axes, part, shapes)
        # Shared axes label the outermost panels only, under some of which there may be none.
        axes.tick_params(labelbottom=i + n_columns >= len(parts))
        if i % n_columns == 0:
            axes.set_ylabel("time ÷ time of a copy")
    for axes in panels[len(parts) :]:
        axes.set_axis_off()
    names = [*(name for name in STYLES if name in lines), *(lines.keys() - STYLES.keys())]
    handles = [lines[name] for name in names]
    if len(parts) < len(panels):  # there is room
        panels[-1].legend(handles, names, loc="center", fontsize=11, frameon=False)
    else:
        n_lines = -(-len(names) // (3 * n_columns))
        columns = -(-len(names) // n_lines)
        figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)
    on, _, how, *_ = summary(report)
    figure.supxlabel(f"rows x columns\n\n{on}\n{how}", fontsize=9)
    figure.savefig(file)


def _draw_part(axes: Any, part: Report, shapes: list[str]) -> dict[str, Any]:
    """One panel, of one operation and dtype; returns its lines by library."""
    lines = {}
    for name in part.names:
        if name == COPY:
            continue
        points = [
            (shapes.index(case.shape), case.microseconds[name] / case.microseconds[COPY])
            for case in part.cases
            if name in case.microseconds
        ]
        color, marker = STYLES.get(name, UNKNOWN_STYLE)
        own = name == FASTBP
        (lines[name],) = axes.plot(
            *zip(*points, strict=True), color=color, marker=marker, ms=6 if own else 5,
            lw=2.5 if own else 1.2, zorder=3 if own else 2,
        )  # fmt: skip
    lines[COPY] = axes.axhline(1, color="0.4", lw=1, ls="--", zorder=1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(range(len(shapes)), shapes, rotation=45, ha="right", rotation_mode="anchor")
    # Long names are wider than a panel.
    axes.set_title(title(part).replace("_with_grad[", "_with_grad\n["), fontsize=10)
    axes.grid(axis="y", which="major", alpha=0.3)
    axes.grid(axis="y", which="minor", alpha=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    return lines
