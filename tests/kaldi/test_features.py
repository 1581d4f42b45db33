"""Filterbanks and MFCC against a slow version in float64, and the data directory against what Kaldi lays out."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import ConfigError, DataError, FormatError, MismatchError, RunError
from limbeck.formats.wav import Sound, read_wav
from limbeck.kaldi.decoding.options import FeatureOptions
from limbeck.kaldi.decoding.utterances import Utterances
from limbeck.kaldi.features import Recording, SoundOptions, compute, find_recordings, write_data_directory
from limbeck.kaldi.formats.cmvn import accumulate_cmvn
from limbeck.kaldi.formats.lines import read_map, read_table
from limbeck.kaldi.formats.scp import read_entries, read_scp

RATE = 16000


def mel(hertz):
    return 1127 * np.log(1 + np.asarray(hertz) / 700)


def slow_fbank(samples, bins, rate=RATE, low=20.0, high=None):
    """Log mel energies from the definition: 25 ms windows each 10 ms, Povey's window, pre-emphasis 0.97."""
    length, shift = rate // 40, rate // 100
    padded = 1 << (length - 1).bit_length()
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85
    edges = np.linspace(mel(low), mel(high or rate / 2), bins + 2)
    places = mel(np.arange(padded // 2) * rate / padded)
    rows = []
    for start in range(0, len(samples) - length + 1, shift):
        frame = samples[start : start + length].astype(float)
        frame -= frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, padded)[:-1]) ** 2
        row = []
        for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
            up, down = (places - left) / (centre - left), (right - places) / (right - centre)
            row.append(np.log(max((power * np.maximum(0, np.minimum(up, down))).sum(), np.finfo(np.float32).eps)))
        rows.append(row)
    return np.array(rows)


def sound(seconds=0.2, seed=0, rate=RATE):
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    wave_ = (
        3000 * np.sin(2 * np.pi * 440 * time)
        + 1000 * np.sin(2 * np.pi * 2500 * time)
        + random.normal(0, 200, time.size)
    )
    return Sound(np.round(wave_).astype(np.float32), rate)


@pytest.mark.parametrize("bins, rate", [(40, 16000), (23, 8000)])
def test_filterbanks_against_the_slow_version(bins, rate):
    given = sound(rate=rate)
    found = compute(given, SoundOptions(bins=bins))
    expected = slow_fbank(given.samples, bins, rate)
    assert found.shape == expected.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_edges_of_the_filters():
    found = compute(sound(), SoundOptions(bins=20, low_freq=100, high_freq=-1000))
    np.testing.assert_allclose(found, slow_fbank(sound().samples, 20, low=100, high=7000), atol=2e-3)


def test_mfcc_are_the_liftered_cosine_transform_of_filterbanks():
    bank = slow_fbank(sound().samples, 23)
    k, n = np.arange(13)[:, None], np.arange(23)
    basis = np.sqrt(2 / 23) * np.cos(np.pi / 23 * (n + 0.5) * k)
    basis[0] = np.sqrt(1 / 23)
    lifter = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    np.testing.assert_allclose(compute(sound(), SoundOptions(kind="mfcc")), bank @ basis.T * lifter, atol=2e-2)


