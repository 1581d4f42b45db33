"""``limbeck soften`` and distilling from its store, with the teacher nowhere near."""

import json
import shutil

import numpy as np
import pytest

import limbeck as package
from limbeck.cli import main

SETTINGS = ["--epochs", "6", "--batch-size", "16", "--learning-rate", "0.01", "--precision", "float32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("soften")
    generator = np.random.default_rng(0)
    labels = np.arange(240) % 3
    pictures = generator.integers(0, 120, (240, 8, 8)) + 60 * (
        labels[:, None, None] == np.arange(8)[None, :, None] // 3
    )
    np.savez(folder / "data.npz", x=pictures.astype(np.uint8), y=labels)
    data = ["--data", str(folder / "data.npz")]
    main(["train", *data, "--hidden", "12", *SETTINGS, "--out", str(folder / "teacher")])
    return folder, data


def distil(place, out, *flags):
    main(["distill", *place[1], "--hidden", "8", *SETTINGS, "--out", str(out), *flags])
    return (out / "model" / "model.safetensors").read_bytes()


def test_a_student_of_the_store_is_the_student_of_the_live_teacher(place, tmp_path, capsys):
    folder, data = place
    views = ["--shift", "1", "--views", "2"]
    teacher = ["--teacher", str(folder / "teacher")]
    store = tmp_path / "targets"
    main(
        [
            "soften",
            *data,
            *teacher,
            *views,
            "--dtype",
            "float32",
            "--precision",
            "float32",
            "--verify",
            "--out",
            str(store),
            "--json",
        ]
    )
    card = json.loads(capsys.readouterr().out)
    assert card["views"] == 2
    assert card["mass_kept"] == pytest.approx(1)
    live = distil(place, tmp_path / "live", *teacher, *views)
    hidden = tmp_path / "away"
    shutil.move(folder / "teacher", hidden)
    try:
        # The store knows its views; they need not be named again.
        stored = distil(place, tmp_path / "stored", "--teacher-targets", str(store))
    finally:
        shutil.move(hidden, folder / "teacher")
    one = np.frombuffer(live[-300:], np.float32)
    two = np.frombuffer(stored[-300:], np.float32)
    assert np.allclose(one, two, atol=1e-4)
    metrics = json.loads((tmp_path / "stored" / "metrics.json").read_text())
    assert {"baseline", "student", "verdict"} <= set(metrics)
    assert "teacher" not in metrics
    assert (tmp_path / "stored" / "report.html").exists()


def test_top_k_targets_pass_the_objectives_own_check_and_teach(place, tmp_path):
    folder, data = place
    store = tmp_path / "targets"
    main(["soften", *data, "--teacher", str(folder / "teacher"), "--encoding", "topk", "--k", "1", "--out", str(store)])
    distil(place, tmp_path / "student", "--teacher-targets", str(store), "--temperature", "2", "--hard-weight", "0")
    metrics = json.loads((tmp_path / "student" / "metrics.json").read_text())
    assert metrics["student"]["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give either --teacher or --teacher-targets"),
        (["--teacher-targets", "STORE", "--teacher", "TEACHER"], "give either"),
        (["--teacher-targets", "STORE", "--validation", "0.05"], "no soft targets are stored for example"),
        (["--teacher-targets", "STORE", "--shift", "2"], "other images"),
        (["--teacher-targets", "nowhere"], "nowhere"),
    ],
)
def test_stores_that_do_not_fit_are_refused_in_a_line(place, tmp_path, capsys, flags, message):
    folder, data = place
    store = tmp_path / "targets"
    main(["soften", *data, "--teacher", str(folder / "teacher"), "--out", str(store)])
    capsys.readouterr()
    named = [{"STORE": str(store), "TEACHER": str(folder / "teacher")}.get(flag, flag) for flag in flags]
    with pytest.raises(SystemExit) as stopped:
        distil(place, tmp_path / "student", *named)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "student").exists()


