"""The site's pages are read by Sphinx without a warning: headings, links, tables, formulas."""

import io
import re
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

DOCS = Path(__file__).parents[1] / "docs"
LEFT_OUT = re.compile(r"notebooks/|nonexisting document 'api'")


def warnings_of(out, *, without, extensions):
    """Build with few extensions, write nothing; what is said, but for links to pages that are left out."""
    said = io.StringIO()
    settings = {"extensions": extensions, "exclude_patterns": ["_build", *without]}
    with docutils_namespace():
        app = Sphinx(DOCS, DOCS, out, out / "doctrees", "dummy", settings, status=None, warning=said, freshenv=True)
        app.build(force_all=True)
    assert len(app.env.found_docs) > 25
    return [line for line in said.getvalue().splitlines() if line.strip() and not LEFT_OUT.search(line)]


@pytest.mark.filterwarnings("ignore")  # of docutils and Sphinx about themselves
def test_pages_build_without_a_warning(tmp_path):
    assert warnings_of(tmp_path, without=["notebooks", "api.md"], extensions=["myst_parser"]) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_reference_builds_without_a_warning(tmp_path):
    found = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
    assert warnings_of(tmp_path, without=["notebooks"], extensions=found) == []
