"""Edits of networks against what nnet3-copy --edits made of the same files."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import ConfigError, DataError
from limbeck.kaldi.nnet3.edits import apply_edits
from limbeck.kaldi.nnet3.model import read_nnet3

NNET3 = Path(__file__).parents[2] / "fixtures" / "kaldi" / "nnet3"


def plain(component):
    """All that is the same whatever signs the singular vectors have."""
    return [
        (field.tag, [value.content.tolist() if isinstance(value.content, np.ndarray) else value.content])
        for field in component.fields
        for value in field.values
        if value.kind != "M"
    ]


@pytest.mark.parametrize(
    ("source", "edits", "expected"),
    [
        ("tdnn.bin", "apply-svd name=* bottleneck-dim=4; remove-orphans", "tdnn.svd4.bin"),
        ("tdnn.bin", "apply-svd name=* energy-threshold=0.8\nremove-orphans", "tdnn.svd_energy.bin"),
        ("tdnn.bin", "apply-svd name=* energy-threshold=0.8 shrinkage-threshold=0.6; remove-orphans", "tdnn.bin"),
        ("tdnnf.bin", "apply-svd name=* bottleneck-dim=3; remove-orphans", "tdnnf.svd3.bin"),
        ("tdnn.bin", "reduce-rank name=tdnn*.affine rank=3", "tdnn.reduce3.bin"),
        ("tdnn.txt", "convert-to-fixed-affine name=output.affine", "tdnn.fixedaffine.txt"),
        ("tdnnf.bin", "remove-output-nodes name=output; rename-node old-name=output-xent new-name=output; "
         "remove-orphans", "tdnnf.xent.bin"),
    ],
)  # fmt: skip
def test_equal_to_nnet3_copy(source, edits, expected):
    found, notes = apply_edits(read_nnet3(NNET3 / source).nnet, edits)
    theirs = read_nnet3(NNET3 / expected).nnet
    assert [node.written() for node in found.nodes] == [node.written() for node in theirs.nodes]
    assert [(part.name, part.kind) for part in found.components] == [
        (part.name, part.kind) for part in theirs.components
    ]
    products = []
    for nnet in (found, theirs):
        weights = {}
        for part in nnet.components:
            for value in (value for field in part.fields for value in field.values if value.kind == "M"):
                weights[part.name] = value.content.astype(np.float64)
        halves = [name.removesuffix("_a") for name in weights if name.endswith("_a")]
        # The roots of the singular values are in both halves: signs are free, and lengths are not.
        lengths = {f"{name}_a": np.linalg.norm(weights[f"{name}_a"], axis=1) for name in halves}
        lengths |= {f"{name}_b": np.linalg.norm(weights[f"{name}_b"], axis=0) for name in halves}
        whole = {name: weights.pop(f"{name}_b") @ weights.pop(f"{name}_a") for name in halves}
        products.append(whole | weights | lengths)
    assert products[0].keys() == products[1].keys()
    for name, product in products[0].items():
        np.testing.assert_allclose(product, products[1][name], atol=2e-6, err_msg=name)
    for mine, other in zip(found.components, theirs.components, strict=True):
        if mine.kind in ("NaturalGradientAffine", "Affine", "FixedAffine", "Linear", "Tdnn"):
            assert plain(mine) == plain(other), mine.name
    assert notes or "svd" not in edits


def test_the_share_of_the_energy_is_carried_from_one_component_to_the_next():
    _, notes = apply_edits(read_nnet3(NNET3 / "tdnn.bin").nnet, "apply-svd name=* energy-threshold=0.8")
    assert [note.split(",")[0] for note in notes] == [
        "tdnn1.affine: 24 to 12 over rank 7",
        "tdnn2.affine: 36 to 12 over rank 7",
        "tdnn3.affine: 24 to 10 over rank 6",
        "output.affine is left as it is: 10 to 6 is not above rank 6",
    ]


def test_learning_rate_factors():
    nnet, _ = apply_edits(read_nnet3(NNET3 / "tdnn.bin").nnet, "set-learning-rate-factor name=* learning-rate-factor=0")
    assert {part.get("LearningRateFactor") for part in nnet.components if part.has("LearningRate")} == {0.0}
    again, _ = apply_edits(nnet, "set-learning-rate-factor name=tdnn* learning-rate-factor=1")
    assert [part.name for part in again.components if part.has("LearningRateFactor")] == ["output.affine"]


@pytest.mark.parametrize(
    ("edits", "kind", "says"),
    [
        ("", ConfigError, "there is no edit"),
        ("shrink name=*", ConfigError, "'shrink' is not known"),
        ("apply-svd bottleneck-dim=4", ConfigError, "lacks name="),
        ("apply-svd name=*", ConfigError, "needs bottleneck-dim= or energy-threshold="),
        ("apply-svd name=* bottleneck-dim=0", ConfigError, "whole number from 1"),
        ("apply-svd name=* energy-threshold=1.5", ConfigError, "at most 1"),
        ("apply-svd name=* rank=3", ConfigError, "apply-svd takes"),
        ("apply-svd name=x* bottleneck-dim=4", ConfigError, "fits no component"),
        ("reduce-rank name=* rank=x", ConfigError, "whole number"),
        ("rename-node old-name=x new-name=y", ConfigError, "there is no node x"),
        ("rename-node old-name=output new-name=input", ConfigError, "a node input already"),
        ("remove-output-nodes name=x", ConfigError, "fits no output"),
        ("remove-output-nodes name=*", DataError, "leave no output"),
        ("set-learning-rate-factor name=* learning-rate-factor=-1", ConfigError, "at least 0"),
    ],
)
def test_edits_that_cannot_be(edits, kind, says):
    with pytest.raises(kind, match=says.replace("*", r"\*")):
        apply_edits(read_nnet3(NNET3 / "tdnn.bin").nnet, edits)
