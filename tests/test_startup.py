"""Importing fastbp is quick; compiled kernels are kept, found again and never trusted blindly."""

import gc
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.__main__ import main
from fastbp.cpu import cache, run
from fastbp.ops import plain_calls

PACKAGE = Path(fastbp.__file__).parent

# What a process does that needs one kernel, and what it prints then.
ASK = """
import numpy as np, fastbp
print(fastbp.softmax(np.array([0.0, 2.0], np.float32)))
"""
ANSWER = "[0.11920292 0.8807971 ]\n"

COMPILING_IS_AN_ERROR = """
from numba.core import compiler
def compile_extra(*args, **kwargs):
    raise AssertionError("a kernel is being compiled")
compiler.compile_extra = compile_extra
"""


def python(code, *, package=PACKAGE, cache_dir=None):
    """Run code in a process of its own in which any warning is an error; what it prints."""
    environment = dict(os.environ, PYTHONPATH=str(package.parent), PYTHONDONTWRITEBYTECODE="1")
    if cache_dir is not None:
        environment["FASTBP_CACHE_DIR"] = str(cache_dir)
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, cwd=package.parent,
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout


def kernels(folder):
    """Path -> content of every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# All that a process has compiled or loaded.
COMPILED = (run.entries, run._addresses, run._functions, plain_calls.doors, plain_calls.tables)


def forget():
    """As if this were a new process."""
    for table in COMPILED:
        table.clear()


@pytest.fixture
def cache_dir(tmp_path, monkeypatch):
    """An empty cache folder, and a process that has compiled nothing yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(folder))
    before = [dict(table) for table in COMPILED]
    forget()
    yield folder
    forget()
    for table, content in zip(COMPILED, before, strict=True):
        table.update(content)


@pytest.fixture
def compilations(monkeypatch):
    """The names of the functions that Numba compiles, a kernel with all that it calls."""
    from numba.core import compiler

    compile_extra, seen = compiler.compile_extra, []

    def compile_and_note(typing_context, target_context, function, *args, **kwargs):
        seen.append(function.__name__)
        return compile_extra(typing_context, target_context, function, *args, **kwargs)

    monkeypatch.setattr(compiler, "compile_extra", compile_and_note)
    return seen


def ask():
    """Use one kernel and check what it says."""
    y = fastbp.softmax(np.array([0.0, 2.0], np.float32))
    np.testing.assert_array_equal(y, np.array([0.11920292, 0.8807971], np.float32))


def ask_anew():
    """The same in what might be a new process."""
    forget()
    ask()


# importing ----------------------------------------------------------------------------------------


def test_import_brings_nothing_but_numpy_and_the_standard_library():
    code = """
import sys
import numpy, numpy.typing
before = set(sys.modules)
import fastbp
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""
    new = set(python(code).split())
    assert "fastbp" in new
    assert new - {"fastbp", "numpy"} <= sys.stdlib_module_names
    # What costs more than all of fastbp itself.
    assert not new & {"asyncio", "ctypes", "http", "multiprocessing", "unittest", "xml"}


def test_import_leaves_rooms_that_few_need_alone():
    code = "import sys, fastbp; print(*(n for n in sys.modules if n.startswith('fastbp.')))"
    loaded = set(python(code).split())
    assert "fastbp.ops" in loaded
    few_need = ("demo", "layers", "optim", "reference", "testing", "train", "cpu.simd")
    assert not loaded & {f"fastbp.{room}" for room in few_need}


@pytest.mark.parametrize("room", ["layers", "optim", "reference", "testing", "train", "demo"])
def test_other_rooms_start_no_compiler_either(room):
    code = f"import sys, fastbp.{room}; print({{'numba', 'tqdm', 'sklearn'}} & set(sys.modules))"
    assert python(code) == "set()\n"


def test_a_wrong_argument_is_told_without_starting_the_compiler():
    code = """
import sys, fastbp
try:
    fastbp.softmax("text")
except TypeError as error:
    print(error, "numba" in sys.modules)
"""
    assert python(code).startswith("x has dtype <U4")
    assert python(code).endswith(" False\n")


def test_little_work_starts_no_threads(tmp_path):
    code = """
import numba, numpy as np, fastbp
fastbp.softmax(np.zeros((10, 10), np.float32))
try:
    print(numba.threading_layer())
except ValueError:
    print("no threads")
