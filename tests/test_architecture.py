"""The rules of the house, held as tests: who may import whom, who compiles, who prints.

Every check is a function from source code to what it finds wrong, and is shown both the package,
where it must find nothing, and planted mistakes, which it must find.
"""

import ast
import inspect
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import fastbp
from fastbp import ops, reference
from fastbp.testing import OPS

PACKAGE = Path(fastbp.__file__).parent
FILES = {str(p.relative_to(PACKAGE)): p.read_text("utf-8") for p in PACKAGE.rglob("*.py")}

# Room -> the rooms that it may import. A room is a file or folder of the package; "" is fastbp
# itself. A new room needs a line here.
ROOMS = {
    "elementary": set(),
    "formulas": {"elementary"},
    "reference": set(),
    "arrays": set(),
    "checks": set(),
    "cpu": {"elementary", "formulas"},
    "cuda": {"checks", "cpu", "elementary", "formulas"},
    "ops": {"arrays", "checks", "cpu", "cuda", "elementary", "formulas"},
    "layers": {"checks", "ops"},
    "optim": set(),
    "train": {"ops"},
    "testing": {"ops", "reference"},
    "demo": {"layers", "optim", "reference", "train"},
    "startup": {"cpu", "testing"},
    "": {"ops", "startup", "testing"},
    "arguments": {"testing"},
    "bench": {"", "arguments", "testing"},
    "__main__": {"", "arguments", "bench", "cpu", "demo", "startup", "testing"},
}

# What a room may import inside functions only, against the direction.
LATER = {
    "startup": {""},  # `info` tells the version
}

# NumPy and the standard library may be imported at once, everything else only inside functions;
# but for these files.
AT_ONCE = {  # imported by `run` when it compiles
    "cpu/calling.py": {"numba", "llvmlite"},
    "cpu/halves.py": {"numba", "llvmlite"},
    "cpu/folds.py": {"numba", "llvmlite"},
    "cpu/object_words.py": {"numba", "llvmlite"},
    "cpu/panel_words.py": {"numba", "llvmlite"},
    "cpu/pipeline.py": {"numba"},
    "cpu/simd.py": {"numba", "llvmlite"},
    "cpu/streams.py": {"numba", "llvmlite"},
    "cpu/tiles.py": {"numba", "llvmlite"},
    "cpu/words.py": {"numba", "llvmlite"},
} | {  # imported by `cuda.compiler`
    f"cuda/device/{name}.py": {"numba", "llvmlite"}
    for name in (
        "__init__", "conversions", "folds", "kinds", "losses", "memory", "numbers", "places",
        "scalars",
    )
}  # fmt: skip

COMPILERS = {
    "cfunc", "generated_jit", "guvectorize", "jit", "jit_module", "njit", "prange", "stencil",
    "vectorize",
}  # fmt: skip
FAST_MATH = {"afn", "arcp", "contract", "fast", "ninf", "nnan", "nsz", "reassoc"}
TRANSCENDENTAL = {
    "cosh", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2",
    "pow", "sinh", "tanh",
}  # fmt: skip

MOST_LINES = 450
LONGER = {}  # file: lines allowed, with the reason


def nodes_of(source):
    """Every node, with whether it runs as soon as its module is imported."""

    def walk(node, at_once):
        for child in ast.iter_child_nodes(node):
            yield child, at_once
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, at_once and not is_function)

    return walk(ast.parse(source), at_once=True)


def imports(file, source):
    """(module, name or None, line, at once) of every import, relative ones spelt out."""
    folder = ("fastbp", *Path(file).parts[:-1])
    for node, at_once in nodes_of(source):
        match node:
            case ast.Call(
                func=ast.Name("import_module" | "__import__"), args=[ast.Constant(str(module)), *_]
            ):
                yield module, None, node.lineno, at_once
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, node.lineno, at_once
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield module, alias.name, node.lineno, at_once


def room_of(file):
    room = Path(file).parts[0].removesuffix(".py")
    return "" if room == "__init__" else room


def room_imported(module, name):
    """The room of fastbp that an import is from, or None."""
    if module.split(".")[0] != "fastbp":
        return None
    parts = module.split(".")[1:]
    if parts:
        return parts[0]
    return name if name in ROOMS else ""


