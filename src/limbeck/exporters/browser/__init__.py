"""An HTML page that runs a network in the browser."""

__all__ = ["BROWSER"]

from limbeck.exporters.browser.exporter import BROWSER
