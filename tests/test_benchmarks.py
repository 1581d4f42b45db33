"""Each benchmark runs, prints its table and gives finite figures; how large they are is not for a test to say."""

import json
import math
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"


def numbers(value: object) -> list[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def positive(value: object) -> bool:
    found = numbers(value)
    return bool(found) and all(math.isfinite(number) and number > 0 for number in found)


def ordered(ratio: dict[str, float]) -> bool:
    return ratio["min"] <= ratio["median"] <= ratio["max"]


def test_methods_are_timed_beside_kd(tmp_path, capsys, monkeypatch):
    methods = import_module("methods")
    monkeypatch.setattr(methods, "BATCH", 16)
    for name, channels in (("STUDENT", (2,)), ("TEACHER", (4,))):
        monkeypatch.setattr(methods, name, channels)
    monkeypatch.setattr(methods, "memory_of", lambda name, options: 1 + methods.epoch_of(name, 1, "cpu").grown)
    few = ("rkd", "srd", methods.HINTS)
    assert methods.main(["--quick", "--methods", *few, "--json", str(tmp_path / "methods.json")]) == 0
    rows = json.loads((tmp_path / "methods.json").read_text())["methods"]
    assert [row["method"] for row in rows] == ["kd", *few] and positive([row["times_kd"] for row in rows])
    assert all(ordered(row["times_kd"]) for row in rows) and rows[0]["times_kd"]["median"] == 1
    assert len(re.findall(r"^(kd|rkd|srd|fitnets, hints) ", capsys.readouterr().out, re.M)) == 4


@pytest.mark.slow
def test_the_memory_of_a_method_is_that_of_a_process_of_its_own(capsys):
    methods = import_module("methods")
    grown = [methods.memory_of(name, methods.argparse.Namespace(steps=2)) for name in ("kd", "rkd")]
    assert 0 < grown[0] < grown[1], "rkd keeps N N N angles"


def test_a_gpu_is_measured_in_one_table(tmp_path, capsys):
    gpu = import_module("gpu")
    assert gpu.main(["--quick", "--json", str(tmp_path / "gpu.json")]) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    (row,) = found["rows"]
    assert [job["job"] for job in found["jobs"]] == ["teacher, 1 epochs"]
    assert found["jobs"][0]["seconds"] > 0 and 1000 < found["jobs"][0]["test errors"] < 9500
    assert positive([row[name] for name in (*gpu.COLUMNS, "share of peak")])
    assert len(re.findall(r"^\| 784-32-10 \| 64 \| float32 ", capsys.readouterr().out, re.M)) == 1


@pytest.mark.slow
def test_patience_chooses_on_validation_and_goes_on_where_it_was(tmp_path, capsys):
    patience = import_module("patience")
    asked = ["mnist", "--quick", "--seeds", "2", "--arms", "labels", "everything", "masks", "--out", str(tmp_path)]
    assert patience.main(asked) == 0
    found = json.loads((tmp_path / "mnist" / "found.json").read_text())
    assert list(found["errors"]) == ["soft", "labels", "everything", "masks"]
    assert found["rates"]["everything"] == found["rates"]["soft"] in (0.001, 0.003)
    trained = sorted((tmp_path / "mnist" / "students").rglob("weights.pt"))
    assert len(trained) == 3 * 2 + 4 * 2, "two rates of three arms, and two seeds of four"
    kept = [file.stat().st_mtime_ns for file in trained]
    (tmp_path / "mnist" / "found.json").unlink()
    assert patience.main(asked) == 0
    assert [file.stat().st_mtime_ns for file in trained] == kept
    assert json.loads((tmp_path / "mnist" / "found.json").read_text())["errors"] == found["errors"]
    assert capsys.readouterr().out.count("soft targets alone |") == 2


def test_step_prints_three_tables(tmp_path, capsys, monkeypatch):
    step = import_module("step")
    monkeypatch.setattr(step, "BATCH", 16)
    assert step.main(["--quick", "--json", str(tmp_path / "step.json")]) == 0
    printed = capsys.readouterr().out
    for title in ("Engine and bare loop", "Distilling from stored answers", "Times as long as the step's arithmetic"):
        assert title in printed
    assert len(re.findall(r"^784-300-300-10 ", printed, re.M)) == 2 + 4 + 2
    assert len(re.findall(r"^784-1200-1200-10 ", printed, re.M)) == 2 + 4 + 2
    rows = json.loads((tmp_path / "step.json").read_text())["steps"]
    assert [(row["width"], row["precision"]) for row in rows] == [
        (300, "float32"),
        (300, "bf16"),
        (1200, "float32"),
        (1200, "bf16"),
    ]
    for row in rows:
        assert positive({key: value for key, value in row.items() if key != "precision"})
        assert ordered(row["engine_of_bare"])
        assert all(map(ordered, row["times_the_limit"].values()))
        # A round's time is that many times its operations at the rate of large products.
        config = step.MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(row["width"], row["width"]))
        operations = step.operations(step.MLP(config))
        for way, times in row["times_the_limit"].items():
            reached = row["images_per_second"][way] * operations
            assert times["median"] == pytest.approx(row["product_rate"] / reached)
        # Images a second and microseconds a step are two views of one time.
        for way, rate in row["images_per_second"].items():
            seconds = row["microseconds_per_step"][way] * 3 / 1e6
            assert rate * seconds == pytest.approx(2 * 16 + 10)


