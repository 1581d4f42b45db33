"""Decide: the settings that flags and TOML give, as a rule for ranks."""

__all__ = ["Convolutions", "is_budget", "metric_for", "most_for", "plan_by_rule"]

from typing import Any, Literal

from limbeck.errors import ConfigError
from limbeck.lowrank.decide import plan_ranks
from limbeck.lowrank.matrices import Placement
from limbeck.lowrank.plan import RankPlan
from limbeck.lowrank.spectrum import Metric, Spectrum
from limbeck.options import RankRule

Convolutions = Literal["channels", "best"]
"""A convolution becomes one to fewer channels and a 1x1 convolution, or the best of that, one over columns and one over
rows, and three (Tucker's form)."""

_GLOBAL = ("parameters", "flops", "size", "latency")
_NAMES = {"singular_share": "sum_share", "energy": "energy_share"}


def metric_for(rule: RankRule) -> Metric:
    """The metric that suits a rule where calibration data are at hand.

    Args:
        rule: The rule.

    Returns:
        ``"divergence"`` for a budget of the whole network, which compares layers; ``"weights"`` for rules that look at
        each layer alone, as the tools do that they come from.

    Example:
        >>> metric_for(RankRule(parameters=0.5)), metric_for(RankRule(energy=0.9))
        ('divergence', 'weights')
    """
    return "divergence" if is_budget(rule) else "weights"


def is_budget(rule: RankRule) -> bool:
    """Whether a rule divides one budget among the layers of a network.

    Args:
        rule: The rule.

    Returns:
        Whether it does.

    Example:
        >>> is_budget(RankRule(size="20KB")), is_budget(RankRule(energy=0.9))
        (True, False)
    """
    return rule.name in _GLOBAL


def most_for(rule: RankRule) -> int | None:
    """Above which rank a rule will ask for none, so that large layers need not be decomposed whole.

    Args:
        rule: The rule.

    Returns:
        The rank, or None where only the singular values will tell.

    Example:
        >>> most_for(RankRule(rank=(50, 20))), most_for(RankRule(energy=0.9))
        (50, None)
    """
    return None if rule.rank is None else max(rule.rank)


def plan_by_rule(spectrum: Spectrum, rule: RankRule, *, placement: Placement = "input") -> RankPlan:
    """Choose the ranks as settings say.

    Args:
        spectrum: What :func:`limbeck.lowrank.look` saw.
        rule: The settings, of which one is given.
        placement: Where the singular values go.

    Returns:
        The plan.

    Raises:
        ConfigError: If no rule is given, or what it asks for is impossible.

    Example:
        >>> import torch
        >>> from limbeck.lowrank import look
        >>> net = torch.nn.Sequential(torch.nn.Linear(40, 50), torch.nn.ReLU(), torch.nn.Linear(50, 30))
        >>> plan_by_rule(look(net), RankRule(rank=(5, 3))).ranks
        {'0': 5, '2': 3}
    """
    if rule.name is None:
        raise ConfigError("no rank rule is given")
    if rule.latency is not None:
        raise ConfigError("latency is measured, which is for networks of a run: give parameters, flops or size")
    value: Any = getattr(rule, rule.name)
    if rule.rank is not None:
        value = _by_layer(rule.rank, spectrum)
    options: dict[str, Any] = {_NAMES.get(rule.name, rule.name): value}
    return plan_ranks(spectrum, **options, placement=placement)


def _by_layer(ranks: tuple[int, ...], spectrum: Spectrum) -> int | dict[str, int]:
    if len(ranks) == 1:
        return ranks[0]
    free = [layer.name for layer in spectrum.layers if layer.decomposition is not None]
    if len(ranks) != len(free):
        raise ConfigError(
            f"rank has {len(ranks)} numbers, and the network has {len(free)} layers that can be factorised "
            f"({', '.join(free)}): give one number, or one for each"
        )
    return dict(zip(free, ranks, strict=True))
