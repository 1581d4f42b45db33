"""Posteriors in Kaldi archives: a teacher's are written, and existing ones are read as a teacher.

An archive holds one matrix per utterance, with one row per frame and one column per pdf, as ``nnet-forward`` writes it;
or Kaldi's ``Posterior``, the likeliest pdfs of each frame alone.

Axes: ``N`` frames, ``K`` pdfs.
"""

__all__ = ["Posteriors", "write_posteriors"]

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.data_set import DataSet
from limbeck.data.examples import Examples
from limbeck.errors import ConfigError, DataError, FormatError, MismatchError
from limbeck.kaldi.formats.opened import Table
from limbeck.kaldi.formats.post import dense_posteriors, sparse_posteriors
from limbeck.kaldi.formats.scp import ScpEntry, read_entry
from limbeck.kaldi.formats.table import Kind, index_ark
from limbeck.kaldi.formats.write import ArkWriter
from limbeck.kaldi.source import Spliced
from limbeck.losses import softened
from limbeck.protocols import Batch, Teacher
from limbeck.system.devices import Device
from limbeck.system.files import digest_bytes

_FLOOR = 1e-10
"""Least probability that is taken: a network's posterior is never nought, but a few digits of text may make it so."""
_SUM_TOLERANCE = 1e-2
_HELD = 64
"""Utterances kept in memory, since a batch goes over several and the next begins in the last."""


