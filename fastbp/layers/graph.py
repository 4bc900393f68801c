"""Layers that feed each other in any way that has no cycle."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastbp.checks import as_values, same_shape

from .base import Array, Layer, found_twice, is_layer
from .losses import Loss

Nodes = dict[str, tuple[Any, ...]]


class Graph(Layer):
    """A computation graph: each node is a layer, fed by inputs of the graph and by other nodes.

    ``forward(*inputs)`` computes every node once, and after the nodes that feed it. A value may
    feed several nodes; ``backward`` adds up the gradients that come back from them.

    ``params`` and ``grads`` gather those of all layers under names such as ``"hidden.weight"``: the
    node and the layer's own name. The arrays are the layers' own (change them in place), the dicts
    are made anew at each access.

    Parameters
    ----------
    nodes : dict of str to tuple
        Name → ``(layer, name, …)``: a layer, gate, loss, `Sequential` or `Graph`, and for each of
        its inputs the name of an input of the graph or of another node. They may come in any order,
        and a name may stand there twice. Names hold no dot.
    inputs : str or sequence of str
        Names of what ``forward`` takes, in this order.
    output : str or sequence of str
        Names of the nodes whose results ``forward`` returns, in this order.
    input_grads : bool or sequence of str
        The inputs whose gradients ``backward`` returns: all, none, or those named.

    Attributes
    ----------
    nodes : dict of str to tuple
        As it was given, in the order in which nodes are computed.
    inputs, outputs, input_grads : tuple of str
        Names of inputs, of output nodes, and of the inputs whose gradients are returned.

    Raises
    ------
    TypeError
        If ``nodes`` is not a dict, a node not a tuple or list, a name not a string, or an object
        not a layer.
    ValueError
        If there are no nodes, nodes form a cycle, a name is unknown, stands for two things or holds
        a dot, a node has fewer or more inputs than its layer takes, a node or input leads to no
        output, a layer is there twice (it remembers only its latest input, so that gradients would
        be wrong), or the gradient of an input is asked for which has none.

    Notes
    -----
    *Targets.* The second input of a `Loss` has no gradient. What leads to the output only through
    targets is computed and never trained: its parameters are not among ``params``. An input that
    does so has the gradient None.

    *Pruning.* ``backward`` calls that of a layer only if the layer has parameters or lies between
    such a layer, or an input whose gradient is asked for, and the output.

    *Order.* Nodes are computed, and gradients added up, in an order that depends on nothing but
    ``nodes``, so that the same graph gives the same bits.

    Examples
    --------
    A block with a shortcut, y = x + relu(x W + b):

    >>> from fastbp.layers import Add, Graph, Linear, ReLU, SquaredError
    >>> block = Graph(
    ...     {"linear": (Linear(3, 3, rng=0), "x"), "relu": (ReLU(), "linear"),
    ...      "y": (Add(), "x", "relu")},
    ...     inputs="x", output="y",
    ... )
    >>> block.forward(np.zeros((2, 3)))
    array([[0., 0., 0.],
           [0., 0., 0.]])
    >>> block.backward(np.ones((2, 3)))
    array([[1., 1., 1.],
           [1., 1., 1.]])
    >>> list(block.grads)
    ['linear.weight', 'linear.bias']

    With a loss as the last node, targets are an input without a gradient:

    >>> net = Graph(
    ...     {"block": (block, "x"), "loss": (SquaredError(reduction="sum"), "block", "targets")},
    ...     inputs=("x", "targets"), output="loss",
    ... )
    >>> net.forward([[0.0, 0.0, 0.0]], [[1.0, 2.0, 2.0]])
    np.float64(9.0)
    >>> net.backward()
    (array([[-2., -4., -4.]]), None)
    """

    def __init__(
        self,
        nodes: Mapping[str, Sequence[Any]],
        inputs: str | Sequence[str],
        output: str | Sequence[str],
        *,
        input_grads: bool | Sequence[str] = True,
    ) -> None:
        super().__init__()
        self.inputs = _names("inputs", inputs)
        self.outputs = _names("output", output)
        self.nodes = _in_order(_checked(nodes, self.inputs), self.inputs)
        for name in self.outputs:
            if name not in self.nodes:
                what = "an input" if name in self.inputs else "unknown"
                raise ValueError(f"output {name!r} is {what}; expected the name of a node")
        self._check_all_lead_to_output()
        # What has a gradient: a change of it changes an output, not by way of targets.
        self._differentiable = self._leading_to_outputs(with_targets=False)
        if isinstance(input_grads, bool):
            wanted = self.inputs if input_grads else ()
            self.input_grads = tuple(name for name in wanted if name in self._differentiable)
        else:
            self.input_grads = _names("input_grads", input_grads) if len(input_grads) else ()
            for name in self.input_grads:
                if name not in self.inputs:
                    raise ValueError(f"input_grads names {name!r}, which is no input")
                if name not in self._differentiable:
                    raise ValueError(f"input {name!r} is only a target, which has no gradient")

    @property
    def parts(self) -> tuple[Any, ...]:
        return tuple(layer for layer, *_ in self.nodes.values())

    @property
    def params(self) -> dict[str, Array]:
        return {
            f"{node}.{name}": param
            for node, (layer, *_) in self.nodes.items()
            if node in self._differentiable
            for name, param in _params(layer).items()
        }

    @property
    def grads(self) -> dict[str, Array]:
        return {
            f"{node}.{name}": layer.grads[name]
            for node, (layer, *_) in self.nodes.items()
            if node in self._differentiable
            for name in _params(layer)
            if name in layer.grads
        }

    def forward(self, *inputs: ArrayLike) -> Any:
        """The results of the output nodes: of one as it is, of several as a tuple."""
        _check_count("forward", "input", self.inputs, inputs)
        self._saved = None  # an error leaves nothing of an earlier call
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        for name, (layer, *sources) in self.nodes.items():
            values[name] = layer.forward(*(values[source] for source in sources))
        results = tuple(values[name] for name in self.outputs)
        self._saved = tuple(np.shape(result) for result in results)
        return results[0] if len(results) == 1 else results

    def backward(self, *dy: ArrayLike) -> Any:
        """The gradients of the inputs, from those of the outputs; fills ``grads``.

        Parameters
        ----------
        *dy : ndarray
            The gradient of each output, in its shape. They may be left out if all outputs are
            losses, and are 1 then.

        Returns
        -------
        ndarray, None, or tuple of them
            The gradient of the input, or a tuple for several inputs; None where there is none, or
            none is asked for.
        """
        shapes = self._recall()
        if not dy and all(isinstance(self.nodes[name][0], Loss) for name in self.outputs):
            dy = (1.0,) * len(self.outputs)
        _check_count("backward", "gradient", self.outputs, dy)
        gradients: dict[str, Any] = {}
        for name, gradient, shape in zip(self.outputs, dy, shapes, strict=True):
            gradients[name] = gradient
            if not isinstance(self.nodes[name][0], Loss):  # which takes a number for all its rows
                gradients[name] = as_values(gradient, "dy")
                same_shape(gradients[name], "dy", shape, f"output {name!r}")

        needed = self._needed()
        for name in reversed(self.nodes):
            if name not in needed:
                continue
            layer, *sources = self.nodes[name]
            parts = _as_many(layer.backward(gradients.pop(name)), layer, len(sources))
            for i, (source, part) in enumerate(zip(sources, parts, strict=True)):
                if source not in needed or not _has_gradient(layer, i):
                    continue
                if part is None:
                    raise ValueError(f"node {name!r}, {layer!r}, has no gradient of {source!r}")
                with np.errstate(all="ignore"):
                    total = gradients[source] + part if source in gradients else part
                gradients[source] = total
        found = tuple(gradients[n] if n in self.input_grads else None for n in self.inputs)
        return found[0] if len(found) == 1 else found

    def __repr__(self) -> str:
        nodes = ", ".join(
            f"{name!r}: ({', '.join(map(repr, node))})" for name, node in self.nodes.items()
        )
        named = [
            repr(names[0] if len(names) == 1 else names) for names in (self.inputs, self.outputs)
        ]
        return f"Graph({{{nodes}}}, {', '.join(named)})"

    def _leading_to_outputs(self, *, with_targets: bool) -> set[str]:
        """The nodes and inputs from which a way leads to an output."""
        leading = set(self.outputs)
        for name in reversed(self.nodes):
            layer, *sources = self.nodes[name]
            if name in leading:
                leading.update(
                    source
                    for i, source in enumerate(sources)
                    if with_targets or _has_gradient(layer, i)
                )
        return leading

    def _check_all_lead_to_output(self) -> None:
        leading = self._leading_to_outputs(with_targets=True)
        for kind, names in (("node", self.nodes), ("input", self.inputs)):
            for name in names:
                if name not in leading:
                    raise ValueError(f"{kind} {name!r} leads to no output")

    def _needed(self) -> set[str]:
        """The nodes and inputs whose gradients ``backward`` has to know."""
        needed = set(self.input_grads)
        for name, (layer, *sources) in self.nodes.items():
            has_needed = any(
                source in needed and _has_gradient(layer, i) for i, source in enumerate(sources)
            )
            if name in self._differentiable and (has_needed or _params(layer)):
                needed.add(name)
        return needed


# what a graph is made from ------------------------------------------------------------------------


def _names(argument: str, names: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several as a tuple, none of them twice."""
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names:
        raise ValueError(f"{argument} is empty; expected a name or several")
    for i, name in enumerate(names):
        _check_name(argument, name)
        if name in names[:i]:
            raise ValueError(f"{argument} names {name!r} twice")
    return names


