"""The one table of operations, from which tests, `fastbp verify` and the benchmarks all run.

* `OPS` says of every operation by which reference it is judged, on which inputs, how its error is
  measured, how large that may be, and how many bytes the operation has to move.
* `verify` runs the table on this machine.
* `gradcheck` compares a layer's backward pass with finite differences of its forward pass.

A new operation needs a row in `operations`; if it promises something new, a unit in `errors`.
"""

from .check import Verified, gradcheck, verify
from .inputs import Arguments, as_dtype
from .operations import OPS, Operation

__all__ = ["OPS", "Arguments", "Operation", "Verified", "as_dtype", "gradcheck", "verify"]
