"""Low rank for networks of transformers: attention's projections are linear layers like others."""

import torch
from torch import nn

from limbeck.lowrank import apply, look, plan_ranks
from limbeck.models import Factored


def test_attention_s_projections_are_made_thin_and_full_rank_changes_nothing(bert):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, bert.config.vocab_size, (24, 7), generator=generator)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    spectrum = look(bert, inputs)
    seen = {layer.name: layer for layer in spectrum.layers}
    projections = [name for name in seen if name.endswith((".query", ".key", ".value", "attention.output.dense"))]
    assert len(projections) == 4 * bert.config.num_hidden_layers
    assert all(seen[name].decomposition is not None for name in projections)
    full = {name: layer.decomposition.possible for name, layer in seen.items() if layer.decomposition is not None}
    same = apply(plan_ranks(spectrum, rank=full, only_smaller=False), bert, spectrum)
    with torch.no_grad():
        torch.testing.assert_close(same(**inputs).logits, bert(**inputs).logits, atol=1e-4, rtol=1e-4)
    small = apply(plan_ranks(spectrum, rank=dict.fromkeys(projections, 2)), bert, spectrum)
    thin = {name for name, part in small.named_modules() if isinstance(part, Factored)}
    assert thin == set(projections) and isinstance(small.classifier, nn.Linear)