# the checks ---------------------------------------------------------------------------------------


def wrong_directions(file, source):
    room = room_of(file)
    if room not in ROOMS:
        return [f"{file}: there is no line in ROOMS for it"]
    found = []
    for module, name, line, at_once in imports(file, source):
        allowed = ROOMS[room] | {None, room} | (set() if at_once else LATER.get(room, set()))
        imported = room_imported(module, name)
        if imported not in allowed:
            found.append(f"{file}:{line} imports fastbp.{imported}")
    return found


def heavy_imports(file, source):
    """Imports that `import fastbp` would pay for, or that may not be installed."""
    light = {"fastbp", "numpy", *sys.stdlib_module_names, *AT_ONCE.get(file, set())}
    found = []
    for module, name, line, at_once in imports(file, source):
        paths = {f"{part.replace('.', '/')}.py" for part in (module, f"{module}.{name}")}
        heavy = file not in AT_ONCE and paths & {f"fastbp/{other}" for other in AT_ONCE}
        if at_once and (module.split(".")[0] not in light or heavy):
            found.append(f"{file}:{line} imports {module} at once")
    return found


def compilers_elsewhere(file, source):
    if file == "cpu/run.py":
        return []
    found = [
        (name, line)
        for module, name, line, _ in imports(file, source)
        if module.split(".")[0] == "numba" and name in COMPILERS
    ]
    for node, _ in nodes_of(source):
        match node:
            case ast.Attribute(value=ast.Name("numba" | "nb"), attr=name) if name in COMPILERS:
                found.append((name, node.lineno))
            case ast.Name("njit" | "prange"):
                found.append((node.id, node.lineno))
    return [f"{file}:{line} names {name}" for name, line in found]


def numba_elsewhere(file, source):
    """Numba beyond the room that owns it; `info` tells its version, `bench` sets its threads."""
    if room_of(file) in {"bench", "cpu", "cuda", "startup"}:
        return []
    return [
        f"{file}:{line} imports {module}"
        for module, _, line, _ in imports(file, source)
        if module.split(".")[0] in {"numba", "llvmlite"}
    ]


def prints(file, source):
    if file == "__main__.py":
        return []
    speaking = {"print", "stdout", "stderr"}
    return [f"{file}:{line} names {name}" for name, line in names(source) if name in speaking]


def fast_math(file, source):
    found = [name_line for name_line in names(source) if name_line[0] == "fastmath"]
    for node, _ in nodes_of(source):
        if isinstance(node, ast.keyword) and node.arg in {"fastmath", "flags"}:
            found.append((node.arg, node.value.lineno))
        if isinstance(node, ast.Constant) and node.value in FAST_MATH:
            found.append((node.value, node.lineno))
    return [f"{file}:{line} has {name}" for name, line in found]


def foreign_functions(file, source):
    """exp, log … of math and NumPy, which are neither vectors nor the same on every machine."""
    if room_of(file) not in {"cpu", "elementary", "formulas", "ops"}:
        return []
    found = [
        (f"{node.value.id}.{node.attr}", node.lineno)
        for node, _ in nodes_of(source)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"math", "cmath", "np", "numpy"}
        and node.attr in TRANSCENDENTAL
    ]
    found += [
        (f"{module}.{name}", line)
        for module, name, line, _ in imports(file, source)
        if module in {"math", "cmath", "numpy"} and name in TRANSCENDENTAL
    ]
    return [f"{file}:{line} has {name}" for name, line in found]


def too_long(file, source):
    n, most = len(source.splitlines()), LONGER.get(file, MOST_LINES)
    return [f"{file} has {n} lines; split it ({most} are allowed)"] if n > most else []


def names(source):
    """(name, line) of every variable, attribute and imported name."""
    for node, _ in nodes_of(source):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[-1], node.lineno