def test_settings_of_teachers_without_effect_are_told(place, tmp_path, capsys):
    folder, data = place
    main(["soften", *data, "--teacher", str(folder / "teacher"), "--mean", "geometric", "--out", str(tmp_path / "one")])
    assert "--mean is 'geometric', and has no effect: there is one teacher" in capsys.readouterr().err
    rows = len(package.open_data(folder / "data.npz", validation=0.1).train)
    np.save(tmp_path / "some.npy", np.full((rows, 3), 1 / 3))
    saved = ["--from-file", str(tmp_path / "some.npy"), "--weights", "1", "2", "--out", str(tmp_path / "two")]
    main(["soften", *data, *saved])
    assert "--weights is [1.0, 2.0], and has no effect: the outputs are in a file" in capsys.readouterr().err


def test_names_on_the_card_stand_apart_from_their_values(place, tmp_path, capsys):
    folder, data = place
    words = ["--teacher", str(folder / "teacher"), "--temperature", "1234567.5", "--out", str(tmp_path / "hot")]
    main(["soften", *data, *words])
    assert "mean KL at T = 1.23457e+06  " in capsys.readouterr().out


def test_views_that_are_kept_have_to_be_counted(place, tmp_path, capsys):
    folder, data = place
    with pytest.raises(SystemExit) as stopped:
        main(["soften", *data, "--teacher", str(folder / "teacher"), "--shift", "1", "--out", str(tmp_path / "t")])
    assert stopped.value.code == 2
    assert "--views" in capsys.readouterr().err


def test_the_precision_that_was_measured_when_a_store_was_begun_stays(place, tmp_path, monkeypatch, capsys):
    """Found by killing writes on a busy machine: some shards were computed in float32, and others in bf16."""
    words = ["soften", *place[1], "--teacher", str(place[0] / "teacher"), "--quiet", "--out", str(tmp_path / "store")]

    def measured(fast):
        monkeypatch.setattr("limbeck.system.devices.measure_precisions", lambda _: {"float32": 1.0, "bf16": fast})

    measured(2.0)
    main(words)
    shard = tmp_path / "store" / "shard-00000.safetensors"
    before = shard.read_bytes()
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["plan"]["precision"] == "bf16"
    shard.unlink()
    measured(1.0)
    main(words)
    assert shard.read_bytes() == before
    with pytest.raises(SystemExit):
        main([*words, "--precision", "float32"])
    assert 'its precision is "bf16", not "float32"' in capsys.readouterr().err


@pytest.mark.parametrize("named", [["teacher", "teacher"], ["ensemble"]])
def test_an_arithmetic_mean_without_a_temperature_is_refused_before_anything_is_read(place, tmp_path, capsys, named):
    folder, _ = place
    (folder / "ensemble").mkdir(exist_ok=True)
    (folder / "ensemble" / "ensemble.json").write_text('{"members": 2, "mean": "arithmetic"}')
    teachers = [str(folder / name) for name in named]
    with pytest.raises(SystemExit) as stopped:
        main(["soften", "--data", "nowhere.npz", "--teacher", *teachers, "--out", str(tmp_path / "t")])
    assert stopped.value.code == 2
    assert "--temperature" in capsys.readouterr().err


def test_posteriors_replace_no_files_that_are_there(place, tmp_path, capsys):
    folder, data = place
    call = ["soften", *data, "--teacher", str(folder / "teacher"), "--out", str(tmp_path / "new"), "--write-posteriors"]
    (tmp_path / "feats.scp").write_text("mine")
    for name in ("feats.scp", "feats.ark", "ark:feats.scp", "ark,scp:other.ark,feats.scp"):
        parts = name.split(":")
        files = ",".join(str(tmp_path / file) for file in parts[-1].split(","))
        with pytest.raises(SystemExit) as left:
            main([*call, ":".join([*parts[:-1], files])])
        assert left.value.code == 2 and "feats.scp exists already: give" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "feats.scp").read_text() == "mine" and not (tmp_path / "new").exists()
