"""From WAV files to a Kaldi data directory: filterbanks or MFCC, CMVN statistics, and speakers.

Axes: ``N`` frames, ``D`` features.
"""

__all__ = ["FeatureKind", "Recording", "SoundOptions", "compute", "find_recordings", "write_data_directory"]

import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError, DataError, FormatError, MismatchError, MissingExtraError, RunError
from limbeck.formats.wav import Sound, read_wav
from limbeck.kaldi.formats.cmvn import accumulate_cmvn
from limbeck.kaldi.formats.lines import read_map, read_table, write_table
from limbeck.kaldi.formats.write import ArkWriter
from limbeck.system.files import make_beside, make_folder, replace_json, replace_text, why

FeatureKind = Literal["fbank", "mfcc"]
_MOST_FILES = 10_000_000


@dataclass(frozen=True, kw_only=True)
class SoundOptions:
    """How features are computed. Dither is always 0, so that the same sound gives the same features.

    Attributes:
        kind: "fbank", log mel filterbanks, or "mfcc".
        bins: Mel filters; default 40 for fbank and 23 for mfcc.
        ceps: Coefficients of mfcc.
        sample_rate: Samples a second; left out, that of the first file. Files of another rate are refused.
        low_freq: Lower edge of the filters in Hz.
        high_freq: Upper edge in Hz; 0 or below: counted from half the sample rate.
        frame_length: Length of a window in milliseconds.
        frame_shift: From one window to the next, in milliseconds.
        snip_edges: Only windows that lie in the sound; else a frame for each shift, with the ends mirrored.
        use_energy: Energy as the first feature (fbank: one more feature; mfcc: in place of the first).
        channel: Which channel of files that have several, from 0.
    """

    kind: FeatureKind = "fbank"
    bins: int | None = None
    ceps: int = 13
    sample_rate: int | None = None
    low_freq: float = 20.0
    high_freq: float = 0.0
    frame_length: float = 25.0
    frame_shift: float = 10.0
    snip_edges: bool = True
    use_energy: bool = False
    channel: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in {"fbank", "mfcc"}:
            raise ConfigError(f"kind must be fbank or mfcc, and is {self.kind!r}")
        if not 4 <= self.mel_bins <= 1000:
            raise ConfigError(f"bins must be from 4 to 1000, and is {self.mel_bins}")
        if self.kind == "mfcc" and not 1 <= self.ceps <= self.mel_bins:
            raise ConfigError(f"ceps must be from 1 to bins, {self.mel_bins}, and is {self.ceps}")
        for name, low, high in (("frame_length", 1, 1000), ("frame_shift", 0.1, 1000)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be from {low} to {high} milliseconds, and is {getattr(self, name)}")
        if self.sample_rate is not None and not 1000 <= self.sample_rate <= 1_000_000:
            raise ConfigError(f"sample_rate must be from 1000 to 1000000, and is {self.sample_rate}")
        if not (self.low_freq >= 0 and math.isfinite(self.low_freq) and math.isfinite(self.high_freq)):
            raise ConfigError(f"low_freq must be at least 0 Hz, and is {self.low_freq}")

    @property
    def mel_bins(self) -> int:
        """The number of mel filters."""
        return self.bins if self.bins is not None else {"fbank": 40, "mfcc": 23}[self.kind]


class Recording(NamedTuple):
    """A file of sound.

    Attributes:
        utterance: Its name.
        speaker: Who speaks.
        path: The file.
    """

    utterance: str
    speaker: str
    path: Path


def find_recordings(source: Path, *, utt2spk: Path | None = None, speaker: str | None = None) -> list[Recording]:
    """Find the files of a folder or of a ``wav.scp``, with their speakers, sorted by name.

    Args:
        source: A folder with WAV files, in sub-folders or not; a script file of keys and files; or a folder that
            holds a ``wav.scp``.
        utt2spk: The speaker of each utterance; else the ``utt2spk`` beside the script file, if there is one.
        speaker: A regular expression whose first group is the speaker, searched for in the name of the utterance. The
            speaker is put before names that do not begin with it, as Kaldi's sorting wants.

    Returns:
        The recordings. Without a word on speakers each is by a speaker of its own.

    Raises:
        FormatError: If there is no sound, or a line is malformed.
        RunError: If a line is a command.
        ConfigError: If the expression has no group, or fits some names only.
    """
    if source.is_dir() and not (source / "wav.scp").exists():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() == ".wav" and path.is_file())
        named = {_name(path.relative_to(source)): path for path in files}
        if len(named) != len(files):
            raise FormatError(source, "two files give one name of an utterance: rename one, or write a wav.scp")
        beside = source
    else:
        script = source / "wav.scp" if source.is_dir() else source
        named = {key: _file(script, key, words) for key, words in read_table(script).items()}
        beside = script.parent
    if not named:
        raise FormatError(source, "holds no WAV file")
    if utt2spk is None and speaker is None and (beside / "utt2spk").exists():
        utt2spk = beside / "utt2spk"
    owners = {key: key for key in named}
    if utt2spk is not None:
        owners = read_map(utt2spk)
        if missing := [key for key in named if key not in owners]:
            raise FormatError(utt2spk, f"names no speaker of {missing[0]}")
    elif speaker is not None:
        owners = _owners(speaker, list(named))
        named = {_prefixed(key, owners[key]): path for key, path in named.items()}
        owners = {_prefixed(key, owner): owner for key, owner in owners.items()}
    return [Recording(key, owners[key], named[key]) for key in sorted(named, key=str.encode)]