CHECKS = [
    wrong_directions,
    heavy_imports,
    compilers_elsewhere,
    numba_elsewhere,
    prints,
    fast_math,
    foreign_functions,
    too_long,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_keeps_the_rule(check):
    assert len(FILES) > 15
    assert [wrong for file, source in FILES.items() for wrong in check(file, source)] == []


MISTAKES = [
    (wrong_directions, "formulas.py", "from .checks import as_values"),
    (wrong_directions, "formulas.py", "import fastbp"),
    (wrong_directions, "reference/softmax.py", "def f():\n    from fastbp.formulas import exp"),
    (wrong_directions, "cpu/rows.py", "from ..ops.softmax import softmax"),
    (wrong_directions, "cpu/rows.py", "from .. import checks"),
    (wrong_directions, "ops/softmax.py", "from ..reference import softmax"),
    (wrong_directions, "ops/softmax.py", "import fastbp.layers"),
    (wrong_directions, "train.py", "from fastbp import __main__"),
    (wrong_directions, "startup.py", "from . import __version__"),
    (wrong_directions, "startup.py", "def f():\n    from .layers import Linear"),
    (wrong_directions, "new.py", ""),
    (heavy_imports, "train.py", "import tqdm"),
    (heavy_imports, "train.py", "try:\n    from tqdm import tqdm\nexcept ImportError: pass"),
    (heavy_imports, "cpu/run.py", "import numba"),
    (heavy_imports, "cpu/run.py", "from . import simd"),
    (heavy_imports, "cpu/rows.py", "from .simd import Vector"),
    (compilers_elsewhere, "cpu/rows.py", "from numba import njit"),
    (compilers_elsewhere, "ops/softmax.py", "@numba.jit(nopython=True)\ndef f(): pass"),
    (compilers_elsewhere, "cpu/rows.py", "def f():\n    for i in prange(3): pass"),
    (compilers_elsewhere, "cpu/rows.py", "import numba.cuda\nfrom numba.cuda import jit"),
    (numba_elsewhere, "ops/softmax.py", "def f():\n    import numba.core.types"),
    (numba_elsewhere, "ops/softmax.py", "def f():\n    import_module('numba')"),
    (prints, "train.py", "print('epoch 1')"),
    (prints, "train.py", "say = print"),
    (prints, "train.py", "import sys\nsys.stderr.write('epoch 1')"),
    (fast_math, "cpu/run.py", "njit(fastmath=True)(f)"),
    (fast_math, "cpu/run.py", "options = {}\noptions.fastmath = True"),
    (fast_math, "cpu/simd.py", "builder.fadd(a, b, flags=('nsz',))"),
    (fast_math, "cpu/simd.py", "a.opname = 'reassoc'"),
    (foreign_functions, "cpu/rows.py", "y = math.exp(x)"),
    (foreign_functions, "formulas.py", "from math import log1p"),
    (foreign_functions, "ops/softmax.py", "y = np.exp(x)"),
    (too_long, "train.py", "\n" * (MOST_LINES + 1)),
]


@pytest.mark.parametrize(
    ("check", "file", "source"),
    MISTAKES,
    ids=[f"{c.__name__}-{i}" for i, (c, *_) in enumerate(MISTAKES)],
)
def test_a_mistake_is_found(check, file, source):
    assert len(check(file, source)) >= 1


FINE = [
    (wrong_directions, "ops/softmax.py", "from ..cpu.run import launch"),
    (wrong_directions, "ops/softmax.py", "from .calls import map_rows"),
    (wrong_directions, "__main__.py", "from fastbp import demo"),
    (wrong_directions, "startup.py", "def f():\n    from . import __version__"),
    (heavy_imports, "train.py", "def f():\n    import tqdm"),
    (heavy_imports, "cpu/run.py", "def f():\n    from . import simd"),
    (compilers_elsewhere, "cpu/run.py", "from numba import njit"),
    (compilers_elsewhere, "bench.py", "import jax\njax.jit(f)"),
    (prints, "__main__.py", "print('epoch 1')"),
    (foreign_functions, "reference/softmax.py", "np.exp(x)"),
    (foreign_functions, "ops/softmax.py", '"""np.exp(x)"""'),
]


@pytest.mark.parametrize(("check", "file", "source"), FINE)
def test_what_is_allowed_is_not_found(check, file, source):
    assert check(file, source) == []


def test_rooms_import_each_other_in_one_direction():
    list(TopologicalSorter(ROOMS).static_order())  # raises CycleError otherwise
    assert {room_of(file) for file in FILES} == set(ROOMS)


# the public names ---------------------------------------------------------------------------------

PUBLIC = sorted(ops.__all__)


def test_all_is_what_is_public():
    # In a process of its own: here, submodules that tests have imported are names of fastbp too.
    code = """
import fastbp, types
public = {name for name, value in vars(fastbp).items() if not isinstance(value, types.ModuleType)}
print(*(name for name in public if not name.startswith("_")))
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    loaded_when_asked_for = {"__version__", "verify"}
    assert len(set(fastbp.__all__)) == len(fastbp.__all__)
    assert set(process.stdout.split()) | loaded_when_asked_for == set(fastbp.__all__)
    assert all(hasattr(fastbp, name) for name in fastbp.__all__)


def test_operations_are_public_under_the_same_names_everywhere():
    assert set(PUBLIC) <= set(fastbp.__all__)
    assert sorted(reference.__all__) == PUBLIC
    assert {operation.function for operation in OPS.values()} == {getattr(ops, n) for n in PUBLIC}
    for key, operation in OPS.items():
        name = operation.function.__name__
        assert operation.name == key
        assert operation.function is getattr(fastbp, name)
        assert operation.reference is getattr(reference, name)


def parameters(function):
    """(name, kind, default) of every parameter."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", PUBLIC)
