"""The numbers of the course notes, and what checks of their rows have in common.

`seed_vectors.json` holds the numbers, corrected and recomputed to 40 digits.
"""

import json
from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose

SEEDS = json.loads((Path(__file__).parent / "seed_vectors.json").read_text())


def register(rows):
    """A decorator that writes a check into `rows` under the names of the rows that it checks."""

    def row(*names):
        def of_check(check):
            for name in names:
                assert name not in rows, f"row {name} has two checks"
                rows[name] = check
            return check

        return of_check

    return row


def seed(key):
    """A seed's vectors as arrays, by name."""
    return {k: v if isinstance(v, str | dict) else np.array(v) for k, v in SEEDS[key].items()}


def close(actual, expected, *, rtol=1e-13, atol=1e-15):
    assert_allclose(actual, expected, rtol=rtol, atol=atol)


def numerical_gradient(f, x, h=1e-5):
    """Central differences of the scalar f."""
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[i] = h
        gradient[i] = (f(x + step) - f(x - step)) / (2 * h)
    return gradient


def agrees(gradient, f, x):
    """That `gradient` is f's at x, by differences."""
    assert np.any(np.abs(gradient) > 1e-3)
    close(gradient, numerical_gradient(f, x), rtol=1e-6, atol=1e-8)
