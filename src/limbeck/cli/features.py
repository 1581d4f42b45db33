"""``limbeck features``."""

__all__ = ["features"]

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.common import Json, Quiet
from limbeck.cli.console import print_json, say
from limbeck.system.progress import counting

_WHO = Parameter(group="Speakers and words")
_SOUND = Parameter(group="Features")


def features(
    source: Annotated[Path, Parameter(help="A folder of WAV files, or a wav.scp.")],
    out: Annotated[Path, Parameter(help="The data directory to write.")],
    /,
    *,
    speaker: Annotated[str | None, _WHO] = None,
    utt2spk: Annotated[Path | None, _WHO] = None,
    text: Annotated[Path | None, _WHO] = None,
    kind: Annotated[Literal["fbank", "mfcc"], _SOUND] = "fbank",
    bins: Annotated[int | None, _SOUND] = None,
    ceps: Annotated[int, _SOUND] = 13,
    sample_rate: Annotated[int | None, _SOUND] = None,
    low_freq: Annotated[float, _SOUND] = 20.0,
    high_freq: Annotated[float, _SOUND] = 0.0,
    frame_length: Annotated[float, _SOUND] = 25.0,
    frame_shift: Annotated[float, _SOUND] = 10.0,
    snip_edges: Annotated[bool, _SOUND] = True,
    use_energy: Annotated[bool, _SOUND] = False,
    channel: Annotated[int | None, _SOUND] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    r"""Make a Kaldi data directory from WAV files: feats, cmvn, utt2spk, spk2utt and the rest.

    Needs the extra: pip install '.[kaldi]'. The output is deterministic: there is no dither.

    ```
    limbeck features recordings/ data/digits --speaker '_(\w+)_'
    limbeck features data/train/wav.scp data/train_fbank --bins 40 --text data/train/text
    limbeck features recordings/ data/digits_mfcc --kind mfcc
    ```

    Args:
        source: A folder of WAV files, or a wav.scp.
        out: The data directory to write, which must not exist.
        speaker: A regular expression whose group matches the speaker in a file's name.
        utt2spk: The speaker of each utterance; default: the utt2spk beside a wav.scp.
        text: The transcripts; default: the text beside a wav.scp.
        kind: Log-mel filterbanks (fbank) or MFCC (mfcc).
        bins: Mel filters; default 40 for fbank and 23 for mfcc.
        ceps: Cepstral coefficients of mfcc.
        sample_rate: Samples per second; default: that of the first file. Files of another rate are refused.
        low_freq: Lower edge of the filters in Hz.
        high_freq: Upper edge in Hz; 0 or below: counted from half the sample rate.
        frame_length: Length of a window in milliseconds.
        frame_shift: From one window to the next, in milliseconds.
        snip_edges: Use only windows that lie within the recording.
        use_energy: Use the energy as the first feature.
        channel: Which channel of files that have several, from 0.
        quiet: No progress bar.
        json: Print the counts as JSON.
    """
    from limbeck.kaldi.features import SoundOptions, find_recordings, write_data_directory
    from limbeck.kaldi.formats.lines import read_table

    options = SoundOptions(
        kind=kind,
        bins=bins,
        ceps=ceps,
        sample_rate=sample_rate,
        low_freq=low_freq,
        high_freq=high_freq,
        frame_length=frame_length,
        frame_shift=frame_shift,
        snip_edges=snip_edges,
        use_energy=use_energy,
        channel=channel,
    )
    recordings = find_recordings(source, utt2spk=utt2spk, speaker=speaker)
    beside = (source if source.is_dir() else source.parent) / "text"
    said = text or (beside if beside.exists() else None)
    words = None if said is None else read_table(said)
    with counting("features", not quiet) as show:
        found = write_data_directory(out, recordings, options, text=words, progress=show)
    if json:
        print_json(found)
        return
    say(
        f"{out}: {found['utterances']:,} utterances of {found['speakers']:,} speakers, {found['frames']:,} frames of "
        f"{found['dim']} features, {found['seconds']:,.0f} s at {found['sample_rate']:,} Hz"
    )
    if found["short"]:
        shown = ", ".join(found["short"][:3])
        say(f"{len(found['short'])} recordings are shorter than a window, and were left out: {shown}")
