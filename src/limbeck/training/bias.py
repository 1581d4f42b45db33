r"""Prior correction of a classifier: output biases that match the class shares where it is used.

A student that saw a class too seldom, or never, in its transfer set has too low a bias for it. The bias can be set by
hand, or found on unlabelled examples, if the classes' shares among them are known.

Axes: ``N`` examples, ``K`` classes, ``G`` groups of classes that share one shift.
"""

__all__ = ["fix_bias", "matching_shift"]

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from limbeck.arguments import checked_arguments
from limbeck.data.examples import Examples
from limbeck.data.values import as_tensor
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.prediction import device_of, predict
from limbeck.inputs import move
from limbeck.models.calling import call_model, evaluating, logits_of, presentation_of
from limbeck.models.class_names import named_classes
from limbeck.models.copying import copy_module
from limbeck.models.last_operation import ends_in
from limbeck.models.output_kind import looks_like_probabilities
from limbeck.options.checks import class_number
from limbeck.system.callbacks import warn_user
from limbeck.system.devices import has_float64

_MOST_STEPS = 200


@checked_arguments
def matching_shift(
    scores: Tensor,
    prior: ArrayLike | Tensor | None = None,
    *,
    groups: Sequence[Sequence[int]] | None = None,
    tolerance: float = 1e-8,
) -> Tensor:
    r"""Shifts of the logits with which the mean prediction has the known class shares.

    With one shift :math:`s_g` for all classes k of group g, and :math:`s_{g(k)} = 0` for classes of no group, they
    minimise the convex function

    .. math::
        F(s) = \frac1N \sum_n \log \sum_k e^{z_{nk} + s_{g(k)}} - \sum_k \pi_k s_{g(k)}

    because its gradient is the share that the predictions give to a group less the share that it has:

    .. math::
        \frac{\partial F}{\partial s_g} = \sum_{k \in g} \Bigl(
        \frac1N \sum_n \mathrm{softmax}(z_n + s)_k - \pi_k \Bigr)

    Newton's method with halved steps finds the minimum. No label is used. Where every class is in a group the shifts
    are determined up to a constant: theirs sum to zero.

    Args:
        scores: :math:`z`, logits or log-probabilities at T = 1 of unlabelled examples, ``(N, K)``.
        prior: :math:`\pi`, the share of each class, positive, ``(K,)``; it is scaled to sum to one. None where all
            classes have the same.
        groups: Classes that share a shift; classes in no group are not shifted. None for one shift per class.
        tolerance: Largest remaining difference of shares, in [0, 1].

    Returns:
        The shift of each class's logit, float64 ``(K,)``.

    Raises:
        DataError: If shapes do not fit, a value is not finite, a share is not positive, or groups overlap or name a
            class that there is not.

    References:
        Hinton, Vinyals and Dean, `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 3, where the shift is found with labels; finding it from
        shares follows Saerens, Latinne and Decaestecker, `Adjusting the outputs of a classifier to new a priori
        probabilities <https://doi.org/10.1162/089976602753284446>`_, 2002.

    Example:
        >>> shift = matching_shift(torch.tensor([[2.0, 0.0], [3.0, 0.0]]), groups=[[1]])
        >>> shift
        tensor([0.0000, 2.5000], dtype=torch.float64)
        >>> (torch.tensor([[2.0, 0.0], [3.0, 0.0]]) + shift).softmax(-1).mean(0)
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    if scores.ndim != 2 or not len(scores) or scores.shape[1] < 2:
        raise DataError(
            f"scores must be (examples, classes), two classes at least, and have shape {tuple(scores.shape)}"
        )
    z = (scores.detach() if has_float64(scores.device) else scores.detach().cpu()).double()
    if not bool(z.isfinite().all()):
        raise DataError("scores hold NaN or infinite values: the model's answers are broken")
    if looks_like_probabilities(z):
        warn_user(
            "the scores look like probabilities (at least 0, summing to one), and logits or log-probabilities are "
            "needed: take their logarithm"
        )
    count = z.shape[1]
    shares = _shares(prior, count).to(z.device)
    member = _membership([[k] for k in range(count)] if groups is None else groups, count).to(z.device)
    wanted = shares @ member
    # Where every class is free, a constant added to all shifts changes nothing: rank one makes the Hessian definite.
    rank_one = 1.0 if bool((member.sum(1) > 0).all()) else 0.0

    def value(shift: Tensor) -> Tensor:
        return torch.logsumexp(z + member @ shift, -1).mean() - wanted @ shift

    shift = torch.zeros(member.shape[1], dtype=torch.float64, device=z.device)
    for _ in range(_MOST_STEPS):
        expected = torch.softmax(z + member @ shift, -1) @ member
        gradient = expected.mean(0) - wanted
        if float(gradient.abs().max()) <= tolerance:
            result = member @ shift
            return result - result.mean() if rank_one else result
        hessian = torch.diag(expected.mean(0)) - expected.T @ expected / len(z)
        # A little on the diagonal keeps a step finite where all predictions are certain.
        hessian = hessian + rank_one + 1e-12 * torch.eye(len(shift), dtype=torch.float64, device=z.device)
        step = -torch.linalg.solve(hessian, gradient)
        step *= min(1.0, 20.0 / float(step.abs().max()))
        before, slope, size = value(shift), float(gradient @ step), 1.0
        rounding = 1e-14 * max(1.0, abs(float(before)))
        while float(value(shift + size * step) - before) > 0.25 * size * slope + rounding and size > 1e-10:
            size /= 2
        shift = shift + size * step
    raise DataError(
        f"no shift found with which predictions have the shares asked for: {float(gradient.abs().max()):.3g} is left"
    )


@checked_arguments
def fix_bias(
    model: nn.Module,
    shift: Mapping[int, float] | ArrayLike | Tensor | None = None,
    *,
    unlabelled: Examples | Tensor | None = None,
    prior: ArrayLike | Tensor | None = None,
    groups: Sequence[Sequence[int]] | None = None,
) -> nn.Module:
    """A copy of a classifier with shifted logits: by a given shift, or so that the class shares match.

    Args:
        model: Gives logits ``(N, K)``; it is not modified.
        shift: The shift of each class's logit: a mapping from class indices, or K numbers.
        unlabelled: Instead of ``shift``: examples on which :func:`matching_shift` finds it. Labels are ignored.
        prior: Share of each class among them, ``(K,)``; None where all have the same.
        groups: Classes that share a shift; None for one shift per class.

    Returns:
        The copy in evaluation mode. If the model ends in a linear layer with bias, that bias holds the shift and the
        copy is of the model's own type; otherwise the shift is added behind the model.

    Raises:
        ConfigError: If not exactly one of ``shift`` and ``unlabelled`` is given, or ``prior`` or ``groups`` without
            ``unlabelled``.
        DataError: If the shift does not fit the model's classes, or the model ends in a softmax or a sigmoid: a shift
            is for logits.

    Example:
        >>> net = nn.Linear(1, 2)
        >>> fixed = fix_bias(net, {1: 3.5})
        >>> (fixed(torch.ones(1, 1)) - net(torch.ones(1, 1))).round(decimals=3)
        tensor([[0.0000, 3.5000]], grad_fn=...)
    """
    if (shift is None) == (unlabelled is None):
        raise ConfigError("give either shift, or unlabelled examples to find it on")
    if unlabelled is None:
        if prior is not None or groups is not None:
            raise ConfigError("prior and groups find a shift on unlabelled examples: leave them out, or shift")
    else:
        examples = Examples.of(unlabelled) if isinstance(unlabelled, Tensor) else unlabelled.without_labels()
        some = move(examples.as_seen(slice(0, 1), presentation_of(model)), device_of(model))
        with torch.no_grad(), evaluating(model):
            _refuse_softened(ends_in(lambda: call_model(model, some))[1])
        shift = matching_shift(predict(model, examples), prior, groups=groups)
    assert shift is not None, "given, or found"
    index, values = _as_shift(shift)
    fixed = copy_module(model).eval()
    last = fixed[-1] if isinstance(fixed, nn.Sequential) and len(fixed) else fixed
    _refuse_softened(_ending_of(fixed))
    if not isinstance(last, nn.Linear) or last.bias is None:
        return _Shifted(fixed, index, values, None if isinstance(shift, Mapping) else len(index))
    if int(index.max()) >= last.out_features or (not isinstance(shift, Mapping) and len(index) != last.out_features):
        raise DataError(
            f"the shift names {len(index)} classes up to number {int(index.max())}, and the model has "
            f"{last.out_features}, from 0"
        )
    with torch.no_grad():
        last.bias[index.to(last.bias.device)] += values.to(last.bias)
    return fixed


def _ending_of(model: nn.Module) -> str | None:
    """The name of a final softmax or sigmoid, by the type of the last layer."""
    while isinstance(model, nn.Sequential) and len(model):
        model = model[-1]
    return "softmax" if isinstance(model, nn.Softmax) else "sigmoid" if isinstance(model, nn.Sigmoid) else None


def _refuse_softened(ending: str | None) -> None:
    if ending is not None:
        raise DataError(
            f"the model ends in a {ending}, and a shift is added to logits: give the network without the {ending}, or "
            "with log_softmax in the place of a softmax"
        )


class _Shifted(nn.Module):
    """A model with shifted logits of some classes."""

    def __init__(self, model: nn.Module, index: Tensor, values: Tensor, count: int | None) -> None:
        super().__init__()
        self.known = False  # whether it is known what the model ends in
        self.count = count  # of classes, where there is a number for each
        self.model = model
        self.classes = named_classes(model)
        self.register_buffer("index", index)
        self.register_buffer("shift", values.float())
        self.eval()

    index: Tensor
    shift: Tensor

    def forward(self, *inputs: Any) -> Tensor:
        if self.known or torch.compiler.is_compiling():
            scores = logits_of(self.model(*inputs))
        else:
            scores, ending = ends_in(lambda: logits_of(self.model(*inputs)))
            self.known = True
            _refuse_softened(ending)
        if int(self.index.max()) >= scores.shape[-1] or self.count not in {None, scores.shape[-1]}:
            raise DataError(
                f"the shift names {len(self.index)} classes up to number {int(self.index.max())}, and the model has "
                f"{scores.shape[-1]}, from 0"
            )
        return scores.index_add(-1, self.index, self.shift.to(scores).expand(*scores.shape[:-1], -1))


def _as_shift(shift: Mapping[int, float] | ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    """Class numbers, int64 ``(n,)``, and what to add to each, float64 ``(n,)``."""
    if isinstance(shift, Mapping):
        index = torch.tensor([class_number(k) for k in shift], dtype=torch.int64)
        values = as_tensor("shift", list(shift.values())).double()
    else:
        values = as_tensor("shift", shift).double()
        index = torch.arange(values.numel())
    if values.ndim != 1 or not len(values) or not bool(values.isfinite().all()) or int(index.min()) < 0:
        raise DataError(f"a shift must be finite numbers by class number from 0, or one per class, and is {shift!r}")
    return index, values


def _shares(prior: ArrayLike | Tensor | None, count: int) -> Tensor:
    if prior is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    shares = as_tensor("prior", prior).double()
    if shares.shape != (count,) or not bool((shares.isfinite() & (shares > 0)).all()):
        raise DataError(f"the prior must be a positive share for each of {count} classes, and is {shares.tolist()}")
    return shares / shares.sum()


def _membership(groups: Sequence[Sequence[int]], count: int) -> Tensor:
    """Which class is in which group, float64 0 or 1, ``(K, G)``."""
    member = torch.zeros(count, len(groups), dtype=torch.float64)
    for number, group in enumerate(groups):
        for k in map(class_number, group):
            if not 0 <= k < count:
                raise DataError(f"group {list(group)} names class {k}, and there are {count}, from 0")
            member[k, number] += 1
    if not len(groups) or bool((member.sum(0) == 0).any()) or bool((member.sum(1) > 1).any()):
        raise DataError(f"each group must name a class, and each class one group at most: {[list(g) for g in groups]}")
    return member
