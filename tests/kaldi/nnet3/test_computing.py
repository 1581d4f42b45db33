"""What nnet3 networks compute, against the outputs of Kaldi's nnet3-compute."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.errors import ConfigError, DataError, MismatchError
from limbeck.kaldi.formats.table import read_ark
from limbeck.kaldi.nnet3.computing import Computer
from limbeck.kaldi.nnet3.descriptors import Node
from limbeck.kaldi.nnet3.heads import as_trained, without_softmax
from limbeck.kaldi.nnet3.layers import KINDS
from limbeck.kaldi.nnet3.model import read_nnet3
from limbeck.kaldi.nnet3.module import Nnet3Module
from limbeck.kaldi.nnet3.nodes import NetworkNode
from limbeck.kaldi.nnet3.options import ComputeOptions

NNET3 = Path(__file__).parents[2] / "fixtures" / "kaldi" / "nnet3"
SUB3 = {"frame_subsampling_factor": 3}
CHUNK20 = {"frames_per_chunk": 20}


def frames_of(name):
    return dict(read_ark(NNET3 / ("am.feats.txt.ark" if name.startswith("am") else "feats.txt.ark")))


def at_node(nnet, name):
    nodes = [node for node in nnet.nodes if node.kind != "output-node"]
    return dataclasses.replace(nnet, nodes=(*nodes, NetworkNode("output-node", "output", Node(name))))


@pytest.mark.parametrize(
    ("model", "expected", "options"),
    [
        ("tdnn.bin", "tdnn.out.bin.ark", {}),
        ("tdnn.txt", "tdnn.out.bin.ark", CHUNK20),
        ("tdnn.bin", "tdnn.sub3.out.txt.ark", SUB3),
        ("tdnn.bin", "tdnn.extra.out.txt.ark", {"extra_left_context": 4, "extra_right_context": 3, **CHUNK20}),
        ("tdnn.old.txt", "tdnn.old.out.txt.ark", {}),
        ("tdnn.svd4.bin", "tdnn.svd4.out.txt.ark", {}),
        ("tdnnf.bin", "tdnnf.sub3.out.bin.ark", SUB3),
        ("tdnnf.txt", "tdnnf.sub3.chunk20.out.txt.ark", {**SUB3, **CHUNK20}),
        ("tdnnf.xent.bin", "tdnnf.xent.sub3.out.txt.ark", SUB3),
        ("tdnnf.bin", "tdnnf.at.poffset.out.txt.ark", {}),
        ("misc.bin", "misc.out.txt.ark", {}),
        ("misc.bin", "misc.at.norm1.out.txt.ark", {}),
        ("misc2.bin", "misc2.out.txt.ark", {}),
        ("misc2.bin", "misc2.chunk20.out.txt.ark", CHUNK20),
        ("misc2.bin", "misc2.at.sumblock.out.txt.ark", {}),
        ("dropout_affine.bin", "dropout_affine.out.txt.ark", {}),
        ("am.mdl", "am.out.bin.ark", {}),
        ("am.txt", "am.out.bin.ark", {}),
    ],
)
def test_equal_to_nnet3_compute(model, expected, options):
    nnet = read_nnet3(NNET3 / model).nnet
    if ".at." in expected:
        nnet = at_node(nnet, expected.split(".at.")[1].removesuffix(".out.txt.ark"))
    compute = Computer(Nnet3Module(nnet), ComputeOptions(**options))
    outputs = dict(read_ark(NNET3 / expected))
    for key, frames in frames_of(model).items():
        np.testing.assert_allclose(compute(frames), outputs.pop(key), rtol=0, atol=2e-5)
    assert not outputs


@pytest.mark.parametrize(
    ("expected", "vectors", "options"),
    [
        ("ivec.utt", "ivec.utt.txt.ark", {}),
        ("ivec.spk", "ivec.spk.txt.ark", {}),
        ("ivec.online", "ivec.online10.txt.ark", {}),
        ("ivec.online.chunk20", "ivec.online10.txt.ark", CHUNK20),
    ],
)
def test_i_vectors(expected, vectors, options):
    online = "online" in expected
    compute = Computer(Nnet3Module(read_nnet3(NNET3 / "ivec.bin").nnet), ComputeOptions(**options))
    given = dict(read_ark(NNET3 / vectors, "matrix" if online else "vector"))
    owners = dict(line.split() for line in (NNET3 / "utt2spk").read_text().splitlines())
    outputs = dict(read_ark(NNET3 / f"{expected}.out.txt.ark"))
    for key, frames in frames_of("ivec").items():
        ivector = given[owners[key] if "spk" in expected else key]
        np.testing.assert_allclose(compute(frames, ivector, online=online), outputs[key], rtol=0, atol=2e-5)


def test_single_frames_with_their_neighbours_are_the_whole_utterance():
    """What a teacher of frames sees, edges repeated, is what the utterance gives."""
    for name in ("tdnn.bin", "tdnnf.bin", "misc.bin"):
        module = Nnet3Module(read_nnet3(NNET3 / name).nnet)
        left, right = module.context
        for frames in frames_of(name).values():
            places = np.clip(np.arange(len(frames))[:, None] + np.arange(-left, right + 1), 0, len(frames) - 1)
            alone = module(torch.from_numpy(frames[places])).detach()
            np.testing.assert_allclose(alone, Computer(module)(frames), atol=2e-6)


def test_windows_that_follow_each_other_are_computed_as_a_piece(monkeypatch):
    """A teacher that is asked about frames in their order does not compute each neighbour again."""
    module = Nnet3Module(read_nnet3(NNET3 / "tdnn.bin").nnet)
    left, right = module.context
    windows = []
    for frames in frames_of("tdnn").values():
        places = np.clip(np.arange(len(frames))[:, None] + np.arange(-left, right + 1), 0, len(frames) - 1)
        windows.append(torch.from_numpy(frames[places]))
    shuffled = torch.cat(windows)[torch.randperm(85, generator=torch.Generator().manual_seed(0))]
    x = torch.cat([*windows, windows[1][5:9], windows[2][:1]])
    computed = []
    run = Nnet3Module.run
    monkeypatch.setattr(Nnet3Module, "run", lambda *given: computed.append(len(given[1])) or run(*given))
    expected = module(x).detach()
    assert computed == [90]
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, atol=2e-6, rtol=0)
        assert computed[1:] == [5]
        torch.testing.assert_close(module(shuffled).sum(0), expected[:85].sum(0), atol=1e-4, rtol=1e-5)
    assert computed[2:] == [85]


def test_chunks_and_lengths_do_not_matter_to_a_tdnn():
    module = Nnet3Module(read_nnet3(NNET3 / "tdnnf.bin").nnet)
    frames = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    whole = Computer(module)(frames)
    assert not module.depends
    module.depends = True
    for size in (1, 7, 199, 1000):
        np.testing.assert_allclose(Computer(module, ComputeOptions(frames_per_chunk=size))(frames), whole, atol=3e-6)


def test_learning_changes_what_training_changes_and_is_written_back():
    model = read_nnet3(NNET3 / "tdnnf.bin")
    module = Nnet3Module(without_softmax(model.nnet, "output-xent"), output="output-xent")
    fixed = {name: value.clone() for name, value in module.named_buffers()}
    left, right = module.context
    frames = torch.randn(5, left + 1 + right, 8, generator=torch.Generator().manual_seed(0))
    module.train()
    loss = torch.nn.functional.cross_entropy(module(frames), torch.arange(5))
    loss.backward()
    with torch.no_grad():
        for weight in module.parameters():
            weight -= 0.1 * weight.grad
    assert all(torch.equal(value, fixed[name]) for name, value in module.named_buffers())
    changed = as_trained(model, module.current())
    kinds = {
        part.kind
        for part, before in zip(changed.nnet.components, model.nnet.components, strict=True)
        if any(
            not np.array_equal(value.content, other.content)
            for field, old in zip(part.fields, before.fields, strict=True)
            for value, other in zip(field.values, old.values, strict=True)
        )
    }
    assert kinds == {"NaturalGradientAffine", "Tdnn", "Linear"}
    assert changed.nnet.nodes == model.nnet.nodes
    again = Nnet3Module(without_softmax(changed.nnet, "output-xent"), output="output-xent")
    torch.testing.assert_close(again(frames), module(frames))


def test_the_softmax_that_a_loss_does_not_want():
    for name in ("tdnn.bin", "misc.bin"):  # LogSoftmax and Softmax
        nnet = read_nnet3(NNET3 / name).nnet
        frames = frames_of(name)["utt_b"]
        with_it = Computer(Nnet3Module(nnet))(frames)
        logits = torch.from_numpy(Computer(Nnet3Module(without_softmax(nnet)))(frames))
        expected = logits.softmax(-1) if name == "misc.bin" else logits.log_softmax(-1)
        np.testing.assert_allclose(with_it, expected, atol=1e-6)
    nnet = read_nnet3(NNET3 / "tdnnf.bin").nnet
    assert without_softmax(nnet) is nnet


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cnn.bin", "component cnn1.conv is a TimeHeightConvolutionComponent, which is not run here"),
        ("stats.bin", "component ext is a StatisticsExtractionComponent, which is not run here"),
        ("lstm.bin", "recurrent networks are not run here"),
    ],
)
def test_what_is_not_run_is_named(name, says):
    with pytest.raises(DataError, match=says):
        Nnet3Module(read_nnet3(NNET3 / name).nnet)


def test_an_untrained_batch_norm_is_named():
    nnet = read_nnet3(NNET3 / "tdnn.txt").nnet
    part = nnet.component_named["tdnn2.batchnorm"]
    empty = part.with_arrays(StatsMean=np.empty(0, np.float32), StatsVar=np.empty(0, np.float32))
    parts = tuple(empty if each is part else each for each in nnet.components)
    with pytest.raises(DataError, match="tdnn2.batchnorm, a BatchNormComponent, has no statistics"):
        Nnet3Module(dataclasses.replace(nnet, components=parts))
    assert "BatchNorm" in KINDS


def test_what_does_not_fit_is_named():
    module = Nnet3Module(read_nnet3(NNET3 / "ivec.bin").nnet)
    frames = np.zeros((90, 8), np.float32)
    compute = Computer(module)
    with pytest.raises(MismatchError, match="reads i-vectors of 4 values, and none"):
        compute(frames)
    with pytest.raises(MismatchError, match="i-vectors of 5 values for a network of 4"):
        compute(frames, np.zeros(5, np.float32))
    with pytest.raises(MismatchError, match="3 online i-vectors, one for 10 frames, end 60 frames before"):
        compute(frames, np.zeros((3, 4), np.float32), online=True)
    with pytest.raises(MismatchError, match="frames of 7 features for a network of 8"):
        compute(frames[:, :7], np.zeros(4, np.float32))
    with pytest.raises(DataError, match="at least one row"):
        compute(frames[:0], np.zeros(4, np.float32))
    for name, value in (("frames_per_chunk", 0), ("frame_subsampling_factor", 1.5), ("extra_left_context", -1)):
        with pytest.raises(ConfigError, match=name):
            ComputeOptions(**{name: value})
