"""The registry of export formats; other packages add theirs by entry points of the group ``limbeck.exporters``."""

__all__ = ["exporter_named", "exporters"]

import difflib
from functools import cache
from importlib import import_module
from typing import cast

from limbeck.errors import ConfigError
from limbeck.exporters.protocol import Exporter
from limbeck.system.extras import entry_points, load_entry_point

_BUILT_IN = (
    "limbeck.exporters.onnx_file:ONNX",
    "limbeck.exporters.int8_file:INT8",
    "limbeck.exporters.torch_program:TORCH",
    "limbeck.exporters.hub_folder:HUB",
    "limbeck.exporters.browser.exporter:BROWSER",
)
_GROUP = "limbeck.exporters"


@cache
def exporters() -> dict[str, Exporter]:
    """All formats by name; one of another package replaces one of the same name that comes with Limbeck.

    Returns:
        The exporters.

    Raises:
        ConfigError: If a package's exporter cannot be imported.
    """
    found: list[Exporter] = []
    for place in _BUILT_IN:
        module, name = place.split(":")
        found.append(cast(Exporter, getattr(import_module(module), name)))
    for point in entry_points(group=_GROUP):
        found.append(cast(Exporter, load_entry_point(point, "exporter")))
    return {each.name: each for each in found}


def exporter_named(name: str) -> Exporter:
    """The exporter of a format.

    Args:
        name: Of the format.

    Returns:
        The exporter.

    Raises:
        ConfigError: If there is none of this name.

    Example:
        >>> exporter_named("onnx").suffix
        '.onnx'
    """
    known = exporters()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise ConfigError(
            f"there is no format {name!r} to export to"
            + (f": did you mean {near[0]}?" if near else f": known are {', '.join(known)}")
        )
    return known[name]
