"""Pages in Chromium: what it computes, that nothing leaves the page, and that drawing, dropping and choosing work."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
import torch
from chromium import Browser, chromium
from exporter_makers import images, net
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

import limbeck
from limbeck.data import open_data
from limbeck.data.examples import Examples
from limbeck.data.image_transform import show
from limbeck.data.table import Table
from limbeck.formats.image_arrays import open_picture
from limbeck.models import CNN, CNNConfig
from limbeck.options import DataOptions, ImagePresentation

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed: apt-get install chromium"),
]
SEVEN = [(0.3, 0.2), (0.5, 0.2), (0.7, 0.2), (0.6, 0.4), (0.5, 0.6), (0.42, 0.8)]
ONE = [(0.52, 0.15), (0.5, 0.4), (0.48, 0.6), (0.46, 0.85)]
ZERO = [(0.5 + 0.22 * np.cos(t), 0.5 + 0.33 * np.sin(t)) for t in np.linspace(0, 2 * np.pi, 40)]


@pytest.fixture(scope="module")
def browser():
    made = Browser()
    yield made
    made.close()


@pytest.fixture(scope="module")
def digits():
    return open_data(DataOptions(data="mnist", validation=5000))


@pytest.fixture(scope="module")
def shipped(digits, tmp_path_factory):
    """A page of a small CNN that has learnt digits for some seconds."""
    torch.manual_seed(0)
    model = CNN(CNNConfig(input_shape=(1, 28, 28), classes=10, channels=(8, 16), hidden=(32,)))
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    x, y = digits.train.inputs, digits.train.labels
    for rows in torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:38400].split(128):
        loss = cross_entropy(model(x[rows].float() / 255), y[rows].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    out = tmp_path_factory.mktemp("page") / "out"
    limbeck.export(model.eval(), out=out, formats=["browser"], data=digits, parity_examples=300)
    return model, out / "model.html"


def answered(browser):
    return browser.run("document.getElementById('answered').textContent")


def says(browser, text):
    browser.until(f"document.getElementById('answered').textContent.includes({json.dumps(text)})", 20)


def predicted(browser, pixels):
    """The page's probabilities for some images."""
    packed = base64.b64encode(pixels.numpy().tobytes()).decode()
    return browser.run(
        f"""(async () => {{
          const bytes = Uint8Array.from(atob("{packed}"), (c) => c.charCodeAt(0)), all = [];
          for (let n = 0; n < {len(pixels)}; n++)
            all.push((await limbeckPredict({{ pixels: bytes.subarray(n * 784, (n + 1) * 784) }})).probabilities);
          return all;
        }})()"""
    )


def test_probabilities_of_1000_examples_are_pythons_and_nothing_is_asked_for(shipped, digits, browser):
    model, page = shipped
    browser.open(page)
    pixels = digits.test.inputs[:1000]
    found = predicted(browser, pixels)
    with torch.no_grad():
        expected = model(pixels.float() / 255).softmax(-1)
    np.testing.assert_allclose(np.array(found), expected.numpy(), atol=1e-6, rtol=0)
    assert browser.requests() == [page.resolve().as_uri()] and browser.troubles() == []


def test_a_calibrated_page_answers_1000_examples_with_the_temperature_inside(shipped, digits, browser, tmp_path):
    model, _ = shipped
    done = limbeck.export(
        model, out=tmp_path / "out", formats=["browser"], data=digits, calibrate=True, parity_examples=300
    )
    temperature = done.parity["temperature"]
    assert abs(temperature - 1) > 0.01
    browser.open(done.files["browser"])
    pixels = digits.test.inputs[:1000]
    with torch.no_grad():
        logits = model(pixels.float() / 255)
    found = np.array(predicted(browser, pixels))
    np.testing.assert_allclose(found, (logits / temperature).softmax(-1).numpy(), atol=1e-4, rtol=0)
    assert np.abs(found - logits.softmax(-1).numpy()).max() > 1e-3, "it is not that of the network as it was"
    assert browser.requests() == [done.files["browser"].resolve().as_uri()] and browser.troubles() == []


def test_nothing_can_leave_the_page(shipped, browser, tmp_path):
    browser.open(shipped[1])
    outside = (tmp_path / "outside.txt").as_uri()
    (tmp_path / "outside.txt").write_text("secret")
    for script in (
        f"fetch('{outside}').then(() => 'out', () => 'kept')",
        "fetch('https://127.0.0.1:9/').then(() => 'out', () => 'kept')",
        "new Promise((done) => { const i = new Image(); i.onload = () => done('out'); i.onerror = () => done('kept');"
        f" i.src = '{outside}'; }})",
        "new Promise((done) => { const s = document.createElement('script'); s.textContent = 'window.out = 1';"
        " document.body.append(s); done(window.out ? 'out' : 'kept'); })",
    ):
        assert browser.run(script) == "kept"
    assert any("Content Security Policy" in trouble for trouble in browser.troubles())