def test_step_from_a_store(tmp_path, capsys):
    step = import_module("step")
    assert step.main(["--quick", "--store", "--json", str(tmp_path / "step.json")]) == 0
    assert len(re.findall(r"^784-300-300-10 ", capsys.readouterr().out, re.M)) == 2
    rows = json.loads((tmp_path / "step.json").read_text())["store"]
    assert [row["precision"] for row in rows] == ["float32", "bf16"]
    assert all(positive(row["microseconds_per_step"]) for row in rows)
    assert all(ordered(row["distilling_over_labels"]["0.1"]) for row in rows)


def test_step_counts_the_operations_of_a_small_network():
    step = import_module("step")
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    # Forward 2 * (15 + 10); gradients of weights the same; gradient of the hidden layer 2 * 10.
    assert step.operations(net) == 50 + 50 + 20


def test_the_bare_loop_and_the_engine_do_the_same_arithmetic():
    step = import_module("step")
    examples = step.open_data("mnist").train.take(torch.arange(3 * step.BATCH))
    device = step.find_device("cpu", "float32")
    torch.manual_seed(0)
    model = step.MLP(step.MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(8,)))
    trained = []

    class Kept(step.Case):
        """Keeps the copies that it trains."""

    real = step.copy.deepcopy

    def keep(value):
        trained.append(real(value))
        return trained[-1]

    feed = step.Feed(examples, batch_size=step.BATCH, seed=0)
    case = Kept(model, feed, device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step.copy, "deepcopy", keep)
        patch.setattr(step, "Training", lambda **given: Training(**given, schedule="constant"))
        from limbeck.options import Training

        assert case.bare(step.float_batches(feed)) > 0
        assert case.engine(step.LabelObjective()) > 0
    bare, engine = (copied.state_dict() for copied in trained[:2])
    for name, value in model.state_dict().items():
        assert not torch.equal(value, bare[name])
        torch.testing.assert_close(bare[name], engine[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_allocator_compares_two_processes(tmp_path, capsys, monkeypatch):
    step = import_module("step")
    monkeypatch.setattr(step, "PRECISIONS", ("float32",))
    assert step.main(["--allocator", "--quick", "--json", str(tmp_path / "allocator.json")]) == 0
    assert "freed memory kept" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "allocator.json").read_text())["allocator"]
    assert positive(row["milliseconds_per_step"]) and positive(row["times_as_slow_without"])


@pytest.mark.slow
def test_ways_to_shrink_are_compared_at_equal_budgets(tmp_path, capsys):
    shrinking = import_module("shrinking")
    assert shrinking.main(["--quick", "--channels", "4", "6", "--epochs", "1", "--json", str(tmp_path / "w.json")]) == 0
    rows = json.loads((tmp_path / "w.json").read_text())["shrinking"]
    assert [row["way"] for row in rows] == 2 * ["channels", "best", "units"] and positive(
        [r["parameters"] for r in rows]
    )
    assert all(row["divergence"] > 0 and 0 < row["agreement"] <= 1 for row in rows)
    assert "multiply-adds" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("word", ["quickstart", "BERT"])
