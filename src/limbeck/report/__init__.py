"""The report of a run: one HTML page that opens anywhere, and its figures as SVG."""

__all__ = [
    "Contents",
    "Layer",
    "Model",
    "SearchContents",
    "Singular",
    "draw_all",
    "save_figures",
    "write_report",
    "write_search_report",
]

from limbeck.report.contents import Contents, Layer, Model, Singular
from limbeck.report.figures_all import draw_all, save_figures
from limbeck.report.page import write_report
from limbeck.report.search import SearchContents, write_search_report
