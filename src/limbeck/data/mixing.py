r"""Mixup and cutmix, keyed to the example.

With a share :math:`\lambda` and a partner :math:`j`, an example i is shown, and has the target, as

.. math::
    \lambda x_i + (1 - \lambda) x_j, \qquad \lambda\,t_i + (1 - \lambda)\,t_j

in mixup; in cutmix a box of :math:`x_i`, whose area is :math:`1 - \lambda` of the image, is that of :math:`x_j`. The
partner is shown in its own view of the same number. Partner, share and box are functions of (view seed, view, example)
and of the numbers of all examples that may be partners: the same on any batch size, in any order and after a resume, so
that a teacher's answers to mixtures can be stored.

Axes: ``n`` examples.
"""

__all__ = ["Mixing", "Mixture", "draw_mixture", "refuse_mixing"]

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from limbeck.errors import ConfigError, DataError
from limbeck.inputs import Inputs
from limbeck.keyed import uniform_draws

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation

_FIRST_DRAW = 128
"""The draws before it are those of distortions, crops and policies."""
_QUANTILES = 4096
"""Equally probable shares that are drawn among."""
_STEP = 2.0**-16
"""Shares and edges are multiples of it: exact in float32, whatever library worked them out."""


class Mixture(NamedTuple):
    """How views of some examples are mixed with those of their partners.

    Attributes:
        partner: Rows of the partners, int64 ``(n,)``.
        share: Of the example itself, in [0, 1], float32 ``(n,)``.
        box: Top, left, bottom and right edge of the part that is the partner's, as shares of the image's height and
            width, float32 ``(n, 4)``; nothing but zeros where the two are averaged.
        boxed: Whether it is a box that is mixed, bool ``(n,)``.
    """

    partner: Tensor
    share: Tensor
    box: Tensor
    boxed: Tensor

    def take(self, rows: Tensor) -> "Mixture":
        """Those of some rows."""
        return Mixture(*(values[rows] for values in self))

    def to(self, device: torch.device | str) -> "Mixture":
        """The same on a device."""
        return Mixture(*(values.to(device) for values in self))

    def blend(self, both: Inputs, *, cut: bool) -> Inputs:
        """Mix examples with their partners.

        Args:
            both: Inputs of the examples, then of their partners, ``(2 n, ...)``, or such by name.
            cut: Whether any may have a box.

        Returns:
            ``(n, ...)``.

        Raises:
            DataError: If an input is not of floating-point numbers, or a box is wanted of what is not an image.
        """
        if isinstance(both, Tensor):
            return self._blended("inputs are", both, cut=cut)
        return {name: self._blended(f"input {name} is", values, cut=cut) for name, values in both.items()}

    def _blended(self, named: str, both: Tensor, *, cut: bool) -> Tensor:
        if not both.is_floating_point():
            raise DataError(
                f"{named} {both.dtype}, and mixup and cutmix are for floating-point numbers and images: leave them out"
            )
        own, other = both.tensor_split(2)
        weight = self.share.to(both.dtype).view(-1, *[1] * (both.ndim - 1))
        if cut:
            if both.ndim != 4:
                raise DataError(
                    f"{named} of shape {tuple(own.shape)}, and cutmix is for images (N, C, H, W): leave it out"
                )
            outside = (~self._inside(*both.shape[2:])).to(both.dtype).unsqueeze(1)
            weight = torch.where(self.boxed.view(-1, 1, 1, 1), outside, weight)
        # Three roundings in any kernel; a fused one would give other bits at the end of a tensor than in its middle.
        return own.mul(weight).add_(other.mul(1 - weight))

    def _inside(self, height: int, width: int) -> Tensor:
        """Which pixels are in the box, bool ``(n, H, W)``."""
        top, left, bottom, right = (self.box * self.box.new_tensor([height, width, height, width])).round().unbind(-1)
        down, across = (torch.arange(size, device=self.box.device) for size in (height, width))
        rows = (down >= top.unsqueeze(-1)) & (down < bottom.unsqueeze(-1))
        columns = (across >= left.unsqueeze(-1)) & (across < right.unsqueeze(-1))
        return rows.unsqueeze(-1) & columns.unsqueeze(-2)


@lru_cache(maxsize=16)
def _quantiles(alpha: float) -> Tensor:
    """Equally probable values of Beta(alpha, alpha) in order, symmetric about 1/2, float64."""
    import numpy as np
    from scipy.special import betaincinv

    half = _QUANTILES // 2
    low = torch.from_numpy(betaincinv(alpha, alpha, (np.arange(half) + 0.5) / _QUANTILES))
    low = (low / _STEP).round() * _STEP
    return torch.cat((low, 1 - low.flip(0)))


