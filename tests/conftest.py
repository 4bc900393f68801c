"""--cuda: the tests that need a GPU, too."""

import contextlib

import pytest

SKIP = pytest.mark.skip(reason="runs on a GPU: pytest --cuda")


def pytest_addoption(parser):
    group = parser.getgroup("fastbp")
    with contextlib.suppress(ValueError):  # that of the benchmarks, where both run
        group.addoption("--cuda", action="store_true", help="run what needs a GPU, on the one here")
    group.addoption(
        "--cuda-rehearsal",
        action="store_true",
        help="run those tests on NumPy arrays: a test of the tests",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "cuda: needs a GPU; runs with --cuda")


def pytest_collection_modifyitems(config, items):
    if config.getoption("cuda") or config.getoption("cuda_rehearsal"):
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(SKIP)


@pytest.fixture
def threads():
    """Sets Numba's number of threads; afterwards it is as before."""
    numba = pytest.importorskip("numba")
    before = numba.get_num_threads()
    most = numba.config.NUMBA_NUM_THREADS

    def use(n):
        if n > most:
            pytest.skip(f"Numba was started with {most} threads")
        numba.set_num_threads(n)

    yield use
    numba.set_num_threads(before)