def test_the_reference_takes_the_same_arguments(name):
    assert parameters(getattr(fastbp, name)) == parameters(getattr(reference, name))


# docstrings ---------------------------------------------------------------------------------------

SECTIONS = ["Parameters", "Returns", "Raises", "Notes", "Examples"]


def sections(docstring):
    """The sections of a numpydoc docstring, in order: title -> text."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def documented_parameters(docstring):
    lines = sections(docstring).get("Parameters", "").splitlines()
    entries = [line.split(" : ")[0] for line in lines if line and not line.startswith(" ")]
    return [name.strip() for entry in entries for name in entry.split(",")]


def docstring_mistakes(function):
    docstring = function.__doc__ or ""
    found = sections(docstring)
    summary = inspect.cleandoc(docstring).split("\n")[0]
    expected = list(inspect.signature(function).parameters)
    mistakes = [f"no {title}" for title in SECTIONS if not found.get(title)]
    if [title for title in found if title in SECTIONS] != [t for t in SECTIONS if t in found]:
        mistakes.append(f"order of sections: {list(found)}")
    if documented_parameters(docstring) != expected:
        mistakes.append(f"parameters {documented_parameters(docstring)}, expected {expected}")
    if ">>> " not in found.get("Examples", ""):
        mistakes.append("no example to run")
    if not re.search(r"ULP|eps|BLAS", found.get("Notes", "")):
        mistakes.append("no accuracy in the notes")
    if not summary.endswith("."):
        mistakes.append("the summary is no sentence on one line")
    return mistakes


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_describe_what_the_function_takes(name):
    assert docstring_mistakes(getattr(fastbp, name)) == []


GOOD = """Twice a number.

    Parameters
    ----------
    x, y : array_like
        Values.
    out : ndarray, optional
        Result.

    Returns
    -------
    ndarray
        2x.

    Raises
    ------
    TypeError
        If x is a string.

    Notes
    -----
    Within 1 ULP.

    Examples
    --------
    >>> 2 * 1
    2
    """


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", []),
        ("x, y", "x", ["parameters ['x', 'out'], expected ['x', 'y', 'out']"]),
        ("x, y", "y, x", ["parameters ['y', 'x', 'out'], expected ['x', 'y', 'out']"]),
        ("    Raises\n    ------\n", "", ["no Raises"]),
        (">>> 2 * 1", "2 * 1 is", ["no example to run"]),
        ("1 ULP", "reason", ["no accuracy in the notes"]),
        ("number.", "number", ["the summary is no sentence on one line"]),
    ],
)
def test_a_wrong_docstring_is_found(old, new, expected):
    def function(x, y, *, out=None):
        pass

    function.__doc__ = GOOD.replace(old, new)
    assert docstring_mistakes(function) == expected
