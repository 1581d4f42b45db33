"""A network without its final softmax, for training; and trained weights back in their model."""

__all__ = ["as_trained", "without_softmax"]

from dataclasses import replace

from limbeck.errors import MismatchError
from limbeck.kaldi.nnet3.descriptors import Node
from limbeck.kaldi.nnet3.model import Nnet3Model
from limbeck.kaldi.nnet3.network import Nnet3

_SOFTMAX = ("Softmax", "LogSoftmax")


def without_softmax(nnet: Nnet3, output: str = "output") -> Nnet3:
    """Drop the softmax, plain or logarithmic, before an output.

    Args:
        nnet: The network.
        output: Which output.

    Returns:
        The network with other nodes and the same components; as it was where the output ends otherwise.
    """
    node = nnet.node_named.get(output)
    if node is None or not isinstance(node.reads, Node):
        return nnet
    last = nnet.node_named[node.reads.name]
    if last.kind != "component-node" or nnet.component_named[last.component].kind not in _SOFTMAX:
        return nnet
    nodes = tuple(replace(node, reads=last.reads, line="") if each is node else each for each in nnet.nodes)
    return replace(nnet, nodes=nodes)


def as_trained(model: Nnet3Model, trained: Nnet3) -> Nnet3Model:
    """A model with the weights of a network that was made of it.

    Args:
        model: What was read: its nodes, transition model and priors are kept.
        trained: Components of the same names and shapes.

    Returns:
        The model with these components.

    Raises:
        MismatchError: If a component is missing, or of another shape.
    """
    parts = []
    for part in model.nnet.components:
        other = trained.component_named.get(part.name)
        if other is None or trained.component_dims[part.name] != model.nnet.component_dims[part.name]:
            raise MismatchError(f"the trained network has no component {part.name} like that of the model")
        parts.append(other)
    return replace(model, nnet=replace(model.nnet, components=tuple(parts)))