def _name(path: Path) -> str:
    return re.sub(r"\s+", "_", "-".join(path.with_suffix("").parts))


def _prefixed(key: str, owner: str) -> str:
    return key if key.startswith(owner) else f"{owner}-{key}"


def _file(script: Path, key: str, words: Sequence[str]) -> Path:
    if words and words[-1].endswith("|"):
        raise RunError(
            f"{script}: {key} is read through a command, {' '.join(words)!r}, which is not run: write the sound to "
            "files first"
        )
    if len(words) != 1:
        raise FormatError(script, f"the line of {key} should be a name and a file, and has {1 + len(words)} words")
    places = [Path(words[0]), script.parent / words[0]]
    return next((place for place in places if place.exists()), places[0])


def _owners(expression: str, names: Sequence[str]) -> dict[str, str]:
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ConfigError(f"speaker {expression!r} is not a regular expression: {error}") from error
    if not pattern.groups:
        raise ConfigError(f"speaker {expression!r} needs a group in brackets, which is the speaker")
    owners = {}
    for name in names:
        match = pattern.search(name)
        if match is None or not match[1] or len(match[1].split()) != 1:
            raise ConfigError(f"speaker {expression!r} finds no speaker in the name {name!r}")
        owners[name] = match[1]
    return owners


def compute(sound: Sound, options: SoundOptions) -> NDArray[np.float32]:
    """The features of one sound.

    Args:
        sound: Samples in the 16-bit range.
        options: How.

    Returns:
        float32 ``(N, D)``; no row where the sound is shorter than a window.

    Raises:
        MissingExtraError: If kaldi-native-fbank is not installed.
        ConfigError: If the filters do not fit the sample rate.

    Example:
        >>> silence = Sound(np.zeros(16000, np.float32), 16000)
        >>> compute(silence, SoundOptions()).shape
        (98, 40)
    """
    try:
        import kaldi_native_fbank as knf
    except ImportError as error:
        raise MissingExtraError("kaldi-native-fbank", "kaldi") from error
    top = options.high_freq if options.high_freq > 0 else sound.rate / 2 + options.high_freq
    if not options.low_freq < top <= sound.rate / 2:
        raise ConfigError(
            f"filters from {options.low_freq:g} to {top:g} Hz are impossible at {sound.rate} samples per second: "
            f"change --low-freq or --high-freq"
        )
    is_fbank = options.kind == "fbank"
    settings: Any = knf.FbankOptions() if is_fbank else knf.MfccOptions()
    frame = settings.frame_opts
    frame.samp_freq, frame.dither, frame.snip_edges = float(sound.rate), 0.0, options.snip_edges
    frame.frame_length_ms, frame.frame_shift_ms = options.frame_length, options.frame_shift
    settings.mel_opts.num_bins = options.mel_bins
    settings.mel_opts.low_freq, settings.mel_opts.high_freq = options.low_freq, options.high_freq
    settings.use_energy = options.use_energy
    if not is_fbank:
        settings.num_ceps = options.ceps
    online: Any = knf.OnlineFbank(settings) if is_fbank else knf.OnlineMfcc(settings)
    online.accept_waveform(float(sound.rate), sound.samples)
    online.input_finished()
    rows = [online.get_frame(place) for place in range(online.num_frames_ready)]
    return np.array(rows, np.float32) if rows else np.empty((0, online.dim), np.float32)