"""
    assert python(code, cache_dir=tmp_path) == "no threads\n"


# the cache, between processes ---------------------------------------------------------------------


def test_the_second_process_compiles_nothing(tmp_path):
    assert python(ASK, cache_dir=tmp_path) == ANSWER
    kept = kernels(tmp_path)
    assert len(kept) >= 1
    assert python(COMPILING_IS_AN_ERROR + ASK, cache_dir=tmp_path) == ANSWER
    assert kernels(tmp_path) == kept


def test_what_only_compiling_needs_is_not_loaded_with_a_kernel(tmp_path):
    code = "import sys" + ASK + "print({'numba.np.linalg', 'scipy.linalg'} & set(sys.modules))"
    first, second = (python(code, cache_dir=tmp_path) for _ in range(2))
    assert first.startswith(ANSWER + "{'")
    assert second == ANSWER + "set()\n"


def test_a_kernel_is_compiled_after_another_was_loaded(tmp_path):
    python(ASK, cache_dir=tmp_path)
    more = "print(fastbp.log_softmax([0.0, 40.0])[0])"
    assert python(ASK + more, cache_dir=tmp_path) == ANSWER + "-40.0\n"


def test_compiling_would_have_been_seen(tmp_path):
    code = COMPILING_IS_AN_ERROR + ASK.replace("print", "x = ") + "\n"
    caught = f"try:\n{re.sub('^', '    ', code, flags=re.MULTILINE)}\n"
    caught += "except AssertionError as error: print(error)"
    assert python(caught, cache_dir=tmp_path) == "a kernel is being compiled\n"


def test_a_changed_source_is_never_answered_with_old_kernels(tmp_path):
    package, folder = tmp_path / "changed" / "fastbp", tmp_path / "cache"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    code = "import fastbp; print(fastbp.__file__, fastbp.sigmoid_backward(1.0, 0.5))"
    assert python(code, package=package, cache_dir=folder) == f"{package}/__init__.py 0.25\n"
    kept = kernels(folder)

    formulas = package / "formulas" / "sigmoid.py"
    source = formulas.read_text("utf-8")
    assert source.count("return dy * (y * (1.0 - y))") == 1
    formulas.write_text(source.replace("dy * (y * (1.0 - y))", "dy * (y * (3.0 - y))"), "utf-8")
    assert python(code, package=package, cache_dir=folder) == f"{package}/__init__.py 1.25\n"
    now = kernels(folder)
    assert {path: content for path, content in now.items() if path in kept} == kept
    assert len(now) == 2 * len(kept) >= 2
    assert len({path.parent for path in now}) == 2

    formulas.write_text(source, "utf-8")  # and back: the first kernels are good again
    assert python(COMPILING_IS_AN_ERROR + code, package=package, cache_dir=folder).endswith(
        " 0.25\n"
    )
    assert kernels(folder) == now


@pytest.mark.parametrize("place", ["below a file", "read-only", "a file", "no such drive"])
def test_a_folder_that_cannot_be_written_costs_time_only(place, tmp_path):
    if place == "read-only":
        folder = tmp_path / "locked"
        folder.mkdir()
        folder.chmod(0o500)
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write into read-only folders")
    elif place == "no such drive":
        folder = Path("/proc/fastbp" if sys.platform == "linux" else "/dev/null/fastbp")
    else:
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file" / ("cache" if place == "below a file" else "")
    assert python(ASK, cache_dir=folder) == ANSWER
    assert [path for path in kernels(tmp_path).values() if path] == []


# the cache, within a process ----------------------------------------------------------------------


def test_a_kernel_is_compiled_once(cache_dir, compilations):
    ask()
    assert compilations
    compilations.clear()
    ask()
    ask_anew()
    assert compilations == []
    kept = kernels(cache_dir)
    assert cache.size() == (len(kept), sum(map(len, kept.values())))


def damaged(content):
    """Ways in which a file may have suffered."""
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return {
        "empty": b"",
        "one byte": content[:1],
        "digest only": content[: cache.DIGEST_SIZE],
        "half": content[: len(content) // 2],
        "last byte missing": content[:-1],
        "one byte more": content + b"\0",
        "one bit flipped": bytes(flipped),
        "text": b"This is no kernel.\n" * 1000,
        "zeros": bytes(len(content)),
    }


@pytest.mark.parametrize("damage", damaged(bytes(100)))
def test_a_damaged_file_is_ignored_and_replaced(damage, cache_dir, compilations):
    ask()
    kept = kernels(cache_dir)
    for path, content in kept.items():
        path.write_bytes(damaged(content)[damage])
    compilations.clear()
    ask_anew()
    assert compilations
    assert kernels(cache_dir).keys() == kept.keys()
    compilations.clear()
    ask_anew()  # the file is good again
    assert compilations == []


def test_a_folder_in_the_place_of_a_file_is_left_alone(cache_dir, compilations):
    ask()
    paths = list(kernels(cache_dir))
    for path in paths:
        path.unlink()
        path.mkdir()
    compilations.clear()
    ask_anew()
    assert compilations
    assert all(path.is_dir() for path in paths)
    assert kernels(cache_dir) == {}  # nor does anything half written stay behind


def test_dtypes_and_threads_have_kernels_of_their_own(cache_dir, compilations, monkeypatch):
    monkeypatch.setattr(run, "usable_threads", lambda: 2)
    many = np.zeros((4, run.PARALLEL_FROM), np.float32)

    def ask_all():
        for x in (many[:, :10], many, many.astype(np.float64)):
            assert set(fastbp.softmax(x).ravel()) == {np.float32(1 / x.shape[1])}

    ask_all()
    assert compilations.count("run_kernel") == 2  # for each dtype
    assert compilations.count("loop") == 1  # for all
    compilations.clear()
    forget()
    ask_all()
    assert compilations == []


def test_an_error_of_a_kernel_comes_through(cache_dir):
    def too_large(first, last, x):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        run.launch(too_large, "f", 1, 1, 1, np.zeros(1, np.float32))


def test_a_kernel_with_an_entry_for_python_is_another_one(cache_dir):
    def fill(first, last, x):
        for i in range(first, last):
            x[i] += 1.0

    x = np.zeros(3, np.float32)
    for _ in range(2):  # the second time, from the disk
        run.launch(fill, "f", 3, 1, 1, x)
        run.serial(fill, "f", 3, x)
        forget()
    assert x.tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_is_collected_after_compiling_as_before(collecting, cache_dir):
    (gc.enable if collecting else gc.disable)()
    try:
        ask()
        assert gc.isenabled() == collecting
    finally:
        gc.enable()


def test_no_kernel_is_taken_for_another(tmp_path):
    """All of these have the same types of arguments."""
    code = """
