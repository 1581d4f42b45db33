"""The findings of a recipe, and their comparison with the paper."""

__all__ = ["Findings", "Order", "results_table", "spread", "temperature_table"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from limbeck.evaluation.statistics import mean_interval
from limbeck.recipes.catalogue import Claim, Recipe
from limbeck.report import Drawing, Table


@dataclass(frozen=True)
class Order:
    """What a recipe may be asked beside its seeds.

    Attributes:
        data: The examples of a recipe on letters: a path, or None for the small version's digits.
        jobs: How many specialists train at the same time, each in its own process.
        ray: Instead: the address of a Ray cluster to train them on, or "local".
    """

    data: str | None = None
    jobs: int = 1
    ray: str | None = None


@dataclass(frozen=True, eq=False)
class Findings:
    """The findings of a recipe.

    Attributes:
        values: For each claim's key, one number per seed, in the claim's unit.
        notes: For some keys, what to know of them: what was chosen, or what was tried where an aim was missed.
        answer: What came out, in words.
        tables: More tables.
        drawings: Figures.
        remarks: How choices were made.
    """

    values: Mapping[str, Sequence[float]]
    notes: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""
    tables: tuple[Table, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    remarks: tuple[str, ...] = ()


def spread(values: Sequence[float], unit: str = "errors") -> str:
    """Mean and 95 % interval over seeds on this test set, as a table shows them: no verdict on further examples.

    Args:
        values: One number per seed.
        unit: "errors" are shown with one digit behind the point, shares in per cent with two.

    Returns:
        The mean, and the interval where there are several seeds.

    Example:
        >>> spread([70.0, 72.0, 74.0]), spread([93.25], "%")
        ('72.0 (67.0 to 77.0)', '93.25 %')
    """
    interval, digits = mean_interval(values), 1 if unit == "errors" else 2
    sign = "" if unit == "errors" else " %"
    if len(values) == 1:
        return f"{values[0]:.0f}" if unit == "errors" else f"{values[0]:.{digits}f}{sign}"
    return f"{interval.estimate:.{digits}f}{sign} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def temperature_table(title: str, errors: Mapping[float, int], chosen: float) -> Table:
    """What each temperature that was tried gave.

    Args:
        title: Of the table.
        errors: Errors on validation by temperature.
        chosen: The temperature that was taken.

    Returns:
        A row for each.

    Example:
        >>> temperature_table("Tried", {2.0: 31, 4.0: 29}, 4.0).rows
        (('2', '31'), ('4 (chosen)', '29'))
    """
    rows = tuple((f"{t:g}" + (" (chosen)" if t == chosen else ""), str(count)) for t, count in errors.items())
    return Table(title, ("T", "errors on validation"), rows)


def results_table(recipe: Recipe, findings: Findings) -> Table:
    """Each claim, the paper's number, ours.

    Args:
        recipe: Whose claims.
        findings: Their values; claims without any are shown as not measured.

    Returns:
        The table: what, paper, older replications where there are any, ours over seeds, the seeds themselves, aim where
        there is one, notes.

    Example:
        >>> from limbeck.recipes.catalogue import recipe_named
        >>> table = results_table(recipe_named("mnist"), Findings({"teacher": [70.0, 72.0, 74.0]}))
        >>> table.rows[0][1:3]
        ('67', '64 (Foffano et al.), 108 (shriramsb)')
        >>> table.rows[0][3:]
        ('72.0 (67.0 to 77.0)', '70, 72, 74', '75: reached', '')
        >>> table.rows[1][3]
        'not measured'
    """
    aims = any(claim.aim is not None for claim in recipe.claims)
    rows = []
    for claim in recipe.claims:
        values = findings.values.get(claim.key, ())
        ours, each = "not measured", ""
        if values:
            ours, each = spread(values, claim.unit), ", ".join(_number(value, claim) for value in values)
        paper = "–" if claim.paper is None else f"{claim.paper:g}" + ("" if claim.unit == "errors" else " %")
        row = [claim.what, paper]
        if recipe.replications:
            row.append(", ".join(f"{value:g} ({other.who})" for other, value in claim.others))
        row += [ours, each]
        if aims:
            row.append(_aim(claim, values))
        rows.append((*row, findings.notes.get(claim.key, "")))
    older = ["older replications"] if recipe.replications else []
    heading = [
        "",
        "paper",
        *older,
        "ours: mean (95 % interval over seeds)",
        "seed by seed",
        *(["aim"] if aims else []),
        "notes",
    ]
    return Table("Results", tuple(heading), tuple(rows))


def _number(value: float, claim: Claim) -> str:
    return f"{value:.0f}" if claim.unit == "errors" else f"{value:.2f}"


def _aim(claim: Claim, values: Sequence[float]) -> str:
    if claim.aim is None:
        return ""
    if not values:
        return f"{claim.aim:g}: open"
    mean = sum(values) / len(values)
    reached = mean <= claim.aim if claim.fewer_is_better else mean >= claim.aim
    return f"{claim.aim:g}: {'reached' if reached else 'missed'}"