def write_data_directory(
    out: Path,
    recordings: Sequence[Recording],
    options: SoundOptions,
    *,
    text: Mapping[str, Sequence[str]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write features and all that belongs to them, as Kaldi lays it out; the folder appears when all is there.

    Args:
        out: The folder, which must not exist.
        recordings: The sound.
        options: How features are computed.
        text: What is said, by utterance; those that were left out are left out of it too.
        progress: Told how many recordings are done, and of how many.

    Returns:
        Counts: ``utterances``, ``speakers``, ``frames``, ``dim``, ``sample_rate``, ``seconds``, and ``short``, the
        names of recordings that are shorter than a window and were left out.

    Raises:
        RunError: If the folder exists, or cannot be written.
        FormatError: If a file cannot be read, or has another sample rate.
        DataError: If no recording is as long as a window.
        MismatchError: If the text names none of the utterances.
    """
    if out.exists():
        raise RunError(f"{out} exists already: choose another folder")
    if len(recordings) > _MOST_FILES:
        raise DataError(f"{len(recordings)} recordings: at most {_MOST_FILES} go into one directory")
    make_folder(out.parent)
    try:
        fresh = make_beside(out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {why(error)}") from error
    try:
        found = _write(fresh, out, recordings, options, text, progress)
        os.rename(fresh, out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {why(error)}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return found


def _write(
    fresh: Path,
    out: Path,
    recordings: Sequence[Recording],
    options: SoundOptions,
    text: Mapping[str, Sequence[str]] | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    lengths: dict[str, int] = {}
    stats: dict[str, NDArray[np.float64]] = {}
    short: list[str] = []
    state = {"rate": options.sample_rate or 0, "samples": 0, "dim": 0}

    def features() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for place, recording in enumerate(recordings):
            sound = read_wav(recording.path, channel=options.channel)
            state["rate"] = state["rate"] or sound.rate
            if sound.rate != state["rate"]:
                raise FormatError(
                    recording.path,
                    f"has {sound.rate} samples per second, and {state['rate']} are wanted: resample it first",
                )
            frames = compute(sound, options)
            if progress is not None:
                progress(place + 1, len(recordings))
            if not len(frames):
                short.append(recording.utterance)
                continue
            state["samples"] += len(sound.samples)
            state["dim"] = frames.shape[1]
            lengths[recording.utterance] = len(frames)
            total = stats.setdefault(recording.speaker, np.zeros((2, frames.shape[1] + 1)))
            total += accumulate_cmvn(frames)
            yield recording.utterance, frames

    _write_table(fresh, out, "feats", features())
    if not lengths:
        raise DataError(f"no recording is as long as a window of {options.frame_length:g} ms")
    _write_table(fresh, out, "cmvn", ((name, stats[name]) for name in sorted(stats, key=str.encode)))
    kept = [recording for recording in recordings if recording.utterance in lengths]
    spoken: dict[str, list[str]] = {}
    for recording in kept:
        spoken.setdefault(recording.speaker, []).append(recording.utterance)
    write_table(fresh / "utt2spk", {recording.utterance: [recording.speaker] for recording in kept})
    write_table(fresh / "spk2utt", spoken)
    write_table(fresh / "wav.scp", {recording.utterance: [str(recording.path.absolute())] for recording in kept})
    write_table(fresh / "utt2num_frames", {name: [str(count)] for name, count in lengths.items()})
    if text is not None:
        if not any(name in text for name in lengths):
            raise MismatchError(
                f"the text names none of the utterances, of which {next(iter(lengths))} is the first: their names must "
                "be the same, with the speaker before them where --speaker put it there"
            )
        write_table(fresh / "text", {name: text[name] for name in lengths if name in text})
    replace_text(fresh / "frame_shift", f"{options.frame_shift / 1000:g}\n")
    found = {
        "utterances": len(lengths),
        "speakers": len(stats),
        "frames": sum(lengths.values()),
        "dim": state["dim"],
        "sample_rate": state["rate"],
        "seconds": state["samples"] / state["rate"],
        "short": short,
    }
    settings = {name: getattr(options, name) for name in options.__dataclass_fields__}
    replace_json(fresh / "features.json", {**settings, "bins": options.mel_bins, "sample_rate": state["rate"]})
    return found


def _write_table(fresh: Path, out: Path, name: str, entries: Iterator[tuple[str, NDArray[Any]]]) -> None:
    """Write an archive, and a script file whose paths are those of the folder's final place."""
    script = fresh / f"{name}.scp"
    with ArkWriter(fresh / f"{name}.ark", scp=script) as writer:
        for key, value in entries:
            writer.write(key, value)
    place = f"{fresh / name}.ark:"
    replace_text(script, script.read_text("utf-8").replace(place, f"{out.absolute() / name}.ark:"))
