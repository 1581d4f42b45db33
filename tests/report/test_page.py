"""The page: whole, self-contained, escaped, and the same for the same contents."""

import base64
import dataclasses
import re
import string
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from limbeck.errors import RunError
from limbeck.evaluation.verdicts import judge
from limbeck.report import Contents, Layer, Model, draw_all, save_figures, write_report
from limbeck.report.figures_errors import draw_confusions, draw_reliability
from limbeck.report.figures_softness import dark_knowledge
from limbeck.report.figures_style import svg
from limbeck.report.figures_training import draw_learning_curves
from limbeck.report.page import render_report, verdict_box

EVERY = [
    "networks",
    "tradeoff",
    "learning_curves",
    "temperature",
    "dark_knowledge",
    "disagreements",
    "confusions",
    "reliability",
]
PAPER = "https://arxiv.org/abs/1503.02531"


def answers(generator, labels, classes, sharpness):
    scores = generator.normal(size=(len(labels), classes)).astype(np.float32)
    scores[np.arange(len(labels)), labels] += sharpness
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def full(examples=300, names=tuple("01234"), size=(8, 8), **changes):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(names), examples)
    models = []
    for role, sharpness, weights in (
        ("teacher", 4.0, 2_395_210),
        ("baseline", 2.0, 101_770),
        ("student", 3.0, 101_770),
    ):
        log_probs = answers(generator, labels, len(names), sharpness)
        errors = int((log_probs.argmax(-1) != labels).sum())
        history = tuple(
            {
                "epoch": epoch,
                "train_loss": 1 / epoch,
                "validation_errors": 40 - epoch,
                "validation_accuracy": None,
            }
            for epoch in range(1, 6)
        )
        scores = {
            "test_examples": examples,
            "test_errors": errors,
            "accuracy": 1 - errors / examples,
            "parameters": weights,
            "file_bytes": 4 * weights,
            "latency_ms": weights / 1e6,
        }
        layers = (
            Layer("hidden", (128,), weights - 1290),
            Layer("relu", (128,), 0),
            Layer("output", (10,), 1290),
        )
        models.append(Model(role, f"mlp of {role}", log_probs, history, scores, layers))
    models[2].scores["agreement_with_teacher"] = 0.9
    verdict = judge(models[2].predicted != labels, models[1].predicted != labels)
    usual = {
        "title": "A report",
        "created": "2026-01-01",
        "classes": names,
        "models": tuple(models),
        "labels": labels,
        "images": generator.integers(0, 256, (examples, *size), dtype=np.uint8),
        "command": "limbeck distill --out runs/a",
        "temperature": 4.0,
        "hard_weight": 0.1,
        "verdict": verdict.to_dict(),
        "seeds": ({"seed": 0, "student_errors": 90, "baseline_errors": 117}, {"seed": 1}),
        "config": {"training": {"epochs": 5, "patience": None}},
        "notes": ("A remark.",),
    }
    return Contents(**(usual | changes))