def test_exported_networks_answer_without_limbeck(tmp_path, capsys, word):
    exported = import_module("export_networks")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{exported.START}\nold\n{exported.END}\nafter\n")
    words = ["--quick", "--only", word, "--markdown", str(page), "--json", str(tmp_path / "found.json")]
    assert exported.main(words) == 0
    (row,) = json.loads((tmp_path / "found.json").read_text())
    assert row["test_examples"] > 50
    formats = {"onnx", "int8", "torch", "hub"}
    formats |= {"browser"} if word == "quickstart" and shutil.which("node") else set()
    assert {kind for kind, found in row["files"].items() if "flips" in found} == formats, row
    assert all(found["unexplained"] == 0 for kind, found in row["files"].items() if kind != "int8")
    assert row["files"]["onnx"]["largest_difference"] > 0 and row["int8_over_float32"]["latency"] > 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "ties alone" in text
    assert "| onnx |" in capsys.readouterr().out


def test_a_file_that_is_wrong_is_told_by_the_comparison_of_exported_networks():
    exported, answers = import_module("export_networks"), import_module("exported_answers")
    logits = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    labels = logits.argmax(1)
    good = answers.compared(logits, logits + 1e-7, labels, 1e-6, 0.5)
    assert good["flips"] == good["unexplained"] == 0 and good["accuracy"] == 1.0
    wrong = answers.compared(logits, logits[:, [0, 2, 1, 3]], labels, 1e-6, 0.5)
    assert wrong["flips"] == wrong["unexplained"] == int(np.isin(labels, [1, 2]).sum()) and wrong["margin"] == "worse"
    row = {"network": "n", "test_examples": 500, "accuracy": 1.0, "int8_over_float32": None}
    assert "**wrong**" in exported.page([{**row, "files": {"onnx": {**wrong, "bytes": 1, "peak_memory": None}}}])


