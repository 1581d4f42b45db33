"""GPT-2's projections, which are not linear layers by their class, become smaller with everything else."""

import json

import pytest
import torch

import limbeck
from limbeck.models import changes_of, close_conv1d, conv1d_names, factored_ranks, open_conv1d, rebuild
from limbeck.models.int8 import Int8Linear
from limbeck.system.hugging_face import transformers

pytestmark = pytest.mark.slow
TOKENS = torch.randint(1, 40, (60, 6), generator=torch.Generator().manual_seed(0))
X = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}


def gpt2():
    torch.manual_seed(0)
    config = transformers().GPT2Config(
        vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=8, num_labels=3, pad_token_id=0
    )
    return transformers().GPT2ForSequenceClassification(config).eval()


def part(rows):
    return [({name: value[row] for name, value in X.items()}, row % 3) for row in range(60)[rows]]


def logits(model):
    with torch.no_grad():
        return model(**X).logits


def test_they_are_linear_layers_and_their_own_class_again():
    net = gpt2()
    opened = open_conv1d(net)
    inside = [f"transformer.h.0.{name}" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
    assert conv1d_names(opened) == inside and conv1d_names(net) == []
    torch.testing.assert_close(logits(opened), logits(net), atol=1e-5, rtol=1e-5)
    closed = close_conv1d(opened)
    assert list(closed.state_dict()) == list(net.state_dict()) and conv1d_names(closed) == []
    assert all(torch.equal(one, two) for one, two in zip(closed.parameters(), net.parameters(), strict=True))


@pytest.mark.parametrize("options", [{"rule": limbeck.RankRule(parameters=0.7)}, {"int8": True}], ids=["rank", "int8"])
def test_they_are_compressed_saved_and_loaded(options, tmp_path):
    net = gpt2()
    run = limbeck.compress(net, part(slice(0, 40)), part(slice(40, 60)), **options, out=tmp_path / "run")
    changes = json.loads(json.dumps(changes_of(run.model)))
    assert changes["conv1d"] and set(changes["conv1d"]) <= {
        *factored_ranks(run.model),
        *(name for name, layer in run.model.named_modules() if isinstance(layer, Int8Linear)),
    }
    again = limbeck.load(tmp_path / "run")
    assert torch.equal(logits(again), logits(run.model))
    made = rebuild(gpt2(), changes)
    made.load_state_dict(run.model.state_dict())
    torch.testing.assert_close(logits(made.eval()), logits(run.model))
    with pytest.raises(limbeck.LimbeckError, match="has no Conv1D in all of nowhere"):
        rebuild(gpt2(), {"conv1d": ["nowhere"]})
