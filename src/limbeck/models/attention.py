"""``nn.MultiheadAttention`` with its projections as layers, so that they can be compressed.

PyTorch's own module holds the projections of queries, keys and values as one tensor, and hands weights to a function:
no layer is called. :class:`OpenAttention` computes the same by four linear layers.

Axes: ``N`` examples, ``L`` and ``S`` positions of queries and keys, ``E`` features, ``H`` heads.
"""

__all__ = ["OpenAttention", "close_attention", "open_attention", "opened_names"]

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from limbeck.models.copying import copy_module
from limbeck.models.fused import masked_encoders, take_off_fused


class OpenAttention(nn.Module):
    """What ``nn.MultiheadAttention`` computes, by layers ``query``, ``key``, ``value`` and ``out``.

    Args:
        attention: The module whose place it takes, without ``add_bias_kv`` and ``add_zero_attn``; weights are copied.

    Example:
        >>> one = nn.MultiheadAttention(8, 2, batch_first=True).eval()
        >>> x = torch.randn(3, 5, 8)
        >>> with torch.no_grad(): torch.testing.assert_close(OpenAttention(one)(x, x, x), one(x, x, x))
    """

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear
    in_proj_bias = None
    _qkv_same_embed_dim = False
    """Where PyTorch's transformer layers look for what their fused kernels need, they find that it is not there."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.num_heads = attention.embed_dim, attention.num_heads
        self.kdim, self.vdim = attention.kdim, attention.vdim
        self.batch_first, self.dropout = attention.batch_first, attention.dropout
        biased = attention.in_proj_bias is not None
        like = {"device": attention.out_proj.weight.device, "dtype": attention.out_proj.weight.dtype}
        sizes = {"query": self.embed_dim, "key": self.kdim, "value": self.vdim}
        for name, size in sizes.items():
            layer = nn.utils.skip_init(nn.Linear, size, self.embed_dim, bias=biased, **like)  # type: ignore[no-untyped-call]
            setattr(self, name, layer)
        self.out = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, self.embed_dim, self.embed_dim, bias=attention.out_proj.bias is not None, **like
        )
        with torch.no_grad():
            for name, weight in zip(sizes, _weights(attention), strict=True):
                getattr(self, name).weight.copy_(weight)
            if attention.in_proj_bias is not None:
                for name, bias in zip(sizes, attention.in_proj_bias.chunk(3), strict=True):
                    getattr(self, name).bias.copy_(bias)
            self.out.weight.copy_(attention.out_proj.weight)
            if attention.out_proj.bias is not None:
                self.out.bias.copy_(attention.out_proj.bias)
        self.requires_grad_(attention.out_proj.weight.requires_grad)
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention.forward``; ``is_causal`` is a hint beside a mask, which is used."""
        single = query.ndim == 2
        if single:
            query, key, value = (each.unsqueeze(0) for each in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        q, k, v = (self._heads(each) for each in (self.query(query), self.key(key), self.value(value)))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        for mask in self._masks(attn_mask, key_padding_mask, query.shape[0], scores.dtype):
            scores = scores + mask
        weights = dropout(scores.softmax(-1), self.dropout, self.training)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        found: Tensor = self.out(mixed)
        shown = None
        if need_weights:
            shown = weights.mean(1) if average_attn_weights else weights
            shown = shown.squeeze(0) if single else shown
        if single:
            return found.squeeze(0), shown
        return found if self.batch_first else found.transpose(0, 1), shown

    def _heads(self, values: Tensor) -> Tensor:
        """``(N, L, E)`` as ``(N, H, L, E / H)``."""
        return values.view(*values.shape[:-1], self.num_heads, self.embed_dim // self.num_heads).transpose(1, 2)

    def _masks(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, count: int, dtype: torch.dtype
    ) -> list[Tensor]:
        """What is added to the scores, ``(N or 1, H or 1, L or 1, S)``."""
        found = []
        if attn_mask is not None:
            shaped = attn_mask
            if attn_mask.ndim == 3 and attn_mask.shape[0] == count * self.num_heads:
                shaped = attn_mask.view(count, self.num_heads, *attn_mask.shape[1:])
            found.append(_added(shaped, dtype))
        if key_padding_mask is not None:
            found.append(_added(key_padding_mask[:, None, None, :], dtype))
        return found


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Minus infinity where a mask of truth values says no; other masks are added as they are."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)


def _weights(attention: nn.MultiheadAttention) -> tuple[Tensor, ...]:
    if attention.in_proj_weight is not None:
        return attention.in_proj_weight.chunk(3)
    return attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight


def opened_names(model: nn.Module) -> list[str]:
    """Names of the attention modules of a network that are open.

    Args:
        model: Any module.

    Returns:
        Names, in order.
    """
    return [name for name, part in model.named_modules() if isinstance(part, OpenAttention)]


def open_attention(
    model: nn.Module, names: Collection[str] | None = None, call: Callable[[], object] | None = None
) -> nn.Module:
    """A copy of a network in which ``nn.MultiheadAttention`` is :class:`OpenAttention`.

    Args:
        model: The network; it is not modified.
        names: Of the modules; None for all that can be.
        call: Asks the network about an example: inside encoders that get a padding mask they then stay as they are, for
            PyTorch's fused layers make padded positions zero.

    Returns:
        The new network; the same one where there are none.

    Example:
        >>> net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
        >>> opened_names(open_attention(net))
        ['self_attn']
    """
    masked = set() if call is None else masked_encoders(model, call)
    within = {id(part) for each in model.modules() if id(each) in masked for part in each.modules()}
    chosen = [
        name
        for name, part in model.named_modules()
        if type(part) is nn.MultiheadAttention and (name in names if names is not None else id(part) not in within)
    ]
    if not any(_can_be_opened(model.get_submodule(name)) for name in chosen):
        return model
    new = copy_module(model)
    made = {
        id(part): OpenAttention(part)
        for name in chosen
        if isinstance(part := new.get_submodule(name), nn.MultiheadAttention) and _can_be_opened(part)
    }
    new = _replaced(new, made)
    take_off_fused(new)
    return new


def _can_be_opened(attention: Any) -> bool:
    return attention.bias_k is None and not attention.add_zero_attn


def close_attention(model: nn.Module) -> nn.Module:
    """A network in which attention of which no layer was changed is PyTorch's own again.

    Args:
        model: Any module.

    Returns:
        A new network; the same one where there is nothing to close.

    Example:
        >>> net = open_attention(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
        >>> opened_names(close_attention(net))
        []
    """
    if not any(isinstance(part, OpenAttention) and _unchanged(part) for part in model.modules()):
        return model
    new = copy_module(model)
    made = {id(part): _closed(part) for part in new.modules() if isinstance(part, OpenAttention) and _unchanged(part)}
    return _replaced(new, made)


def _unchanged(attention: OpenAttention) -> bool:
    return all(type(layer) is nn.Linear for layer in attention.children())


def _closed(attention: OpenAttention) -> nn.MultiheadAttention:
    like = {"device": attention.out.weight.device, "dtype": attention.out.weight.dtype}
    biased = attention.query.bias is not None
    with torch.random.fork_rng(devices=[]):  # its weights are drawn, and overwritten
        made = nn.MultiheadAttention(
            attention.embed_dim, attention.num_heads, attention.dropout, bias=biased, kdim=attention.kdim,
            vdim=attention.vdim, batch_first=attention.batch_first, **like,
        )  # fmt: skip
    layers = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        for into, layer in zip(_weights(made), layers, strict=True):
            into.copy_(layer.weight)
        if made.in_proj_bias is not None:
            made.in_proj_bias.copy_(torch.cat([layer.bias for layer in layers]))
        made.out_proj.weight.copy_(attention.out.weight)
        if made.out_proj.bias is not None:
            made.out_proj.bias.copy_(attention.out.bias)
    return made.requires_grad_(attention.out.weight.requires_grad).train(attention.training)


def _replaced(model: nn.Module, made: dict[int, Any]) -> nn.Module:
    """A network with other modules in the place of some, changed in place."""
    if id(model) in made:
        new: nn.Module = made[id(model)]
        return new
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in made:
                parent._modules[name] = made[id(child)]
    return model
