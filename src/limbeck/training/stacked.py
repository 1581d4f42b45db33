"""Networks of one architecture as one, whose weights are stacked: a step of all is one of batched products.

Axes: ``M`` networks, ``N`` examples, ``K`` classes.
"""

__all__ = ["Stack", "stacked_logits"]

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from limbeck.options import Training

_BETAS, _EPS = (0.9, 0.999), 1e-8
"""Those of :class:`torch.optim.AdamW`."""
_CLIP_EPS = 1e-6
"""That of :func:`torch.nn.utils.clip_grad_norm_`."""


class Stack:
    """The weights of M networks in tensors ``(M, ...)``, and the steps of their optimisers.

    Each network's parameters, and the state of its optimiser, become views of these, so that whatever reads or writes
    a network or a checkpoint meanwhile finds what it would find without a stack. :meth:`release` gives each its own
    memory again.

    Args:
        models: The networks, all parameters trainable; they differ in the values of these alone.
        optimizers: Their optimisers, of :func:`~limbeck.training.optimizers.make_optimizer`.
        training: The settings that they share: optimiser, momentum, clipping.
        places: Where each is in the tensors, in ascending order; None for one after the other. Rounding depends on the
            places, and not on what the others hold: those without a network hold a copy of the first.
        width: How many places there are; None for one per network.

    Example:
        >>> from limbeck.system.devices import Device
        >>> from limbeck.training.optimizers import make_optimizer
        >>> nets, here = [nn.Linear(2, 3), nn.Linear(2, 3)], Device(torch.device("cpu"), "float32")
        >>> stack = Stack(nets, [make_optimizer(net, Training(), here) for net in nets], Training())
        >>> stack.logits([torch.ones(5, 2)]).shape
        torch.Size([2, 5, 3])
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        optimizers: Sequence[torch.optim.Optimizer],
        training: Training,
        places: Sequence[int] | None = None,
        width: int | None = None,
    ) -> None:
        self.places = list(range(len(models)) if places is None else places)
        self.width = width or len(models)
        self.models, self.optimizers, self.training = models, optimizers, training
        names = [name for name, _ in models[0].named_parameters()]
        owned = [dict(model.named_parameters()) for model in models]
        self.weights = {name: self.stacked([each[name].detach() for each in owned]) for name in names}
        self._decays = {name: _decay_of(optimizers[0], owned[0][name]) for name in names}
        self._parts = {name: weight.unbind() for name, weight in self.weights.items()}
        self._averages: tuple[str, ...] = ("exp_avg", "exp_avg_sq")
        if training.optimizer != "adamw":
            self._averages = ("momentum_buffer",) if training.momentum else ()
        self._slots = {(name, slot): self._shared(name, slot, owned) for name in names for slot in self._averages}
        self.steps = int(_steps_of(optimizers[0]))
        for name in names:
            for place, each in zip(self.places, owned, strict=True):
                each[name].data = self.weights[name][place]
        for weight in self.weights.values():
            weight.requires_grad_()

    def _shared(self, name: str, slot: str, owned: Sequence[dict[str, nn.Parameter]]) -> tuple[Tensor, ...]:
        """An average of a parameter, a part for each place; each optimiser's state becomes these."""
        like = self.weights[name][0]
        states = [optimizer.state[each[name]] for optimizer, each in zip(self.optimizers, owned, strict=True)]
        before = [state[slot].detach().to(like) if slot in state else torch.zeros_like(like) for state in states]
        parts = self.stacked(before).unbind()
        for place, state in zip(self.places, states, strict=True):
            state[slot] = parts[place]
        return parts

    def stacked(self, values: Sequence[Tensor]) -> Tensor:
        """One for each place: those given, and the first again where there is no network."""
        filled = [values[0]] * self.width
        for place, value in zip(self.places, values, strict=True):
            filled[place] = value
        return torch.stack(filled)

    def logits(self, inputs: Sequence[Tensor]) -> Tensor:
        """The logits at all places, in float32.

        Args:
            inputs: ``(N, ...)`` for each network; one for all, where that is the same.

        Returns:
            ``(width, N, K)``.
        """
        given = inputs[0].expand(self.width, *inputs[0].shape) if len(inputs) == 1 else self.stacked(inputs)
        return stacked_logits(self.models[0], self.weights, given)

    @torch.no_grad()
    def norms(self) -> Tensor:
        """The norm of the gradient at each place, ``(width,)``."""
        each = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in self._gradients().values()]
        found: Tensor = torch.linalg.vector_norm(torch.stack(each), dim=0)
        return found

    @torch.no_grad()
    def update(self, rates: Sequence[float], norms: Tensor) -> None:
        """A step of each optimiser; the gradients are forgotten.

        PyTorch's fused steps take each network's part of a tensor as a tensor of its own. So nothing is rounded
        otherwise for what the other networks are, or which of them have the same learning rate.

        Args:
            rates: Learning rate of each network.
            norms: From :meth:`norms`.
        """
        self.steps += 1
        whole = self._gradients()
        if self.training.clip_norm is not None:
            kept = (self.training.clip_norm / (norms + _CLIP_EPS)).clamp(max=1.0)
            for gradient in whole.values():
                gradient.mul_(kept.view(-1, *(1 for _ in gradient.shape[1:])))
        gradients = {name: gradient.unbind() for name, gradient in whole.items()}
        step = self._adamw if self.training.optimizer == "adamw" else self._sgd
        for decay, rate in product(dict.fromkeys(self._decays.values()), dict.fromkeys(rates)):
            chosen = [
                (name, place)
                for name, own in self._decays.items()
                if own == decay
                for place, own_rate in zip(self.places, rates, strict=True)
                if own_rate == rate
            ]
            step(
                [self._parts[name][place] for name, place in chosen],
                [gradients[name][place] for name, place in chosen],
                *([self._slots[name, slot][place] for name, place in chosen] for slot in self._averages),
                lr=rate,
                weight_decay=decay,
            )
        for weight in self.weights.values():
            weight.grad = None

    def _adamw(self, *lists: list[Tensor], lr: float, weight_decay: float) -> None:
        """Weights, gradients, and the averages of these and of their squares."""
        weights, gradients, means, squares = lists
        first, second = _BETAS
        steps = [torch.tensor(float(self.steps))] * len(weights)
        torch._fused_adamw_(
            weights, gradients, means, squares, [], steps, lr=lr, beta1=first, beta2=second, eps=_EPS,
            weight_decay=weight_decay, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _sgd(self, *lists: list[Tensor], lr: float, weight_decay: float) -> None:
        """Weights, gradients, and buffers of momentum; one that begins at 0 is the gradient after the first step."""
        weights, gradients, *momenta = lists
        torch._fused_sgd_(
            weights, gradients, momenta[0] if momenta else [], lr=lr, momentum=self.training.momentum, dampening=0.0,
            nesterov=self.training.nesterov and self.training.momentum > 0, weight_decay=weight_decay, maximize=False,
            is_first_step=False,
        )  # fmt: skip

    def count(self) -> None:
        """Write the number of steps into the state of each optimiser, before somebody saves it."""
        if self.training.optimizer == "adamw":
            for optimizer in self.optimizers:
                for slots in optimizer.state.values():
                    slots["step"] = torch.tensor(float(self.steps))

    @torch.no_grad()
    def release(self) -> None:
        """Give each network, and each optimiser, memory of its own."""
        self.count()
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            for parameter in model.parameters():
                parameter.data = parameter.data.clone()
                slots = optimizer.state.get(parameter, {})
                for slot, value in slots.items():
                    slots[slot] = value.clone()

    def _gradients(self) -> dict[str, Any]:
        return {name: weight.grad for name, weight in self.weights.items()}


def stacked_logits(model: nn.Module, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """The logits of networks, given their weights.

    Args:
        model: One of them; its own weights do not matter.
        weights: By name, ``(M, ...)``.
        inputs: ``(M, N, ...)``.

    Returns:
        ``(M, N, K)``, float32.

    Example:
        >>> net = nn.Linear(2, 3)
        >>> weights = {name: torch.stack([value, value]) for name, value in net.named_parameters()}
        >>> stacked_logits(net, weights, torch.ones(2, 5, 2)).shape
        torch.Size([2, 5, 3])
    """

    def one(own: dict[str, Tensor], given: Tensor) -> Any:
        return functional_call(model, own, (given,))

    dtype = next(iter(weights.values())).dtype
    given = inputs.to(dtype) if inputs.is_floating_point() else inputs
    found: Tensor = vmap(one)(dict(weights), given)
    return found.float()


def _decay_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> float:
    group = next(group for group in optimizer.param_groups if any(parameter is each for each in group["params"]))
    return float(group["weight_decay"])


def _steps_of(optimizer: torch.optim.Optimizer) -> float:
    """Steps that an AdamW has made; 0 of one that has made none."""
    return max((float(slots["step"]) for slots in optimizer.state.values() if "step" in slots), default=0.0)
