"""A run as HTML for notebooks: a table of its models, and its verdicts."""

__all__ = ["run_html"]

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from limbeck.evaluation.score_table import score_rows, scores_by_role

_MARKS = {True: "#009e73", False: "#d55e00"}


def run_html(metrics: Mapping[str, Any], said: Sequence[str]) -> str:
    """The table and the verdicts as a fragment of HTML, without scripts or styles of its own.

    Args:
        metrics: The contents of ``metrics.json``.
        said: Sentences of the verdicts.

    Returns:
        The fragment; all that comes from a run is escaped.

    Example:
        >>> run_html({"judged_on": "test", "model": {"title": "a <b>", "test_errors": 3}}, ["So it is."])[:54]
        '<p style="border-left: 4px solid #8a8f98; padding-left'
    """
    models = scores_by_role(metrics)
    verdict = metrics.get("verdict")
    helped = verdict.get("helped") if isinstance(verdict, Mapping) else None
    color = "#8a8f98" if helped is None else _MARKS[bool(helped)]
    parts = [f'<p style="border-left: 4px solid {color}; padding-left: 0.7em">{escape(each)}</p>' for each in said]
    warned = metrics.get("warnings")
    parts += [f"<p><strong>Warning:</strong> {escape(str(each))}</p>" for each in warned or ()]
    heading = "".join(
        f'<th scope="col" style="text-align: right">{escape(role)}<br>'
        f'<span style="font-weight: normal">{escape(str(scores.get("title", "")))}</span></th>'
        for role, scores in models.items()
    )
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left">{escape(name)}</th>'
        + "".join(f'<td style="text-align: right">{escape(cell)}</td>' for cell in cells)
        + "</tr>"
        for name, *cells in score_rows(models)
    )
    part = escape(str(metrics.get("judged_on") or "no"))
    return (
        "".join(parts)
        + f'<table><thead><tr><th scope="col" style="text-align: left">on the {part} set</th>{heading}</tr></thead>'
        + f"<tbody>{rows}</tbody></table>"
    )