@pytest.mark.parametrize("touch", [False, True])
def test_drawing_by_mouse_and_finger(shipped, browser, touch):
    browser.size(400, 800, touch=touch)
    browser.open(shipped[1])
    try:
        for stroke, digit in ((SEVEN, "7"), (ONE, "1"), (ZERO, "0")):
            browser.run("document.getElementById('clear').click()")
            says(browser, "")
            browser.draw(stroke, touch=touch)
            says(browser, f"Answer: {digit}, ")
            assert browser.run("document.getElementById('top').textContent") == digit
    finally:
        browser.size(1400, 1000)


def test_undo_and_clear_by_key_and_by_button(shipped, browser):
    browser.open(shipped[1])
    browser.draw(ONE)
    says(browser, "Answer: 1")
    browser.draw([(0.2, 0.5), (0.8, 0.5)])
    browser.until("!document.getElementById('answered').textContent.includes('Answer: 1, 9')", 20)
    browser.key("z", 90, modifiers=2)
    says(browser, "Answer: 1")
    browser.key("z", 90)
    browser.until("document.getElementById('answer').classList.contains('empty')")
    browser.draw(SEVEN)
    says(browser, "Answer: 7")
    browser.run("document.getElementById('undo').click()")
    browser.until("document.getElementById('answer').classList.contains('empty')")
    browser.draw(SEVEN)
    says(browser, "Answer: 7")
    browser.key("c", 67)
    browser.until("document.getElementById('answer').classList.contains('empty')")
    assert browser.run("document.getElementById('clear').disabled")