@pytest.mark.parametrize("hertz", [300, 1000, 3000, 6000])
def test_a_tone_is_loudest_in_its_own_filter(hertz):
    tone = 5000 * np.sin(2 * np.pi * hertz * np.arange(RATE // 4) / RATE)
    loudest = compute(Sound(tone.astype(np.float32), RATE), SoundOptions()).mean(0).argmax()
    centres = np.linspace(mel(20), mel(8000), 42)[1:-1]
    assert loudest == np.abs(centres - mel(hertz)).argmin()


def test_frames_without_and_with_snipped_edges():
    assert len(compute(sound(1.0), SoundOptions())) == 98
    assert len(compute(sound(1.0), SoundOptions(snip_edges=False))) == 100
    assert compute(sound(0.02), SoundOptions()).shape == (0, 40)
    assert compute(sound(), SoundOptions(use_energy=True)).shape[1] == 41


def write_wav(path, given, rate=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate or given.rate, 0, "NONE", ""))
        file.writeframes(given.samples.astype("<i2").tobytes())
    return path


@pytest.fixture
def recordings(tmp_path):
    for number, name in enumerate(("0_ann_0", "0_bob_0", "1_ann_0")):
        write_wav(tmp_path / "wav" / f"{name}.wav", sound(0.1 + 0.05 * number, number))
    return tmp_path / "wav"


def test_a_data_directory(recordings, tmp_path):
    found = find_recordings(recordings, speaker="_([a-z]+)_")
    assert [one.utterance for one in found] == ["ann-0_ann_0", "ann-1_ann_0", "bob-0_bob_0"]
    out = tmp_path / "data" / "digits"
    text = {"ann-0_ann_0": ["ZERO"], "bob-0_bob_0": ["ZERO"], "other": ["X"]}
    seen = []
    counts = write_data_directory(out, found, SoundOptions(), text=text, progress=lambda *pair: seen.append(pair))
    frames = dict(Utterances(out))
    assert {key: len(value) for key, value in frames.items()} == {
        "ann-0_ann_0": 8,
        "ann-1_ann_0": 18,
        "bob-0_bob_0": 13,
    }
    for one in found:
        np.testing.assert_array_equal(frames[one.utterance], compute(read_wav(one.path), SoundOptions()))
    assert counts.items() >= {"utterances": 3, "speakers": 2, "frames": 39, "dim": 40, "sample_rate": RATE}.items()
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert read_map(out / "utt2spk") == {"ann-0_ann_0": "ann", "ann-1_ann_0": "ann", "bob-0_bob_0": "bob"}
    assert read_table(out / "spk2utt") == {"ann": ["ann-0_ann_0", "ann-1_ann_0"], "bob": ["bob-0_bob_0"]}
    assert read_map(out / "utt2num_frames") == {key: str(len(value)) for key, value in frames.items()}
    assert read_table(out / "text") == {"ann-0_ann_0": ["ZERO"], "bob-0_bob_0": ["ZERO"]}
    stats = dict(read_entries(read_scp(out / "cmvn.scp"), dtype=np.float64))
    np.testing.assert_allclose(
        stats["ann"], sum(accumulate_cmvn(frames[key]) for key in ("ann-0_ann_0", "ann-1_ann_0"))
    )
    assert json.loads((out / "features.json").read_text())["bins"] == 40
    normalised = [
        value for key, value in Utterances(out, FeatureOptions(cmvn="speaker", norm_vars=True)) if "ann" in key
    ]
    np.testing.assert_allclose(np.concatenate(normalised).std(0), 1, atol=1e-3)
    again = tmp_path / "again"
    write_data_directory(again, found, SoundOptions())
    assert (again / "feats.ark").read_bytes() == (out / "feats.ark").read_bytes()


def test_names_from_folders_and_scripts(recordings, tmp_path):
    (recordings / "sub folder").mkdir()
    (recordings / "0_ann_0.wav").rename(recordings / "sub folder" / "a.WAV")
    assert [one.utterance for one in find_recordings(recordings)] == ["0_bob_0", "1_ann_0", "sub_folder-a"]
    assert all(one.speaker == one.utterance for one in find_recordings(recordings))
    script = recordings / "wav.scp"
    script.write_text("u2 1_ann_0.wav\nu1 0_bob_0.wav\n")
    (recordings / "utt2spk").write_text("u1 bob\nu2 ann\n")
    for source in (script, recordings):
        assert [(one.utterance, one.speaker) for one in find_recordings(source)] == [("u1", "bob"), ("u2", "ann")]
    (tmp_path / "utt2spk").write_text("u1 x\n")
    with pytest.raises(FormatError, match="names no speaker of u2"):
        find_recordings(script, utt2spk=tmp_path / "utt2spk")


@pytest.mark.parametrize(
    "line, error, says",
    [("u1 sox a.wav - |", RunError, "not run"), ("u1", FormatError, "1 words"), ("u1 a b", FormatError, "3 words")],
)
def test_lines_of_a_script(tmp_path, line, error, says):
    (tmp_path / "wav.scp").write_text(line + "\n")
    with pytest.raises(error, match=says):
        find_recordings(tmp_path / "wav.scp")


@pytest.mark.parametrize(
    "expression, says", [("(", "not a regular expression"), ("x", "group"), ("_(bob)_", "'0_ann_0'")]
)
def test_speakers_that_cannot_be_found(recordings, expression, says):
    with pytest.raises(ConfigError, match=says):
        find_recordings(recordings, speaker=expression)


def test_no_sound(tmp_path):
    with pytest.raises(FormatError, match="holds no WAV file"):
        find_recordings(tmp_path)


def test_a_text_of_other_names(recordings, tmp_path):
    with pytest.raises(MismatchError, match="none of the utterances, of which 0_ann_0"):
        write_data_directory(tmp_path / "out", find_recordings(recordings), SoundOptions(), text={"x": ["ZERO"]})
    assert not (tmp_path / "out").exists()


def test_what_goes_wrong_leaves_nothing(recordings, tmp_path):
    out = tmp_path / "out"
    write_wav(recordings / "2_bob_0.wav", sound(rate=8000))
    with pytest.raises(FormatError, match="8000 samples per second, and 16000 are wanted"):
        write_data_directory(out, find_recordings(recordings), SoundOptions())
    (recordings / "2_bob_0.wav").write_bytes(b"RIFF")
    with pytest.raises(FormatError, match="2_bob_0.wav"):
        write_data_directory(out, find_recordings(recordings), SoundOptions())
    short = [Recording("u", "u", write_wav(tmp_path / "short.wav", sound(0.01)))]
    with pytest.raises(DataError, match="no recording is as long as a window"):
        write_data_directory(out, short, SoundOptions())
    with pytest.raises(FormatError, match="missing.wav"):
        write_data_directory(out, [Recording("u", "u", tmp_path / "missing.wav")], SoundOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short.wav", "wav"]
    good = Recording("v", "v", recordings / "0_ann_0.wav")
    assert write_data_directory(out, [*short, good], SoundOptions())["short"] == ["u"]
    assert read_map(out / "utt2spk") == {"v": "v"}
    with pytest.raises(RunError, match="exists already"):
        write_data_directory(out, [good], SoundOptions())


@pytest.mark.parametrize(
    "settings, says",
    [({"kind": "plp"}, "plp"), ({"bins": 2}, "bins"), ({"kind": "mfcc", "ceps": 24}, "ceps"),
     ({"frame_shift": 0}, "frame_shift"), ({"sample_rate": 5}, "sample_rate"), ({"low_freq": -1}, "low_freq")],
)  # fmt: skip
def test_settings(settings, says):
    with pytest.raises(ConfigError, match=says):
        SoundOptions(**settings)


def test_filters_above_half_the_sample_rate():
    with pytest.raises(ConfigError, match="from 20 to 9000 Hz are impossible at 16000"):
        compute(sound(), SoundOptions(high_freq=9000))


def test_paths_with_the_name_of_the_folder_in_progress(recordings, tmp_path):
    out = Path(tmp_path / "deep" / "data")
    write_data_directory(out, find_recordings(recordings), SoundOptions())
    assert ".partial" not in (out / "feats.scp").read_text() + (out / "cmvn.scp").read_text()
