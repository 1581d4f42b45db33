"""The notebooks: what is kept with outputs is what its source says; the sources run, on little data for one epoch."""

import importlib.util
import json
import re
import struct
from pathlib import Path

import pytest

import limbeck

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "notebooks").glob("*.py"))
EXECUTED = ROOT / "docs" / "notebooks"
QUICK = {"temperature", "reading-a-verdict"}
WARN = {"table-and-forest": ["LimbeckWarning"]}  # of a teacher that knows its rows by heart, as the text says
NEEDS = {
    "own-model-and-data": "sklearn",
    "ship-it": "onnxruntime",
    "table-and-forest": "sklearn",
    "temperature-and-weight": "optuna",
}
WHOLE = {name: getattr(limbeck, name) for name in ("open_data", "train", "distill", "tune", "compare_methods")}


def cells_of_source(text):
    """Pairs of kind and text: what the percent format holds."""
    found = []
    for part in re.split(r"^# %%", text, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        if head.strip() == "[markdown]":
            found.append(("markdown", "\n".join(line[2:] for line in body.strip().splitlines())))
        else:
            assert head.strip() == "", head
            found.append(("code", body.strip()))
    return found


def read(stem):
    return json.loads((EXECUTED / f"{stem}.ipynb").read_text())


def test_there_are_ten_and_the_gallery_shows_each():
    names = [path.stem for path in SOURCES]
    assert len(names) == 10 and {path.stem for path in EXECUTED.glob("*.ipynb")} == set(names)
    page = (EXECUTED / "index.md").read_text()
    listed = re.search(r"```{toctree}\n:hidden:\n\n(.*?)\n```", page, re.S)[1].split("\n")
    assert sorted(listed) == sorted(names)
    for name in names:
        assert f"](images/{name}.png)]({name}.ipynb)" in page
        width, height = struct.unpack(">II", (EXECUTED / "images" / f"{name}.png").read_bytes()[16:24])
        assert 100 <= width <= 420 and 20 <= height <= 220


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_what_is_kept_is_what_the_source_says_and_was_executed(source):
    notebook = read(source.stem)
    assert [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook["cells"]] == cells_of_source(
        source.read_text()
    ), f"make notebooks ONLY={source.stem}"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, 1 + len(code)))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert all(output["output_type"] in {"stream", "display_data", "execute_result"} for output in outputs)
    told = ["".join(output["text"]) for output in outputs if output.get("name") == "stderr"]
    assert [text.partition(":")[0] for text in told] == WARN.get(source.stem, [])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_what_is_kept_is_small_and_names_no_machine(source):
    path = EXECUTED / f"{source.stem}.ipynb"
    assert path.stat().st_size < 300_000
    text = re.sub(r'"image/png": "[^"]*"', "", path.read_text())
    assert not re.findall(r"(?:/tmp|/home|/root|/Users|/var)/|[A-Z]:\\\\|<progress|\b20\d\d-\d\d-\d\d\b", text)
    assert all(set(cell["metadata"]) == set() for cell in json.loads(path.read_text())["cells"])


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(source):
    for target in re.findall(r"\]\((?!https?:)([^)\s#]+)", source.read_text()):
        assert (EXECUTED / target).exists(), target


@pytest.fixture
def small(request, tmp_path, monkeypatch):
    """A folder of its own, few digits, one epoch, and figures that nobody sees.

    What is shipped is tested in full, because eight bits are refused for a network that knows nothing.
    """
    shipped = "ship-it" in request.node.name
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))
    monkeypatch.setattr("limbeck.runs.pages.write_report", lambda contents, path: path)

    def few(name, **settings):
        assert set(settings) == {"train_examples", "validation"}
        data = WHOLE["open_data"](name, train_examples=1100, validation=100)
        test = data.test if shipped else data.test.take(range(200))
        return limbeck.DataSet(data.name, data.classes, data.train, test, data.validation)

    def shorter(name):
        changed = {"epochs": 1, "seeds": 2} if name == "distill" else {"epochs": 1}
        return lambda *given, **more: WHOLE[name](
            *given, **{**more, **{key: value for key, value in changed.items() if key in more}}
        )

    monkeypatch.setattr(limbeck, "open_data", few)
    for name in () if shipped else ("train", "distill", "tune", "compare_methods"):
        monkeypatch.setattr(limbeck, name, shorter(name))
    yield
    pyplot.close("all")


@pytest.mark.filterwarnings("default")  # few examples are odd, and a notebook may say so
@pytest.mark.parametrize(
    "source",
    [pytest.param(path, marks=[] if path.stem in QUICK else [pytest.mark.slow], id=path.stem) for path in SOURCES],
)
def test_a_source_runs(source, small, capsys):
    needed = NEEDS.get(source.stem)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    exec(compile(source.read_text(), source, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out