def test_examples_are_one_click_away(shipped, digits, browser):
    model, page = shipped
    browser.open(page)
    names = browser.run("[...document.querySelectorAll('.sample')].map((b) => b.getAttribute('aria-label'))")
    assert names == [f"Example {k + 1}, true class {k}" for k in range(10)]
    browser.run("document.querySelectorAll('.sample')[3].click()")
    says(browser, "Answer: 3")
    assert "its true class is 3" in browser.run("document.getElementById('said').textContent")
    address = browser.run("document.querySelectorAll('.sample img')[3].src")
    pixels = np.asarray(Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))))
    assert any((pixels == digit).all() for digit in digits.test.inputs[digits.test.labels == 3, 0].numpy())
    with torch.no_grad():
        expected = model(torch.tensor(pixels)[None, None].float() / 255).softmax(-1)[0].tolist()
    found = browser.run("limbeckPredict(limbeck.spec.samples[3])")["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


DROP = """(async () => {{
  const bytes = Uint8Array.from(atob("{data}"), (c) => c.charCodeAt(0)), given = new DataTransfer();
  given.items.add(new File([bytes], {name}, {{ type: "image/png" }}));
  document.body.dispatchEvent(new DragEvent("dragover", {{ dataTransfer: given, bubbles: true, cancelable: true }}));
  document.body.dispatchEvent(new DragEvent("drop", {{ dataTransfer: given, bubbles: true, cancelable: true }}));
}})()"""


def drop(browser, path, name=None):
    data = base64.b64encode(path.read_bytes()).decode()
    browser.run(DROP.format(data=data, name=json.dumps(name or path.name)))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A page of a network for colour images that are resized, cropped and normalised, and its model."""
    folder = tmp_path_factory.mktemp("colours")
    model = net(channels=3)
    model[1].weight.data /= 20
    model.presentation = ImagePresentation(size=8, crop_pct=0.8, interpolation="bicubic")
    limbeck.export(model, out=folder / "out", formats=["browser"], data=images(60, seed=1, channels=3))
    return model, folder / "out" / "model.html"


def test_colour_images_that_are_dropped_or_chosen_are_answered_as_python_does(colours, browser, tmp_path):
    model, page = colours
    browser.open(page)
    assert browser.run("document.getElementById('pad')") is None
    pixels = np.random.default_rng(0).integers(0, 256, (57, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "dropped.png")
    clear = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    clear[:20, :, 3] = 0
    Image.fromarray(clear).save(tmp_path / "chosen.png")
    for name, give in (("dropped.png", drop), ("chosen.png", Browser.choose)):
        give(browser, tmp_path / name) if give is drop else browser.choose(tmp_path / name)
        browser.until(f"document.getElementById('said').textContent.includes('{name}')", 20)
        with open_picture(tmp_path / name) as picture:
            seen = show(picture, model.presentation)
        shown = browser.run(
            "(() => { const c = document.getElementById('seen');"
            " return Array.from(c.getContext('2d').getImageData(0, 0, 8, 8).data); })()"
        )
        assert np.array_equal(np.array(shown).reshape(8, 8, 4)[:, :, :3], seen)
        mean, std = (torch.tensor(each) for each in (model.presentation.mean, model.presentation.std))
        values = ((torch.from_numpy(seen).float() / 255 - mean) / std).permute(2, 0, 1)[None]
        with torch.no_grad():
            best = model(values).softmax(-1)[0].max().item()
        assert browser.run("document.getElementById('share').textContent") == f"{100 * best:.1f} %"
    (tmp_path / "no.png").write_bytes(b"nothing")
    drop(browser, tmp_path / "no.png", "<b>no</b>.png")
    says(browser, "<b>no</b>.png is not an image that this browser can read")


def test_names_of_classes_run_no_script(browser, tmp_path):
    hostile = (
        "</script><script>window.pwned=1</script>",
        "<img src=x onerror=window.pwned=1>",
        "'\"><svg onload=pwned=1>",
    )
    limbeck.export(net(), out=tmp_path / "out", formats=["browser"], data=images(60, seed=1), classes=hostile)
    browser.open(tmp_path / "out" / "model.html")
    browser.run("document.querySelectorAll('.sample')[1].click()")
    says(browser, "onerror")
    assert browser.run("[...document.querySelectorAll('.bar .name')].map((e) => e.textContent)") == list(hostile)
    assert browser.run("window.pwned === undefined && document.querySelectorAll('#bars img').length === 0")
    assert browser.troubles() == []


def test_numbers_can_be_typed(browser, tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    limbeck.export(model, torch.rand(20, 4), out=tmp_path / "out", formats=["browser"])
    browser.open(tmp_path / "out" / "model.html")
    for text, said in (("1 2 3", "takes 4 numbers, and these are 3"), ("1 2 x 3", "“x” is not a number")):
        browser.run(f"document.getElementById('numbers').value = '{text}'")
        browser.run("document.getElementById('numbers').dispatchEvent(new Event('input'))")
        says(browser, said)
    found = browser.run("limbeckPredict({ inputs: [1, 2, 3, 4], shape: [4] })")["logits"]
    with torch.no_grad():
        np.testing.assert_allclose(found, model(torch.tensor([1.0, 2, 3, 4])).numpy(), atol=1e-6)


def test_a_row_of_a_table_is_filled_in(browser, tmp_path):
    pandas = pytest.importorskip("pandas")
    town = ["B", "A", None, "B", "C", "A"] * 4
    frame = pandas.DataFrame({"age": [20.5, 40, None, 31, 7, 90] * 4, "a<b": range(24), "town": town})
    source = Table.of(frame)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(source.presentation.width, 3))
    model.presentation = source.presentation
    held = Examples.of(source, [k % 3 for k in range(24)])
    limbeck.export(model, out=tmp_path / "out", formats=["browser"], data=held, classes=["x", "y", "z"])
    browser.open(tmp_path / "out" / "model.html")
    samples = browser.run("limbeck.spec.samples")
    assert [sample["row"]["town"] for sample in samples] == ["B", "A", ""] and samples[2]["row"]["age"] is None
    for sample, row in zip(samples, (0, 1, 2), strict=True):
        (seen,) = source.fetch(torch.tensor([row]), torch.tensor([row]))
        with torch.no_grad():
            expected = model(seen)[0]
        found = browser.run(f"limbeckPredict({json.dumps(sample)})")["logits"]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    browser.run("document.querySelector('#row input').value = 'old'")
    browser.run("document.querySelector('#row input').dispatchEvent(new Event('input', { bubbles: true }))")
    says(browser, "“old” is not a number: age")
    assert browser.troubles() == [] and browser.run("document.querySelectorAll('#row label').length") == 3


@pytest.mark.parametrize(("width", "touch"), [(400, True), (1400, False)])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_narrow_and_wide_windows(shipped, browser, tmp_path, width, touch, dark):
    browser.size(width, 900, dark=dark, touch=touch)
    browser.open(shipped[1])
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.getElementById('pad').clientWidth") >= 280
    browser.screenshot(tmp_path / "page.png")
    light = np.asarray(Image.open(BytesIO((tmp_path / "page.png").read_bytes())).convert("L")).mean()
    assert (light < 100) == dark
    # Every control has a name and is at least as large as a fingertip.
    odd = browser.run(
        "[...document.querySelectorAll('button, .choose')].filter((e) => e.getBoundingClientRect().height < 40 ||"
        " !(e.getAttribute('aria-label') || e.textContent).trim()).map((e) => e.outerHTML)"
    )
    assert odd == []
    browser.size(1400, 1000)
