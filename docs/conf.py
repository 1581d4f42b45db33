"""Settings of the site that ``make docs`` builds: pages, executed notebooks, and a reference out of the docstrings."""

import limbeck

project = "Limbeck"
author = "the Limbeck authors"
copyright = "2026, the Limbeck authors; Apache-2.0"
release = version = limbeck.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx-mathjax-offline",  # formulas without a network
]
html_theme = "furo"
html_title = "Limbeck"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["gallery.css"]
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # notebooks are kept with their outputs; make notebooks executes them
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "dollarmath"]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