def _check_name(argument: str, name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{argument} has the name {name!r}; expected a string")
    if not name or "." in name:  # a dot stands between the node and the parameter: "hidden.weight"
        raise ValueError(f"{argument} has the name {name!r}; expected one without a dot")


def _checked(nodes: Any, inputs: tuple[str, ...]) -> Nodes:
    """The nodes as name → (layer, name, …)."""
    if not isinstance(nodes, Mapping):
        raise TypeError(f"nodes is a {type(nodes).__name__}; expected a dict")
    if not nodes:
        raise ValueError("nodes is empty; expected at least one")
    for name, node in nodes.items():
        _check_name("nodes", name)
        if name in inputs:
            raise ValueError(f"{name!r} is the name of an input and of a node")
        if not isinstance(node, tuple | list):
            raise TypeError(
                f"node {name!r} is a {type(node).__name__}; expected (layer, names of its inputs …)"
            )
        if not node or not is_layer(node[0]):
            got = repr(node[0]) if node else "nothing"
            raise TypeError(f"node {name!r} must begin with a layer, got {got}")
        for source in node[1:]:
            if not isinstance(source, str):
                raise TypeError(f"node {name!r} takes {source!r}; expected the name of an input")
            if source not in nodes and source not in inputs:
                raise ValueError(f"node {name!r} takes {source!r}, neither a node nor an input")
        _check_takes(name, node[0], len(node) - 1)
    twice = found_twice(node[0] for node in nodes.values())
    if twice is not None:
        i, layer = twice
        raise ValueError(f"node {list(nodes)[i]!r} holds {layer!r}, which appears twice")
    return {name: tuple(node) for name, node in nodes.items()}


def _check_takes(name: str, layer: Any, n_inputs: int) -> None:
    """That the layer of this node can be called with so many inputs."""
    if n_inputs == 0:
        raise ValueError(f"node {name!r} has no inputs")
    if isinstance(layer, Graph):
        if n_inputs != len(layer.inputs):
            raise ValueError(
                f"node {name!r} has {n_inputs} inputs; its graph takes {len(layer.inputs)}"
            )
        if len(layer.outputs) > 1:
            raise ValueError(f"node {name!r} is a graph of several outputs; expected one")
        return
    try:
        signature = inspect.signature(layer.forward)
    except (TypeError, ValueError):  # of a compiled function
        return
    try:
        signature.bind(*range(n_inputs))
    except TypeError as error:
        raise ValueError(
            f"node {name!r} has {n_inputs} inputs; {type(layer).__name__}.forward: {error}"
        ) from None


def _in_order(nodes: Nodes, inputs: Iterable[str]) -> Nodes:
    """The nodes, each after those that feed it."""
    sorter = TopologicalSorter(
        {name: [s for s in sources if s not in inputs] for name, (_, *sources) in nodes.items()}
    )
    try:
        return {name: nodes[name] for name in sorter.static_order()}
    except CycleError as error:
        raise ValueError(f"nodes form a cycle: {' → '.join(error.args[1])}") from None


# what layers tell ---------------------------------------------------------------------------------


def _params(layer: Any) -> dict[str, Array]:
    """A loss has none."""
    return getattr(layer, "params", {})


def _has_gradient(layer: Any, i: int) -> bool:
    """Whether its backward pass gives the gradient of its input i."""
    if isinstance(layer, Graph):
        return layer.inputs[i] in layer.input_grads
    return i == 0 or not isinstance(layer, Loss)


def _as_many(gradients: Any, layer: Any, n_inputs: int) -> tuple[Any, ...]:
    """What backward returned, as one gradient for each input."""
    if isinstance(layer, Loss):
        return gradients, None
    if n_inputs == 1 and not isinstance(gradients, tuple):
        return (gradients,)
    if not isinstance(gradients, tuple) or len(gradients) != n_inputs:
        got = f"{len(gradients)} gradients" if isinstance(gradients, tuple) else "no tuple"
        raise ValueError(f"{layer!r} has {n_inputs} inputs, but its backward returned {got}")
    return gradients


def _check_count(method: str, what: str, names: tuple[str, ...], given: tuple[Any, ...]) -> None:
    if len(given) != len(names):
        raise TypeError(
            f"Graph.{method} takes one {what} for each of {', '.join(names)}; got {len(given)}"
        )
