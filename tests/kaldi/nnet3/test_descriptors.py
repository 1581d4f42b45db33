"""Descriptors: what they read at each time, against a slow reading of their definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import DataError
from limbeck.kaldi.nnet3.components import Component
from limbeck.kaldi.nnet3.descriptors import Node
from limbeck.kaldi.nnet3.fields import Field, Value
from limbeck.kaldi.nnet3.module import Nnet3Module
from limbeck.kaldi.nnet3.network import Nnet3
from limbeck.kaldi.nnet3.nodes import NetworkNode, parse_line
from limbeck.kaldi.nnet3.parsing import parse_descriptor
from limbeck.kaldi.nnet3.planning import context_of, modulus_of
from limbeck.kaldi.nnet3.renaming import renamed

FIRST, LAST = -4, 9


@pytest.mark.parametrize(
    "text",
    [
        "input",
        "Append(Offset(input, -1), input, Offset(input, 1))",
        "Sum(Scale(0.66, a.b), Offset(c-d, 3))",
        "Failover(Offset(a, -40), IfDefined(Round(b, 3)))",
        "Switch(a, Const(0.25, 1), ReplaceIndex(ivector, t, 0))",
        "ReplaceIndex(ivector, x, 0)",
    ],
)
def test_descriptors_are_written_as_they_were_read(text):
    assert str(parse_descriptor(text)) == text
    assert str(parse_descriptor(text.replace(" ", "").replace("(", " ( "))) == text


def leaves(depth):
    inner = st.deferred(lambda: leaves(depth - 1)) if depth else st.nothing()
    two = st.tuples(inner, inner) if depth else st.nothing()
    return st.one_of(
        st.just("input"),
        st.just("Const(0.5, 1)"),
        st.tuples(inner, st.integers(-3, 3)).map("Offset({0[0]}, {0[1]})".format),
        st.tuples(inner, st.sampled_from([0.5, -2.0])).map("Scale({0[1]}, {0[0]})".format),
        st.tuples(inner, st.integers(1, 3)).map("Round({0[0]}, {0[1]})".format),
        inner.map("IfDefined({})".format),
        inner.map("ReplaceIndex({}, t, 2)".format),
        two.map("Sum({0[0]}, {0[1]})".format),
        two.map("Failover({0[0]}, {0[1]})".format),
        two.map("Switch({0[0]}, {0[1]})".format),
    )


def slowly(text, time, frames):
    """The value at one time, or None where it cannot be computed: the definition, word for word."""
    name, _, rest = text.partition("(")
    if not rest:
        return float(frames[time - FIRST]) if FIRST <= time <= LAST else None
    parts, depth, piece = [], 0, ""
    for letter in rest[:-1]:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and not depth:
            parts.append(piece.strip())
            piece = ""
        else:
            piece += letter
    parts.append(piece.strip())
    if name == "Const":
        return float(parts[0])
    if name == "Offset":
        return slowly(parts[0], time + int(parts[1]), frames)
    if name == "Round":
        return slowly(parts[0], time - time % int(parts[1]), frames)
    if name == "ReplaceIndex":
        return slowly(parts[0], int(parts[2]), frames)
    if name == "Switch":
        return slowly(parts[time % len(parts)], time, frames)
    if name == "Scale":
        value = slowly(parts[1], time, frames)
        return None if value is None else float(parts[0]) * value
    values = [slowly(part, time, frames) for part in parts]
    if name == "IfDefined":
        return 0.0 if values[0] is None else values[0]
    if name == "Failover":
        return values[1] if values[0] is None else values[0]
    return None if None in values else sum(values)


def network(text):
    nodes = (NetworkNode("input-node", "input", dim=1), NetworkNode("output-node", "output", parse_descriptor(text)))
    return Nnet3(nodes, ())


@settings(max_examples=40, deadline=None)
@given(leaves(3))
def test_values_against_the_definition(text):
    same_as_slowly(f"IfDefined({text})", np.arange(-6, 12))


@pytest.mark.parametrize("text", ["IfDefined(Offset(input, -1))", "Failover(Offset(input, 1), Const(2, 1))"])
def test_a_single_time_that_cannot_be_computed(text):
    same_as_slowly(text, np.arange(FIRST, LAST + 1))


def same_as_slowly(text, times):
    nnet = network(f"Sum({text}, Scale(0, Failover(input, Const(0, 1))))")
    frames = np.random.default_rng(0).standard_normal(LAST - FIRST + 1).astype(np.float32)
    module = Nnet3Module(nnet)
    schedule = module.schedule(times, first=FIRST, last=LAST)
    found = module.run(torch.from_numpy(frames)[None, :, None], schedule)[0, :, 0]
    expected = [slowly(text, int(time), frames) for time in times]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_context_and_modulus():
    assert context_of(network("Append(Offset(input, -3), Offset(input, 200))")) == (3, 200)
    assert context_of(network("Sum(Round(input, 3), IfDefined(Offset(input, -9)))")) == (2, 0)
    assert modulus_of(network("Append(Round(input, 4), Switch(input, input, input))")) == 12
    with pytest.raises(DataError, match="context is too wide"):
        context_of(network("Offset(input, 1000000)"))
    with pytest.raises(DataError, match="repeats only after"):
        modulus_of(network("Append(Round(input, 997), Round(input, 991))"))


def no_op(name):
    return Component(name, "NoOp", (Field("Dim", (Value("i", 1),)),))


def chain(descriptors):
    nodes = [NetworkNode("input-node", "n0", dim=1)]
    nodes += [
        NetworkNode("component-node", f"n{k}", parse_descriptor(text.format(k - 1)), "no")
        for k, text in enumerate(descriptors, 1)
    ]
    return Nnet3((*nodes, NetworkNode("output-node", "output", Node(nodes[-1].name))), (no_op("no"),))


def test_deep_and_wide_networks_are_not_recursed_into():
    assert context_of(chain(["Sum(n{0}, Offset(n{0}, 1))"] * 60)) == (0, 60)
    assert context_of(chain(["Scale(0.5, n{0})"] * 1000)) == (0, 0)
    doubling = [f"Sum(n{{0}}, Offset(n{{0}}, {1 << k}))" for k in range(19)]  # half a million times of the input
    with pytest.raises(DataError, match="more than 4194304 values"):
        context_of(chain(doubling))


def test_circles_are_named():
    nodes = tuple(
        parse_line(line)
        for line in (
            "input-node name=input dim=1",
            "component-node name=a component=no input=Sum(input, Offset(b, -1))",
            "component-node name=b component=no input=a",
            "output-node name=output input=b",
        )
    )
    with pytest.raises(DataError, match="reads itself over others: recurrent networks"):
        Nnet3(nodes, (no_op("no"),)).order("output")


def test_renaming_changes_whole_names_alone():
    node = parse_line("component-node name=a component=Offset input=Append(Offset, Offset(Offset.b, 1), a-b)")
    assert renamed(node, {"Offset": "new", "a": "x"}).written() == (
        "component-node name=a component=Offset input=Append(new, Offset(Offset.b, 1), a-b)"
    )
    ranged = parse_line("dim-range-node name=r input-node=a dim-offset=1 dim=2")
    assert renamed(ranged, {"a": "b"}).written() == "dim-range-node name=r input-node=b dim-offset=1 dim=2"
