"""Put the accuracy and speed tables into README.md, from a verification and stored times.

    fastbp bench --cold --json benchmarks/results/NAME.json
    python benchmarks/update_readme.py benchmarks/results/NAME.json

Draws benchmarks/results/NAME.png beside the times.
"""

import re
import sys
from pathlib import Path

from fastbp.bench.picture import plot
from fastbp.bench.report import Report
from fastbp.bench.tables import (
    cold_table,
    goals_table,
    notes_markdown,
    table_markdown,
    times_markdown,
)
from fastbp.testing import verify

ROOT = Path(__file__).resolve().parent.parent


def accuracy() -> str:
    """A row for each operation: the largest error in either dtype, and the promise.

    Of the many variants of losses only those with one option, or weights, are shown.
    """
    rows: dict[str, dict[str, object]] = {}
    for row in verify():
        if "," in row.operation and not row.operation.endswith(("smoothing]", "ignored]")):
            continue
        if row.operation.count(",") > 1 and "smoothing" in row.operation:
            continue
        cells = rows.setdefault(row.operation, {"promise": row.promise, "unit": row.unit})
        cells[row.dtype] = row.error
    lines = ["| operation | float32 | float64 | promise | unit |", "|---|---|---|---|---|"]
    lines += [
        f"| `{name}` | {c['float32']:.2f} | {c['float64']:.2f} | {c['promise']:g} "
        f"| {escaped(c['unit'])} |"
        for name, c in rows.items()
    ]
    return "\n".join(lines)


def escaped(text: object) -> str:
    """Text for a cell of a table in Markdown."""
    return str(text).replace("|", "\\|")


def speed(times: Report, stored: Path) -> str:
    """The tables of all operations, and the picture, which is drawn beside the stored times."""
    picture = stored.with_suffix(".png")
    plot(times, picture)
    place = picture.resolve().relative_to(ROOT).as_posix()
    tables = f"{times_markdown(times)}\n{notes_markdown(times)}"
    return f"![Time relative to a copy]({place})\n\n{tables}".strip()


def put(readme: str, name: str, content: str) -> str:
    """The README with that content between the comments that name it."""
    pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)"
    filled, found = re.subn(
        pattern, lambda m: f"{m[1]}\n{content}\n\n{m[2]}", readme, flags=re.DOTALL
    )
    if found != 1:
        raise SystemExit(f"README.md has {found} places for {name}; expected 1")
    return filled


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    path, file = ROOT / "README.md", Path(sys.argv[1])
    measured = Report.load(file)
    text = put(path.read_text("utf-8"), "accuracy", accuracy())
    text = put(text, "goals", table_markdown(goals_table(measured)).strip())
    if measured.cold:
        text = put(text, "cold", table_markdown(cold_table(measured)).strip())
    path.write_text(put(text, "speed", speed(measured, file)), "utf-8")
