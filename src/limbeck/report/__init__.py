"""The report of a run: one self-contained HTML page, and its figures as SVG."""

__all__ = [
    "Contents",
    "Drawing",
    "Heard",
    "Layer",
    "Model",
    "SearchContents",
    "Singular",
    "Study",
    "Table",
    "draw_all",
    "save_figures",
    "write_report",
    "write_search_report",
    "write_study",
]

from limbeck.report.contents import Contents, Heard, Layer, Model, Singular
from limbeck.report.figures_all import draw_all, save_figures
from limbeck.report.page import write_report
from limbeck.report.study import Drawing, Study, Table, write_study
from limbeck.report.tuning_page import SearchContents, write_search_report