def draw_mixture(keys: Tensor, augmentation: "Augmentation", *, view: int, among: int) -> Mixture:
    r"""Partner, share and box of some examples' views.

    The share of mixup is drawn from :math:`\mathrm{Beta}(\alpha, \alpha)`. In cutmix such a :math:`\lambda` gives a box
    of :math:`\sqrt{1 - \lambda}` of height and width, about a centre that is drawn evenly; what of it is outside of the
    image is lost, and the share is what is left of the area. Of both, each has half of the views.

    Args:
        keys: The examples' numbers, int64 ``(n,)``.
        augmentation: Its ``mixup`` and ``cutmix`` are the alphas; the seed is that of the views.
        view: Which view.
        among: How many partners there are to choose among; an example may be its own.

    Returns:
        The mixture, with places in [0, among) as partners, on the CPU.

    References:
        Zhang et al., `mixup: Beyond empirical risk minimization <https://arxiv.org/abs/1710.09412>`_, 2018; Yun et al.,
        `CutMix <https://arxiv.org/abs/1905.04899>`_, 2019.

    Example:
        >>> from limbeck.options import Augmentation
        >>> both = draw_mixture(torch.tensor([7, 8]), Augmentation(mixup=0.2), view=3, among=100)
        >>> alone = draw_mixture(torch.tensor([8]), Augmentation(mixup=0.2), view=3, among=100)
        >>> both.partner.tolist(), bool(both.share[1] == alone.share[0])
        ([3, 40], True)
    """
    drawn = uniform_draws(keys.cpu(), seed=augmentation.view_seed, view=view, draw=_FIRST_DRAW, count=2).double()
    first, second = drawn.unbind(1)
    place, coarse, fine, which = first.unbind(1)
    partner = ((coarse + fine * 2.0**-24) * among).long()
    boxed = which >= (0.5 if augmentation.mixup else 0.0) if augmentation.cutmix else torch.zeros_like(which).bool()
    rank = (place * _QUANTILES).long()
    shares = [torch.ones_like(place) if alpha == 0 else _quantiles(alpha)[rank] for alpha in
              (augmentation.mixup, augmentation.cutmix)]  # fmt: skip
    half = ((1 - shares[1]).sqrt() / 2).unsqueeze(-1)
    edges = torch.cat((second[:, :2] - half, second[:, :2] + half), -1).clamp(0, 1)
    edges = torch.where(boxed.unsqueeze(-1), (edges / _STEP).round() * _STEP, 0.0)
    area = (edges[:, 2] - edges[:, 0]) * (edges[:, 3] - edges[:, 1])
    share = torch.where(boxed, ((1 - area) / _STEP).round() * _STEP, shares[0])
    return Mixture(partner, share.float(), edges.float(), boxed)


class Mixing:
    """Mixtures of any view of some examples, each with another of them.

    Args:
        examples: Who is mixed, and with whom: partners are chosen by number among all of these, whatever their order.
        augmentation: How.

    Example:
        >>> from limbeck.data import Examples
        >>> from limbeck.options import Augmentation
        >>> mixing = Mixing(Examples.of(torch.rand(9, 2)), Augmentation(mixup=1.0))
        >>> mixing.prepare(view=0)
        >>> mixing.take(torch.tensor([4])).blend(torch.ones(2, 2), cut=False)
        tensor([[1., 1.]])
    """

    def __init__(self, examples: "Examples", augmentation: "Augmentation") -> None:
        self.numbers = examples.host_index.long()
        self.by_number = self.numbers.argsort()
        self.augmentation, self.device = augmentation, examples.index.device
        self.view = -1
        self.drawn: Mixture | None = None
        self.partners = torch.empty(0, dtype=torch.int64)

    def prepare(self, view: int) -> None:
        """Draw the mixtures of all examples for a view: once an epoch, not once a batch."""
        if view != self.view:
            drawn = draw_mixture(self.numbers, self.augmentation, view=view, among=len(self.numbers))
            self.partners = self.by_number[drawn.partner]
            self.drawn = drawn._replace(partner=self.partners).to(self.device)
            self.view = view

    def take(self, rows: Tensor) -> Mixture:
        """The prepared mixtures of some rows, on the device."""
        assert self.drawn is not None, "prepare was called"
        return self.drawn.take(rows.to(self.device))

    def blend(self, both: Inputs, mixture: Mixture) -> Inputs:
        """Mix examples with their partners, as :meth:`Mixture.blend` does."""
        return mixture.blend(both, cut=bool(self.augmentation.cutmix))


def refuse_mixing(augmentation: "Augmentation", *, kind: str, shape: tuple[int, ...], unmixable: str | None) -> None:
    """Make sure that examples can be mixed as an augmentation says.

    Args:
        augmentation: What is asked for.
        kind: How a model sees the numbers.
        shape: Of one example.
        unmixable: What the examples are, where a mean of two is none of them; else None.

    Raises:
        ConfigError: If they cannot.

    Example:
        >>> from limbeck.options import Augmentation
        >>> refuse_mixing(Augmentation(cutmix=1.0), kind="uint8 images", shape=(3, 8, 8), unmixable=None)
    """
    asked = {name: getattr(augmentation, name) for name in ("mixup", "cutmix") if getattr(augmentation, name)}
    named = " and ".join(f"{name} {value:g}" for name, value in asked.items())
    what: Any = unmixable or (kind if kind == "integers" else None)
    if asked and what is not None:
        raise ConfigError(
            f"{named}: these examples are {what}, of which there is no mean; mixup is for images and floating-point "
            "numbers, cutmix for images: leave it out"
        )
    if "cutmix" in asked and len(shape) != 3:
        raise ConfigError(
            f"{named}: cutmix is for images (C, H, W), and an example has shape {tuple(shape)}: leave it out, or take "
            "mixup"
        )