def write_posteriors(
    writer: ArkWriter,
    teacher: Teacher,
    data: DataSet,
    *,
    temperature: float,
    device: Device,
    least: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a teacher's posteriors of the training utterances as a Kaldi archive.

    Args:
        writer: The archive, begun and not yet entered.
        teacher: Who is asked, on the device.
        data: The utterances.
        temperature: T of the posteriors.
        device: Where and how precisely to compute.
        least: Write Kaldi's sparse ``Posterior``, with pdfs of this probability; None for matrices.
        progress: Called with utterances written and all.

    Returns:
        How many utterances were written.

    Raises:
        ConfigError: If the data are no speech, or ``least`` is out of range.
        RunError: If the archive cannot be written.
    """
    if least is not None and not 0 < least < 1:
        raise ConfigError(f"the least probability that is written must be between 0 and 1, and is {least}")
    inputs = _speech(data.train)
    examples = data.train.to(device.device)
    with writer:
        for number, key in enumerate(inputs.keys):
            rows = inputs.rows_of(torch.tensor([number])).to(device.device)
            with torch.no_grad(), device.autocast():
                answers = teacher.log_probs(examples.batch(rows), temperature)
            posteriors = answers.float().exp().cpu().numpy()
            writer.write(key, posteriors if least is None else sparse_posteriors(posteriors, least=least))
            if progress is not None:
                progress(number + 1, len(inputs.keys))
    return len(inputs.keys)


class Posteriors:
    """An archive of posteriors as a teacher; best asked in the order of the utterances.

    Args:
        path: A script file, or an archive that is not gzipped; of matrices, or of sparse posteriors. Or a specifier;
            what can be read once only, such as ``ark:-``, is held in memory.
        data: The data set whose training frames they are for.
        temperature: The only temperature that they hold for, such as 1 for an arithmetic mean of several networks; None
            for those of one network at T = 1, which serve every temperature.
        allow_pipes: Accept script lines that are commands.

    Attributes:
        classes: Names of the pdfs.
        temperature: As given.
        teacher_digest: SHA-256 over where the posteriors are; it tells one archive from another.

    Raises:
        ConfigError: If the data are no speech.
        MismatchError: If an utterance is not in the archive.
        FormatError: If an utterance holds no posteriors, or is of another shape than its features.
    """

    def __init__(
        self, path: str | Path, data: DataSet, *, temperature: float | None = None, allow_pipes: bool = False
    ) -> None:
        self.inputs = _speech(data.train)
        self.index = data.train.index.long()
        self.classes: tuple[str, ...] | None = data.classes
        self.temperature = temperature
        self.allow_pipes = allow_pipes
        table = Table(path, allow_pipes=allow_pipes)
        self._here: dict[str, NDArray[Any]] | None = None
        if table.entries is not None:
            self.entries = {entry.key: entry for entry in table.entries}
            self.kind = _kind(list(self.entries.values()), allow_pipes)
        elif table.path is not None:
            self.kind = "posterior" if table.kind == "posteriors" else "matrix"
            places = index_ark(table.path, self.kind)
            self.entries = {key: ScpEntry(key, str(table.path), offset) for key, offset in places.items()}
        else:
            self.kind = "posterior" if table.kind == "posteriors" else "matrix"
            self._here = dict(table.read(self.kind))
            self.entries = {key: ScpEntry(key, table.name, None) for key in self._here}
        missing = [key for key in self.inputs.keys if key not in self.entries]
        if missing:
            raise MismatchError(
                f"{path} has no posteriors of {len(missing)} of {len(self.inputs.keys)} utterances, the first is "
                f"{missing[0]}: write them for all training utterances"
            )
        named = [f"{entry.key} {entry.source}:{entry.offset}".encode() for entry in self.entries.values()]
        content = [] if self._here is None else [value.tobytes() for value in self._here.values()]
        self.teacher_digest = digest_bytes([*named, *content])
        self._held: dict[int, NDArray[np.float32]] = {}
        for number in range(len(self.inputs.keys)):  # all of it is checked before anything is written
            self._read(number)

    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """The archive's answers, softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: Training frames; only their numbers are used.
            temperature: T.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            MismatchError: If the temperature is not the archive's.
        """
        if self.temperature is not None and temperature != self.temperature:
            raise MismatchError(
                f"these posteriors hold for temperature {self.temperature} alone, and {temperature} is asked for"
            )
        rows = torch.searchsorted(self.index, batch.index.cpu())
        ends, counts = self.inputs.ends.cpu(), self.inputs.counts.cpu()
        utterances = torch.searchsorted(ends, rows, right=True)
        places = rows - ends[utterances] + counts[utterances]
        found = np.empty((len(rows), len(self.classes or ())), np.float32)
        for number in sorted(set(utterances.tolist())):
            here = (utterances == number).numpy()
            found[here] = self._utterance(number)[places.numpy()[here]]
        answers = torch.from_numpy(found).to(batch.index.device)
        return answers if self.temperature is not None else softened(answers, temperature)

    def _utterance(self, number: int) -> NDArray[np.float32]:
        if number not in self._held:
            while len(self._held) >= _HELD:
                self._held.pop(next(iter(self._held)))
            self._held[number] = self._read(number)
        return self._held[number]

    def _matrix(self, entry: ScpEntry) -> NDArray[np.float32]:
        """The posteriors of an utterance, one column per pdf; rows of sparse ones are scaled to sum to 1."""
        found = (
            read_entry(entry, self.kind, allow_pipes=self.allow_pipes) if self._here is None else self._here[entry.key]
        )
        if self.kind == "matrix":
            return found
        try:
            dense = dense_posteriors(found, len(self.classes or ()))
        except DataError as error:
            raise FormatError(entry.source, f"{entry.key}: {error}") from error
        sums = dense.sum(1, keepdims=True)
        if not (sums > 0).all():
            raise FormatError(entry.source, f"{entry.key}: frame {int(sums.argmin())} has no probability at all")
        scaled: NDArray[np.float32] = dense / sums
        return scaled

    def _read(self, number: int) -> NDArray[np.float32]:
        key, every = self.inputs.keys[number], self.inputs.every
        entry = self.entries[key]
        matrix = self._matrix(entry)
        frames, rows = int(self.inputs.store.lengths[self.inputs.utterances[number]]), int(self.inputs.counts[number])
        if matrix.shape[1] != len(self.classes or ()):
            raise FormatError(
                entry.source, f"{key} has posteriors of {matrix.shape[1]} pdfs, and there are {len(self.classes or ())}"
            )
        if len(matrix) == frames:
            matrix = matrix[::every]
        if len(matrix) != rows:
            raise FormatError(entry.source, f"{key} has posteriors of {len(matrix)} frames, and features of {frames}")
        sums = matrix.sum(1, dtype=np.float64)
        if not (matrix.min() >= 0 and np.abs(sums - 1).max() <= _SUM_TOLERANCE):
            raise FormatError(
                entry.source,
                f"{key}: rows are no posteriors, which are at least 0 and sum to 1 (the first sums to {sums[0]:.4g}): "
                "log-likelihoods or logits cannot be used here",
            )
        logs: NDArray[np.float32] = np.log(np.maximum(matrix / sums[:, None], _FLOOR)).astype(np.float32)
        return logs


def _kind(entries: list[ScpEntry], allow_pipes: bool) -> Kind:
    """Matrices, or sparse posteriors: the first entry of a script file tells."""
    try:
        read_entry(entries[0], allow_pipes=allow_pipes)
    except FormatError as error:
        try:
            read_entry(entries[0], "posterior", allow_pipes=allow_pipes)
        except FormatError:
            raise error from None
        return "posterior"
    return "matrix"


def _speech(examples: Examples) -> Spliced:
    if not isinstance(examples.inputs, Spliced):
        raise ConfigError("posteriors in Kaldi archives belong to speech: give a Kaldi directory as the data")
    return examples.inputs
