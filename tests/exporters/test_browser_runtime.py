"""Pages that hold ONNX Runtime Web: where it comes from, and what they compute (where LIMBECK_ORT_WEB names it)."""

import base64
import gzip
import hashlib
import os
import re
import tarfile

import numpy as np
import pytest
import torch
from chromium import Browser, chromium
from exporter_makers import images, net
from torch import nn

import limbeck
from limbeck.errors import ConfigError, FormatError
from limbeck.exporters.browser import runtime
from limbeck.exporters.browser.runtime import onnxruntime_web
from limbeck.models.timm_models import make_timm

pytestmark = pytest.mark.usefixtures("no_drawing")
REAL = os.environ.get("LIMBECK_ORT_WEB")
SCRIPT = "/* ONNX Runtime Web v9.8.7 */ const a = 1, b = 2;export{a as env,b};\n//# sourceMappingURL=x.map\n"


@pytest.fixture
def package(tmp_path):
    """A folder of the form of the npm package."""
    (tmp_path / "package" / "dist").mkdir(parents=True)
    (tmp_path / "package" / "dist" / "ort.wasm.bundle.min.mjs").write_text(SCRIPT)
    (tmp_path / "package" / "dist" / "ort-wasm-simd-threaded.wasm").write_bytes(b"\0asm")
    return tmp_path / "package"


def test_the_runtime_is_read_out_of_a_folder_and_an_archive(package, tmp_path):
    with tarfile.open(tmp_path / "ort.tgz", "w:gz") as archive:
        archive.add(package, "package")
    for place in (package, tmp_path / "ort.tgz"):
        found = onnxruntime_web(place)
        assert found.version == "9.8.7" and gzip.decompress(found.wasm) == b"\0asm"
        assert found.script.strip().endswith("globalThis.ort = { env: a, b: b };") and "export" not in found.script


def test_where_it_is_not_the_command_is_told(package, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"no npm here .* npm pack onnxruntime-web@1.30.0 .* ort_web \(--ort-web"):
        onnxruntime_web(None)
    with pytest.raises(ConfigError, match="does not hold the npm package onnxruntime-web"):
        onnxruntime_web(tmp_path)
    (tmp_path / "no.tgz").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"no.tgz does not hold the npm package"):
        onnxruntime_web(tmp_path / "no.tgz")
    (package / "dist" / "ort.wasm.bundle.min.mjs").write_text(SCRIPT.replace("export", "exports"))
    with pytest.raises(FormatError, match="is of another form than that of version 1.30.0"):
        onnxruntime_web(package)


def test_an_archive_that_npm_fetched_must_be_the_known_one(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho other > onnxruntime-web-1.30.0.tgz\n")
    npm.chmod(0o755)
    monkeypatch.setattr(runtime.shutil, "which", lambda name: str(npm))
    with pytest.raises(ConfigError, match="fetched a file of digest sha512-.* it is not used"):
        onnxruntime_web(None)
    npm.write_text("#!/bin/sh\necho the registry is away >&2\nexit 1\n")
    with pytest.raises(ConfigError, match="cannot be fetched: .* the registry is away: fetch it elsewhere"):
        onnxruntime_web(None)


@pytest.mark.slow
def test_a_page_of_another_network_holds_the_runtime_and_lets_it_compile(package, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("limbeck.exporters.browser.node.shutil.which", lambda name: None)
    model = nn.Sequential(net(), nn.Softplus()).eval()
    done = limbeck.export(model, out=tmp_path / "out", formats=["browser"], data=images(60, seed=1), ort_web=package)
    text = done.files["browser"].read_text()
    assert done.parity["formats"]["browser"]["runtime"] == "onnxruntime-web 9.8.7"
    script = re.search(r'<script type="module" id="ort">(.*?)</script>', text, re.DOTALL)[1]
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy and "'wasm-unsafe-eval'" in policy and "blob: 's" not in policy
    wasm = re.search(r'id="wasm">(.*?)</script>', text, re.DOTALL)[1]
    assert gzip.decompress(base64.b64decode(wasm)) == b"\0asm"
    assert "ONNX Runtime Web 9.8.7" in text


def test_without_the_runtime_nothing_is_left_behind(tmp_path):
    model = nn.Sequential(net(), nn.Softplus()).eval()
    with pytest.raises(ConfigError, match="does not hold the npm package"):
        limbeck.export(
            model, out=tmp_path / "out", formats=["browser"], data=images(60, seed=1), ort_web=tmp_path / "none"
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.skipif(REAL is None, reason="LIMBECK_ORT_WEB does not name the npm package onnxruntime-web")
def test_a_mobilenet_answers_in_the_browser_as_in_python(tmp_path):
    torch.manual_seed(0)
    model = make_timm("timm:mobilenetv3_small_050", classes=3, input_shape=(3, 32, 32)).eval()
    x, y = images(60, seed=5, channels=3)
    out = tmp_path / "out"
    found = limbeck.export(model, out=out, formats=["browser"], data=(x, y), ort_web=REAL).parity
    assert found["formats"]["browser"].get("flips", {"count": 0})["count"] == 0
    browser = Browser()
    try:
        browser.open(out / "model.html")
        given = torch.rand(3, *model.presentation.size)
        inputs = {"inputs": given.flatten().tolist(), "shape": list(given.shape)}
        answered = browser.run(f"limbeckPredict({inputs})")["probabilities"]
        with torch.no_grad():
            expected = model(given[None]).softmax(-1)[0]
        np.testing.assert_allclose(answered, expected.numpy(), atol=1e-4)
        assert browser.requests() == [(out / "model.html").as_uri()] and browser.troubles() == []
    finally:
        browser.close()
