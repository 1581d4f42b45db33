"""One HTML file that runs a network in the page, for a person to try it."""

__all__ = ["BROWSER"]

from limbeck.exporters.browser.exporter import BROWSER
