"""What ``fastbp bench`` does, without printing: fastbp beside other libraries on this machine.

* `libraries`, `frameworks`, `peers`: a class for each, with a method for every operation it has.
* `problems`: an operation of `fastbp.testing.OPS`, a shape, its inputs and the right answer.
* `measure`: all libraries in turn, beside a copy of as many bytes as the operation must move.
* `cold`: new processes, from the import to the first result.
* `report`, `tables`, `picture`: what was measured, as JSON, as tables and as a picture.
* `options`: those of the command line.

Every library is shown at its best: arrays of the dtype made beforehand, results written into an
array that exists where the library can do that, everything compiled, as many threads as the others.
None is timed before its answer has been compared with `fastbp.reference`.
"""
