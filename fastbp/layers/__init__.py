"""Layers of a network: each holds its parameters and calls fastbp's operations.

A layer has ``forward(x)``, ``backward(dy)`` and two dicts of arrays by name, ``params`` and
``grads``. A gate is a layer of several inputs: ``forward(a, b, …)``, and ``backward(dy)`` gives as
many arrays. A loss has ``forward(x, targets)`` and ``backward(dloss=1.0)``. `Sequential` and
`Graph` are layers made of layers. The rules that hold for all of them:

- ``backward`` belongs to the latest ``forward`` and before any is a ``RuntimeError``.
- ``backward`` *overwrites* ``grads``; nothing is accumulated from one call to the next.
- What ``backward`` needs is kept by reference, not copied: arrays that went into or came out of
  ``forward`` must not be changed before ``backward`` has run.
- Results have the dtype of the layer's input, as in the operations; ``grads`` have the shapes and
  dtypes of ``params``.
"""

from .activations import LogSigmoid, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from .base import Layer
from .gates import Add, Gate, Maximum, Minimum, Multiply
from .graph import Graph
from .linear import Linear
from .losses import CrossEntropy, Loss, SigmoidCrossEntropy, SoftmaxCrossEntropy, SquaredError
from .sequential import Sequential

__all__ = [
    "Add",
    "CrossEntropy",
    "Gate",
    "Graph",
    "Layer",
    "Linear",
    "LogSigmoid",
    "LogSoftmax",
    "Loss",
    "Maximum",
    "Minimum",
    "Multiply",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SigmoidCrossEntropy",
    "Softmax",
    "SoftmaxCrossEntropy",
    "SquaredError",
    "Tanh",
]