class Page(HTMLParser):
    """Collects tags, addresses and text, and checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.pieces = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in {"src", "href", "srcset", "action", "data"}]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.pieces.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.pieces).split())

    @property
    def figures(self):
        prefix = "data:image/svg+xml;base64,"
        return [base64.b64decode(a.removeprefix(prefix)).decode() for a in self.addresses if a.startswith(prefix)]


def written(contents, folder):
    return Page(write_report(contents, folder / "report.html").read_text("utf-8"))


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, full(), written(full(), folder)


def test_everything_is_there(complete):
    folder, contents, page = complete
    assert len(page.figures) == len(EVERY)
    assert sorted(path.stem for path in (folder / "figures").iterdir()) == sorted(EVERY)
    for figure in page.figures:
        assert ElementTree.fromstring(figure).tag.endswith("svg")
    assert contents.verdict["sentence"] in page.text.replace("\N{NO-BREAK SPACE}", " ")
    errors = [f"{model.scores['test_errors']:,}" for model in contents.models]
    assert f"Test errors {' '.join(errors)}" in page.text
    assert "Agreement with the teacher – – 90.00\N{NO-BREAK SPACE}%".replace("\N{NO-BREAK SPACE}", " ") in page.text
    assert "0 90 117 −27" in page.text
    assert "1 – – –" in page.text
    assert "training.epochs 5" in page.text
    assert "training.patience none" in page.text
    assert "24× fewer weights than the teacher" in page.text
    assert "9.58 MB" in page.text
    assert "A remark." in page.text
    assert "limbeck distill --out runs/a" in page.text


def test_figures_beside_the_page_are_those_in_it(complete):
    folder, _, page = complete
    assert [(folder / "figures" / f"{name}.svg").read_text("utf-8") for name in EVERY] == page.figures


def test_nothing_is_loaded_from_elsewhere(complete):
    folder, _, page = complete
    assert [address for address in page.addresses if not address.startswith("data:")] == [PAPER]
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    text = (folder / "report.html").read_text("utf-8")
    assert re.findall(r"https?://[^\s\"'<]+", text) == [PAPER]
    assert "@import" not in text
    assert "url(" not in text
    for figure in page.figures:
        names = set(re.findall(r"https?://[^\s\"'<]+", figure))
        assert names <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert all(a.startswith(("#", "data:")) for a in re.findall(r'href="([^"]*)"', figure))
        assert all(a.startswith("#") for a in re.findall(r"url\(([^)]*)\)", figure))
        assert "<!DOCTYPE" not in figure


def test_the_same_contents_give_the_same_page(complete, tmp_path):
    folder, _, _ = complete
    again = write_report(full(), tmp_path / "report.html")
    assert again.read_bytes() == (folder / "report.html").read_bytes()
    assert len(again.read_bytes()) < 4_000_000


def test_users_settings_of_matplotlib_change_nothing(complete):
    import matplotlib

    folder, contents, _ = complete
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "axes.facecolor": "red"}):
        figures = {
            "learning_curves": draw_learning_curves(contents),
            "reliability": draw_reliability(contents),
        }
        texts = {name: svg(figure) for name, figure in figures.items()}
        assert matplotlib.rcParams["font.size"] == 20
    for name, text in texts.items():
        assert text == (folder / "figures" / f"{name}.svg").read_text("utf-8")


def test_text_is_never_markup(tmp_path):
    evil = "<script>alert('1')</script> & \"quoted\" $x_$ \x1b[2J \u202efdp.exe"
    contents = full(60, names=tuple("012345"))
    models = tuple(dataclasses.replace(model, title=evil, role=evil) for model in contents.models)
    names = (evil, "a\nb\x00c", "漢字", "\ud800", "--> ]]>", "$\\frac{")
    hostile = dataclasses.replace(
        contents,
        title=evil,
        created=evil,
        command=evil,
        classes=names,
        models=(*models, *contents.models[:1]),
        verdict={"helped": None, "sentence": evil},
        config={evil: {evil: evil}},
        notes=(evil,),
    )
    page = written(hostile, tmp_path)
    assert "script" not in page.tags
    assert page.text.count("<script>alert('1')</script>") >= 7
    text = (tmp_path / "report.html").read_text("utf-8")
    for figure in page.figures:
        root = ElementTree.fromstring(figure)
        assert not [element for element in root.iter() if element.tag.endswith("script")]
    for shown in (text, *page.figures):
        assert not {"\x1b", "\u202e", "\x00"} & set(shown)


def test_letters_that_the_typeface_lacks_stay_text(tmp_path):
    contents = full(names=("漢", "字", "c"))
    figure = svg(draw_confusions(contents))
    texts = {element.text for element in ElementTree.fromstring(figure).iter() if element.tag.endswith("}text")}
    assert {"漢", "字"} <= texts


@pytest.mark.parametrize(("helped", "heading"), [(True, "it helped"), (False, "it did not help"), (None, "undecided")])
def test_the_band_says_what_the_verdict_says(tmp_path, helped, heading):
    contents = full(models=(Model("teacher", "net"),), verdict={"helped": helped, "sentence": "So it is."})
    assert f"Verdict: {heading} So it is." in written(contents, tmp_path).text


def test_figures_can_be_saved_alone(tmp_path):
    model = Model("teacher", "net", history=({"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": float("nan")}))
    files = save_figures(Contents("t", "now", ("a", "b"), (model,)), tmp_path / "new" / "figures")
    assert list(files) == ["learning_curves"]
    assert ElementTree.fromstring(files["learning_curves"].read_text("utf-8")).tag.endswith("svg")


def test_a_report_of_nothing_but_a_name(tmp_path):
    page = written(Contents("Bare", "now", ("a", "b"), (Model("teacher", "net"),)), tmp_path)
    assert "Bare" in page.text
    assert page.figures == []
    assert "Verdict" not in page.text
    assert "Results" not in page.text
    assert "Settings" not in page.text
    assert "Try the network" not in page.text


def test_a_report_links_to_the_page_that_runs_the_network():
    page = render_report(Contents("t", "now", ("a", "b"), (Model("teacher", "net"),), tried="try/model.html"), {})
    assert '<a href="try/model.html">Try the network yourself</a>' in page


def test_sections_without_data_are_left_out():
    contents = full(names=("a", "b", "c"))
    one = dataclasses.replace(contents, models=contents.models[:1], temperature=None, verdict=None)
    assert list(draw_all(one)) == [name for name in EVERY if name != "tradeoff"]
    two = dataclasses.replace(contents, models=(contents.models[0], contents.models[2]))
    assert list(draw_all(two)) == EVERY
    blind = dataclasses.replace(contents, images=None)
    assert list(draw_all(blind)) == [name for name in EVERY if name != "disagreements"]
    bare = [dataclasses.replace(model, history=(), layers=(), scores={}) for model in contents.models]
    silent = dataclasses.replace(contents, models=tuple(bare))
    assert list(draw_all(silent)) == EVERY[3:]
    mute = [dataclasses.replace(model, log_probs=None) for model in contents.models]
    assert list(draw_all(dataclasses.replace(contents, models=tuple(mute), labels=None, images=None))) == EVERY[:3]


@pytest.mark.parametrize(
    "contents",
    [
        full(1),
        full(12, names=("no", "yes")),
        pytest.param(full(60, names=tuple(string.ascii_uppercase[:11])), marks=pytest.mark.slow),
        pytest.param(full(60, names=tuple(string.ascii_uppercase)), marks=pytest.mark.slow),
        full(60, names=("one", "two", "a much longer name of a class"), size=(5, 9, 3)),
    ],
    ids=["one example", "two classes", "eleven letters", "letters", "colour"],
)
def test_unusual_shapes(contents, tmp_path):
    page = written(contents, tmp_path)
    assert len(page.figures) >= len(EVERY) - 2
    assert not any(re.search(r'\s(?:d|x|y|transform)="[^"]*(?:nan|inf)', figure) for figure in page.figures)


def test_perfect_answers_and_absent_classes(tmp_path):
    labels = np.zeros(20, int)
    with np.errstate(divide="ignore"):
        perfect = np.log(np.eye(33, dtype=np.float32)[labels])
    pairs, matrix = (
        Contents("t", "now", tuple(map(str, range(classes))), tuple(models), labels)
        for classes in (33, 5)
        for models in [[Model(role, "", perfect[:, :classes]) for role in ("teacher", "student")]]
    )
    assert svg(draw_confusions(pairs))
    assert len(written(matrix, tmp_path).figures) >= 2
    assert (tmp_path / "figures" / "confusions.svg").exists()


@pytest.mark.slow
def test_a_thousand_classes_are_quick(tmp_path):
    contents = full(2000, names=tuple(f"class {k}" for k in range(1000)), images=None)
    start = time.process_time()
    page = written(contents, tmp_path)
    assert time.process_time() - start < 20  # about 2 s on one free core
    assert len(page.figures) == len(EVERY) - 1
    assert (tmp_path / "report.html").stat().st_size < 4_000_000


def test_dark_knowledge_is_the_mean_of_softened_wrong_answers():
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 4, 200)  # class 4 never occurs
    log_probs = answers(generator, labels, 5, 3.0)
    expected = np.full((5, 5), np.nan)
    for true in range(4):
        total = np.zeros(5)
        for row in log_probs[labels == true].astype(np.float64):
            powers = np.exp(row / 3)
            total += powers / powers.sum()
        total[true] = 0
        expected[true] = total / total.sum()
        expected[true, true] = np.nan
    shares = dark_knowledge(Model("teacher", "", log_probs), labels, 5, 3.0)
    np.testing.assert_allclose(shares, expected, rtol=1e-6)


def test_rectangles_of_the_diagram_have_areas_in_the_ratio_of_weights():
    from matplotlib.patches import Rectangle

    layers = [
        Layer("conv", (64, 14, 14), 36_928),
        Layer("hidden", (1024,), 500_000),
        Layer("output", (10,), 10_250),
    ]
    models = (Model("teacher", "", layers=tuple(layers)), Model("student", "", layers=tuple(layers[1:2])))
    figure = draw_all(Contents("t", "now", ("a", "b"), models))["networks"]
    areas = [p.get_width() * p.get_height() for p in figure.axes[0].patches if isinstance(p, Rectangle)]
    weights = np.array([layer.parameters for layer in (*layers, layers[1])])
    np.testing.assert_allclose(np.array(areas) / areas[1], weights / 500_000, rtol=1e-9)


def test_a_folder_that_cannot_be_made_is_a_run_error(tmp_path):
    (tmp_path / "figures").write_text("in the way")
    with pytest.raises(RunError, match="cannot make the folder"):
        write_report(Contents("Bare", "now", ("a", "b"), (Model("teacher", ""),)), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_importing_the_report_loads_neither_torch_nor_matplotlib():
    import subprocess
    import sys

    code = "import sys, limbeck.report; print({'torch', 'matplotlib', 'jinja2', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_the_student_inherits_stands_with_the_verdict_and_never_alone():
    inherited = {"sentence": "Of the teacher's 20 mistakes the student repeats 90 %."}
    box = verdict_box({"sentence": "It helped.", "helped": True}, None, inherited)
    assert box["sentences"] == ["It helped.", "Of the teacher's 20 mistakes the student repeats 90\N{NO-BREAK SPACE}%."]
    assert verdict_box(None, None, inherited) is None


@pytest.mark.parametrize(
    ("teacher", "student", "words", "not_words"),
    [
        ((10, 1.0), (310, 1.05), "31× more weights", "batch size 1"),
        ((10, 1.0), (10, 2.0), "2× slower than the teacher", "weights than"),
        ((310, 3.0), (10, 1.0), "31× fewer weights", "slower"),
    ],
)
def test_tiles_say_which_is_larger_and_nothing_within_noise(teacher, student, words, not_words):
    contents = full()
    sized = {
        role: {"parameters": sizes[0], "latency_ms": sizes[1]}
        for role, sizes in (("teacher", teacher), ("student", student))
    }
    models = [dataclasses.replace(m, scores={**m.scores, **sized.get(m.role, {})}) for m in contents.models]
    page = Page(render_report(dataclasses.replace(contents, models=tuple(models)), {}))
    assert words in page.text and not_words not in page.text.split("Results")[0]