def test_verdict_coverage_prints_its_tables(tmp_path, capsys):
    coverage = import_module("verdict_coverage")
    assert coverage.main(["--quick", "--json", str(tmp_path / "coverage.json")]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^(?:examples|interaction|seeds|mixed|hard|few)", printed, re.M)) == 3 * 12 + 3
    found = json.loads((tmp_path / "coverage.json").read_text())
    shares = [share for cell in found["models"] for share in cell["covered"].values()]
    assert len(shares) == 12 * 5 and all(0 <= share <= 1 for share in shares) and sum(shares) / 60 > 0.9
    assert {cell["groups"] for cell in found["groups"]} == {20} and len(found["classes"]) == 3


@pytest.mark.parametrize("number", [0, 2, 4, 7])
def test_models_of_errors_have_the_variances_that_they_name(number):
    coverage = import_module("verdict_coverage")
    model, random = coverage.MODELS[number], np.random.default_rng(0)
    means = []
    for _ in range(600):
        a, b, _ = model.draw(random, 200, 2)
        means.append((a.astype(float) - b).mean())
    of_seeds = model.spread(200) ** 2 * sum(mean**2 for mean in model.means)
    expected = of_seeds / 2 + model.shared / 200 + model.interaction / 400
    assert np.var(means) == pytest.approx(expected, rel=0.2)
    assert np.mean(means) == pytest.approx(model.means[0] - model.means[1], abs=4 * math.sqrt(expected / 600))


def test_dropout_prints_its_table(tmp_path, capsys):
    dropout = import_module("dropout")
    assert dropout.main(["--quick", "--json", str(tmp_path / "dropout.json")]) == 0
    assert len(re.findall(r"^(float32|bfloat16) +forward", capsys.readouterr().out, re.M)) == 4
    rows = json.loads((tmp_path / "dropout.json").read_text())["rows"]
    for row in rows:
        assert positive(row["forward"]) and positive(row["both"])
        assert row["forward"]["limbeck"] < row["both"]["limbeck"]
        assert row["share_kept"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of the compiler, on its own tensors
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compiling_prints_its_table(tmp_path, capsys):
    assert import_module("compiling").main(["--quick", "--device", "cpu", "--json", str(tmp_path / "rows.json")]) == 0
    assert re.search(r"^mlp +[\d.]+ +[\d.]+ +[\d.]+ \([\d.]+, [\d.]+\)", capsys.readouterr().out, re.M)
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert positive(row["milliseconds"]) and positive(row["seconds_to_compile"]) and ordered(row["times_as_fast"])
    assert row["largest_difference"] < 1e-4


@pytest.mark.slow
def test_judging_prints_its_table(capsys):
    assert import_module("judging").main(["--quick"]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^(blocks of 1000|as fits) +[\d,]+ +[\d,]+ +[\d.]+$", printed, re.M)) == 2


def test_int8_prints_its_table(tmp_path, capsys):
    int8 = import_module("int8")
    assert int8.main(["--quick", "--json", str(tmp_path / "int8.json")]) == 0
    assert len(re.findall(r"^(1|256) +(float32|int8) ", capsys.readouterr().out, re.M)) == 4
    for row in json.loads((tmp_path / "int8.json").read_text())["rows"]:
        assert positive([row["ms"], row["times_as_fast"]]) and ordered(row["times_as_fast"])


def test_letters_of_low_rank_are_measured_once_and_chosen_on_validation(tmp_path, monkeypatch):
    letters = import_module("compress_letters")
    from tiny_runs import tiny_arrays

    import limbeck
    from limbeck.models import MLP, MLPConfig

    x, y = tiny_arrays()
    np.savez(tmp_path / "tiny.npz", x=x, y=y)
    data = limbeck.open_data(str(tmp_path / "tiny.npz"))
    sizes = MLPConfig(input_shape=(1, 8, 8), classes=3, hidden=(40, 30), dropout=0.1)
    data = limbeck.data.cut_validation(data, 0.1)
    limbeck.train(MLP(sizes), data, epochs=2, precision="float32", device="cpu", out=tmp_path / "run")
    monkeypatch.setattr(letters, "PROBE", 0.5)
    page = tmp_path / "page.md"
    words = ["--data", str(tmp_path / "tiny.npz"), "--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    words += ["--shares", "0.3", "0.6", "--epochs", "1", "--page", str(page)]
    assert letters.main(words) == 0
    lines = (tmp_path / "out" / "trials.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["rule"] for row in rows} == {"original", "settings", *letters.RULES}
    assert all(row["parameters"] <= 0.6 * rows[0]["parameters"] for row in rows[1:] if row.get("parameters"))
    page.write_text(page.read_text().replace("# Letters: low rank", "# By hand"))
    assert letters.main(words) == 0  # measures nothing anew, and leaves the rest of the page
    assert (tmp_path / "out" / "trials.jsonl").read_text().splitlines() == lines
    assert page.read_text().startswith("# By hand") and page.with_suffix(".svg").exists()
    made = [{"share": s, "parameters": 1, "validation": v} for s, v in ((0.1, 0.9), (0.2, 0.5), (0.3, 0.9), (0.4, 0.8))]
    assert letters.smallest(made, 0.85) is None and letters.smallest(made, 0.8)["share"] == 0.3


@pytest.mark.slow
def test_against_others_runs_each_way_in_its_process(tmp_path, capsys):
    others = import_module("against_others")
    arguments = ["--quick", "--ways", "limbeck", "pytorch-0", "--json", str(tmp_path / "others.json")]
    assert others.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "against pytorch-0: 5 times as fast" in printed
    found = json.loads((tmp_path / "others.json").read_text())
    limbeck, pytorch = found["rows"]
    assert (limbeck["way"], pytorch["way"]) == ("limbeck", "pytorch-0")
    for row in (limbeck, pytorch):
        assert positive([row["training"], row["all"]]) and row["training"] < row["all"]
        assert 0 < row["mean_errors"] < 9000  # a student that learnt nothing makes about 9,000
    expected = pytorch["training"] / limbeck["training"]
    assert pytorch["limbeck_times_as_fast_training"] == pytest.approx(expected)


def test_against_others_leaves_out_what_is_not_installed(capsys, monkeypatch, tmp_path):
    others = import_module("against_others")
    monkeypatch.setattr(others.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(others, "make_teacher", lambda folder, *, quick: (tmp_path, 1))
    assert others.main(["--quick", "--ways", "keras-torch"]) == 0
    assert "keras-torch is left out: keras is not installed: pip install 'keras>=3.12'" in capsys.readouterr().out


def test_committees_of_each_size_are_timed(tmp_path, capsys):
    assert import_module("committee").main(["--quick", "--json", str(tmp_path / "committee.json")]) == 0
    rows = json.loads((tmp_path / "committee.json").read_text())
    assert [row["classes"] for row in rows] == [26, 53, 53, 1000, 1000]
    assert all(row["microseconds"] > 0 and row["error"] < 1e-5 for row in rows)
    assert capsys.readouterr().out.count("\n") == 2 + len(rows)


def test_nnet3_files_are_timed_beside_a_copy(tmp_path, capsys):
    assert import_module("nnet3").main(["--quick", "--no-flush", "--json", str(tmp_path / "nnet3.json")]) == 0
    found = json.loads((tmp_path / "nnet3.json").read_text())
    assert found["parameters"] == (3 * 40 + 1) * 32 + (3 * 32 + 1) * 32 + 33 * 50
    assert len(found["rows"]) == 10 and positive(found) and found["rows"][0]["times_the_copy"] == 1
    assert len(re.findall(r"x the copy$", capsys.readouterr().out, re.M)) == 10


@pytest.mark.slow
def test_speech_feed_compares_disk_and_memory(tmp_path, capsys):
    speech_feed = import_module("speech_feed")
    assert speech_feed.main(["--quick", "--json", str(tmp_path / "feed.json")]) == 0
    printed = capsys.readouterr().out
    assert "the disk takes" in printed and "bytes for each further frame" in printed
    found = json.loads((tmp_path / "feed.json").read_text())
    assert [row["frames"] for row in found["memory"]] == [2000, 20000]
    assert positive(found["memory"]) and positive(found["frames_per_second"]) and ordered(found["disk_of_memory"])


def test_the_quickstarts_settings_are_compared_on_digits_set_aside(tmp_path, capsys):
    module, file = import_module("quickstart_settings"), tmp_path / "rows.json"
    assert module.main(["--quick", "--seeds", "2", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    (row,) = found["rows"]
    assert len(row["student"]) == len(row["baseline"]) == 2 and positive(row["seconds"])
    assert all(0 < errors <= 256 for errors in row["student"] + row["baseline"])  # of the 256 digits set aside
    assert "64x12@0.002" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.slow
def test_images_are_compared_with_a_plain_loop(tmp_path, capsys):
    images = import_module("images")
    assert images.main(["--quick", "--json", str(tmp_path / "images.json")]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^(?:inputs|resnet18) +(?:64|224) ", printed, re.M)) == 4
    found = json.loads((tmp_path / "images.json").read_text())
    assert [row["files"] for row in found["memory"]] == [20, 200] and positive(found["memory"])
    assert found["growth_bytes"] < 100e6
    assert all(positive(row["images_per_second"]) and ordered(row["limbeck_of_plain"]) for row in found["throughput"])


@pytest.mark.slow
def test_scale_compares_a_formula_with_measurements():
    """In a process of its own: it starts others from its own file."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / "scale.py"), "--quick"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    (checkpoint,) = re.findall(r"checkpoint +[\d.]+ +[\d.]+ +([\d.]+)$", done.stdout, re.M)
    assert 1.0 <= float(checkpoint) < 1.2  # the formula leaves the header out
    assert len(re.findall(r"^ +[\d,]+ +[\d.]+ +[\d.]+$", done.stdout, re.M)) == 2


@pytest.mark.slow
def test_step_against_another_checkout_times_both(tmp_path, capsys):
    against = import_module("step_against")
    root = Path(against.__file__).parents[1]
    assert against.main([str(root), "--quick", "--json", str(tmp_path / "against.json")]) == 0
    assert "labels" in capsys.readouterr().out
    for row in json.loads((tmp_path / "against.json").read_text())["rows"]:
        for kind in ("clock", "processor"):
            took, ratio = row[kind]["milliseconds_per_step"], row[kind]["ratio"]
            assert ratio["min"] == ratio["median"] == pytest.approx(took["other"] / took["this"])


def test_the_start_of_commands_is_timed_in_turns(tmp_path, capsys):
    startup = import_module("startup")
    assert startup.main(["--quick", "--against", str(FOLDER.parent), "--json", str(tmp_path / "start.json")]) == 0
    rows = json.loads((tmp_path / "start.json").read_text())["rows"]
    assert [row["what"] for row in rows] == ["python", "limbeck --help", "limbeck distill --help"]
    assert positive(rows) and all(ordered(row["ratio"]) and ordered(row["share"]) for row in rows)
    assert rows[0]["ratio"]["median"] == 1
    assert len(re.findall(r"^(python|limbeck .*?) +\d", capsys.readouterr().out, re.M)) == 3


def test_searches_and_seeds_are_timed_side_by_side(tmp_path, capsys, monkeypatch):
    beside = import_module("side_by_side")
    for name, value in (("EPOCHS", 2), ("SEARCHES", 1), ("SEEDS", 4)):
        monkeypatch.setattr(beside, name, value)
    assert beside.main(["--quick", "--json", str(tmp_path / "beside.json")]) == 0
    rows = json.loads((tmp_path / "beside.json").read_text())["rows"]
    assert [row["job"] for row in rows] == ["search", "verdict"]
    for row in rows:
        assert row["ratios"] == [pytest.approx(row["apart"] / row["together"])] and row["together"] > 0
    assert len(re.findall(r"^6-8-3, batches of 50 +(search|verdict) ", capsys.readouterr().out, re.M)) == 2


def test_layouts_are_timed_side_by_side(tmp_path, capsys):
    threads = torch.get_num_threads()
    try:
        asked = ["--quick", "--networks", "mobilenetv3_small_100", "resnet18", "--json", str(tmp_path / "layout.json")]
        assert import_module("layout").main(asked) == 0
    finally:
        torch.set_num_threads(threads)
    deep, plain = json.loads((tmp_path / "layout.json").read_text())
    assert deep["changed"] > 0 and plain["changed"] == 0
    assert all(ordered(row["ratio"]) and positive(row["ratio"]) for row in (deep, plain))
    assert capsys.readouterr().out.count("\n| ") == 2


@pytest.mark.slow
@pytest.mark.parametrize("job", ["search", "images", "text"])
def test_whole_jobs_stand_beside_a_loop_and_the_limit(tmp_path, capsys, monkeypatch, job):
    if find_spec({"search": "optuna", "images": "timm", "text": "transformers"}[job]) is None:
        pytest.skip("an optional package is not installed")
    whole = import_module("whole_job")
    words = ["--quick", "--jobs", job, "--ways", "limbeck", "limbeck-stored", "loop"]
    words += ["--json", str(tmp_path / "whole.json"), "--markdown", str(tmp_path / "whole.md")]
    assert whole.main(words) == 0
    rows = json.loads((tmp_path / "whole.json").read_text())["rows"]
    assert [row["way"] for row in rows] == ["limbeck", *(["limbeck-stored"] if job != "search" else []), "loop"]
    for row in rows:
        assert positive(row["seconds"]) and positive([row["limit"], row["of_limit"]]) and ordered(row["ratio_clock"])
        assert row["mean_errors"] > 0
    assert rows[0]["ratio_clock"]["median"] == 1
    if job == "search":  # the second of two trainings stands for all but the first
        peer, ours = rows[1]["seconds"][0]["clock"], rows[0]["seconds"][0]["clock"]
        run = rows[1]["runs"][0]
        assert peer == pytest.approx(run["training 0"]["clock"] + 23 * run["training 1"]["clock"])
        assert rows[1]["ratio_clock"]["median"] == pytest.approx(peer / ours)
    printed = capsys.readouterr().out
    assert (tmp_path / "whole.md").read_text() in printed and "times its arithmetic" in printed or job == "search"


def test_a_peer_that_is_not_installed_is_left_out_of_whole_jobs(monkeypatch):
    whole = import_module("whole_job")
    reason = whole.Processes({}).missing("keras-nowhere")
    assert "is not installed: pip install" in reason and whole.Processes({}).missing("loop") is None


@pytest.mark.slow
@pytest.mark.parametrize("names", [["examples", "classes"], ["members", "seeds"], ["shards", "words"], ["files"]])
def test_growth_is_measured_and_drawn(tmp_path, capsys, monkeypatch, names):
    if names[-1] == "words" and find_spec("transformers") is None:
        pytest.skip("an optional package is not installed")
    growth, page = import_module("growth"), tmp_path / "growth.md"
    page.write_text(f"before\n{growth.START}\nearlier table\n{growth.END}\nafter\n")
    axes = ["npz bytes", "IDX bytes", "image files"] if names == ["files"] else names
    words = ["--quick", "--axes", *axes, "--markdown", str(page), "--json", str(tmp_path / "growth.json")]
    assert growth.main(words) == 0
    rows = json.loads((tmp_path / "growth.json").read_text())["rows"]
    known = {axis.name: axis for axis in growth.AXES}
    assert [(row["axis"], row["part"]) for row in rows] == [(name, part) for name in axes for part in known[name].work]
    assert all(positive([row["clock"], row["processor"], row["memory"]]) for row in rows)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "earlier table" not in text
    assert "| what grows |" in capsys.readouterr().out and (tmp_path / "growth.svg").read_text().startswith("<svg")


def test_an_exponent_is_that_of_the_upper_half(monkeypatch):
    exponent = import_module("growth").exponent
    sizes = [10, 100, 1000, 10_000]
    assert exponent(sizes, [5, 5, 1e6, 1e8]) == pytest.approx(2)
    assert exponent(sizes, [3, 1, 7, 7]) == pytest.approx(0) and exponent([1, 2], [3, 6]) == pytest.approx(1)