import numpy as np, fastbp
x = np.linspace(-3, 3, 7)
sigmoid = 1 / (1 + np.exp(-x))
for _ in range(2):  # the second time, by what the first one compiled
    np.testing.assert_allclose(fastbp.sigmoid(x), sigmoid)
    np.testing.assert_allclose(fastbp.log_sigmoid(x), np.log(sigmoid))
    np.testing.assert_allclose(fastbp.sigmoid_backward(x, x), x * x * (1 - x))
    np.testing.assert_allclose(fastbp.sigmoid_backward(x, x=x), x * sigmoid * (1 - sigmoid))
    np.testing.assert_allclose(fastbp.log_sigmoid_backward(x, x), x * (1 - sigmoid))
    np.testing.assert_allclose(np.exp(fastbp.log_softmax(x)), fastbp.softmax(x))
"""
    assert python(code, cache_dir=tmp_path) == ""
    assert len(kernels(tmp_path)) >= 7
    assert python(COMPILING_IS_AN_ERROR + code, cache_dir=tmp_path) == ""


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTBP_CACHE_DIR", str(tmp_path))
    assert cache.root() == tmp_path
    assert cache.folder().parent == tmp_path
    assert cache.size() == (0, 0)
    monkeypatch.setenv("FASTBP_CACHE_DIR", "")  # empty is not the current folder
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.root() == tmp_path / "xdg" / "fastbp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.root() == tmp_path / ".cache" / "fastbp"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.root() == tmp_path / "Library" / "Caches" / "fastbp"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache.root() == tmp_path / "local" / "fastbp"


# compiling ahead ----------------------------------------------------------------------------------

USE_EVERYTHING = """
import numpy as np
from fastbp.testing import OPS
rng = np.random.default_rng(0)
for operation in OPS.values():
    for dtype in {dtypes}:
        if not operation.is_plain:
            continue
        for shape in ((3, 5), (2000, 50)):
            operation.call(operation.inputs(rng, shape, np.dtype(dtype)))
"""


WARM_UP = """
import fastbp
from fastbp.cpu import cache, run
seconds = fastbp.warmup({dtypes})
print(len(run._addresses) + len(set(run._functions.values())), cache.size()[0], *seconds.values())
"""


@pytest.mark.parametrize(
    "dtypes", [["float32"], pytest.param(["float32", "float64"], marks=pytest.mark.slow)]
)
def test_after_warmup_nothing_is_compiled(dtypes, tmp_path):
    # float32 in the folder that all tests share, as compiling everything takes minutes.
    folder = tmp_path if len(dtypes) == 2 else None
    n_compiled, n_kept, *seconds = map(
        float, python(WARM_UP.format(dtypes=dtypes), cache_dir=folder).split()
    )
    assert len(seconds) > 10 * len(dtypes)
    assert all(0 <= s < 300 for s in seconds)
    assert n_compiled <= n_kept  # each with a file of its own
    python(COMPILING_IS_AN_ERROR + USE_EVERYTHING.format(dtypes=dtypes), cache_dir=folder)


def test_warmup_takes_the_dtypes_of_kernels_only():
    with pytest.raises(TypeError, match="int64"):
        fastbp.warmup(np.int64)


def test_info_describes_the_machine_and_the_cache(cache_dir, capsys):
    ask()
    assert main(["info"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    for word in (fastbp.__version__, "CPU", "vector", "threads", "threading layer", "devices"):
        assert word.lower() in captured.out.lower()
    assert str(cache_dir) in captured.out
    assert re.search(r"\b[1-9]\d* kernel", captured.out)
