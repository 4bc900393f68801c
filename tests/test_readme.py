"""What the README and the docstrings show is run as it stands there."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp
from fastbp.__main__ import main

ROOT = Path(__file__).resolve().parent.parent

# Doctests show numbers as NumPy 2 writes them: np.float64(0.5).
needs_numpy_2 = pytest.mark.skipif(
    int(np.__version__.split(".")[0]) < 2, reason="NumPy 1 writes numbers in another way"
)


@pytest.fixture
def readme():
    """The README's text."""
    return (ROOT / "README.md").read_text("utf-8")


def blocks(markdown, *languages):
    """The fenced blocks of code in one of these languages, in order."""
    fenced = re.findall(r"^```([\w-]+)[^\n]*\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    return [code for language, code in fenced if language in languages]


def commands(markdown):
    """The lines of each block of shell commands, without prompts and comments."""
    found = []
    for block in blocks(markdown, "bash", "sh", "shell", "console"):
        lines = [re.sub(r"^\$ |\s+#.*$|^#.*$", "", line).strip() for line in block.splitlines()]
        found.append([line for line in lines if line])
    return found


def run_block(code, namespace, name):
    """Run a block: as a doctest if it has prompts, else as a program."""
    if ">>> " not in code:
        exec(compile(code, name, "exec"), namespace)  # noqa: S102  (the README's own code)
        return
    report = []
    test = doctest.DocTestParser().get_doctest(code, namespace, name, name, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    assert not report, "".join(report)


# the README ---------------------------------------------------------------------------------------


@needs_numpy_2
def test_python_blocks_run_in_order(tmp_path, readme, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs = blocks(readme, "python", "pycon")
    assert programs
    namespace = {"__name__": "readme"}
    for i, code in enumerate(programs, start=1):
        run_block(code, namespace, f"README, python block {i}")


def test_a_wrong_block_is_found():
    namespace = {}
    run_block(">>> x = 1\n>>> x\n1\n", namespace, "right")
    run_block("assert x == 1", namespace, "right")
    with pytest.raises(AssertionError, match="Expected"):
        run_block(">>> x\n2\n", namespace, "wrong")
    with pytest.raises(ZeroDivisionError):
        run_block("x / 0", namespace, "wrong")


def test_two_commands_come_first(readme):
    run_it, test_it = commands(readme)[:2]
    assert any("pip install" in line for line in run_it)
    assert re.search(r"\bfastbp train\b", run_it[-1])
    assert any(re.search(r"pip install .*\.\[test\]", line) for line in test_it)
    assert re.search(r"\bpytest$", test_it[-1])


def test_commands_that_the_readme_names_exist(capsys, readme):
    named = set()
    for block in commands(readme):
        for line in block:
            named.update(re.findall(r"(?:^|[;&] *|-m )fastbp ([a-z]+[a-z ]*)?", line))
    named = {words.split()[0] for words in named if words}
    assert "train" in named
    for command in named:
        assert main([command, "--help"]) == 0
    assert "usage" in capsys.readouterr().out


def test_extras_that_the_readme_names_exist(readme):
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = re.findall(r"(?:fastbp|\.)\[([a-z,]+)\]", readme)
    named = {extra for names in lists for extra in names.split(",")}
    assert "test" in named
    assert named <= set(project["optional-dependencies"])


def test_every_operation_is_in_the_readme(readme):
    missing = [name for name in fastbp.ops.__all__ if not re.search(rf"\b{name}\b", readme)]
    assert missing == []


def test_links_lead_somewhere(readme):
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", readme)
    assert [link for link in links if not (ROOT / link).exists()] == []
    titles = re.findall(r"^#+ (.*)$", readme, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", readme)) <= anchors


def test_the_changelog_begins_with_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## (\S+)", changelog, re.MULTILINE)[0] == fastbp.__version__


# docstrings ---------------------------------------------------------------------------------------


def without_numba_cuda(name):
    """Of fastbp.cuda.device, which only numba-cuda can import."""
    assert name == "fastbp.cuda.device"


def doctests():
    """Every example in the docstrings of fastbp, once."""
    found = {}
    finder = doctest.DocTestFinder(exclude_empty=True)
    none = "fastbp.__main__", "fastbp.cpu.simd", "fastbp.cuda.device"
    for module_info in pkgutil.walk_packages(
        fastbp.__path__, "fastbp.", onerror=without_numba_cuda
    ):
        if module_info.name.startswith(none):
            continue  # they have none, and would start more than they are worth
        module = importlib.import_module(module_info.name)
        for test in finder.find(module, module_info.name):
            if test.examples:
                found[test.name] = test
    return found


DOCTESTS = doctests()


@needs_numpy_2
@pytest.mark.parametrize("name", DOCTESTS)
def test_docstring_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test, report = DOCTESTS[name], []
    test.globs.update(np=np, fastbp=fastbp)
    doctest.DocTestRunner().run(test, out=report.append)
    assert not report, "".join(report)


def test_every_operation_has_an_example():
    shown = {name.rsplit(".", 1)[-1] for name in DOCTESTS if name.startswith("fastbp.ops.")}
    assert set(fastbp.ops.__all__) <= shown


def test_version_is_read_without_importing():
    """pip takes the version from the source, before numba is there."""
    source = (Path(fastbp.__file__)).read_text("utf-8")
    assert f'__version__ = "{fastbp.__version__}"' in source
    shown = subprocess.run(
        [sys.executable, "-m", "fastbp", "--version"],
        capture_output=True, text=True, check=True,
        env=dict(os.environ, PYTHONPATH=str(Path(fastbp.__file__).parent.parent)),
    )  # fmt: skip
    assert shown.stdout == f"fastbp {fastbp.__version__}\n"
