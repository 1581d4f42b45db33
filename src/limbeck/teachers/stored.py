r"""Stored outputs of a teacher, looked up by example and view.

Axes: ``V`` views, ``N`` examples, ``K`` classes; ``T`` is the temperature.
"""

__all__ = ["StoredTargets", "refuse_other_data"]

import copy
import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limbeck.errors import DataError, MismatchError
from limbeck.losses import softened
from limbeck.models.output_kind import require_log_probs
from limbeck.protocols import Batch

if TYPE_CHECKING:
    from limbeck.data.examples import Examples
    from limbeck.options import Augmentation


def refuse_other_data(batch: Batch, source: str | None) -> None:
    """Raise MismatchError where a batch is known to be of other data than stored answers are for."""
    if source is not None and batch.source is not None and batch.source != source:
        raise MismatchError(
            f"stored answers of other data: they are of source {source[:16]}..., and a batch of source "
            f"{batch.source[:16]}... is asked about, in which a number names another example"
        )


class StoredTargets:
    """Stored outputs of a teacher, looked up by example and view.

    Log-probabilities at T = 1 serve every temperature for a single model and for a geometric mean, because they differ
    from the logits by a constant. An arithmetic mean depends on its temperature: give it then.

    Args:
        log_probs: Answering ``(V, N, K)`` for V views, or ``(N, K)`` for one; natural logarithms.
        index: The examples' numbers, int64 ``(N,)``, in the order of the answers.
        classes: Names of the classes in order, where known.
        temperature: The only temperature that the answers hold for, or None where they are for T = 1 and serve all.
        source: Digest of the data that ``index`` counts, :attr:`limbeck.Examples.source`; None where it is not known:
            then the examples that the answers are first used for count as theirs.

    Attributes:
        count: How many classes there are, K.

    Raises:
        DataError: If the shapes do not fit, an answer is NaN or gives no class mass (the message names the example), or
            rows are not log-probabilities.

    Example:
        >>> stored = StoredTargets(torch.tensor([[0.0, 2.0], [1.0, 1.0]]).log_softmax(-1), torch.tensor([4, 7]))
        >>> stored.log_probs(Batch(torch.tensor([7]), 0, torch.zeros(1, 1), None), 3.0).exp()
        tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self,
        log_probs: Tensor,
        index: Tensor,
        *,
        classes: Sequence[str] | None = None,
        temperature: float | None = None,
        source: str | None = None,
    ) -> None:
        values = (log_probs.unsqueeze(0) if log_probs.ndim == 2 else log_probs).float()
        if values.ndim != 3 or index.shape != values.shape[1:2]:
            raise DataError(
                f"soft targets of shape {tuple(log_probs.shape)} do not fit {tuple(index.shape)} example numbers: "
                "(examples, classes) or (views, examples, classes) are needed"
            )
        usable = (values < math.inf).all(-1) & (values > -math.inf).any(-1)  # false for NaN
        if not bool(usable.all()):
            view, row = (~usable).nonzero()[0].tolist()
            raise DataError(
                f"the soft targets of example {int(index[row])}{f' in view {view}' if view else ''} hold NaN, plus "
                "infinity or nothing but minus infinity: the teacher that gave them is broken there"
            )
        require_log_probs(log_probs)
        self.values, self.temperature, self.source = values, temperature, source
        self.count = values.shape[2]
        self._fingerprint: Any = None
        self._softened: tuple[float, Tensor] | None = None
        self.classes = None if classes is None else tuple(classes)
        self._number(index)

    def _number(self, index: Tensor) -> None:
        # Rows by example number; -1 where there is none.
        self.row_of = torch.full((int(index.max()) + 1,), -1, dtype=torch.int64, device=index.device)
        self.row_of[index] = torch.arange(len(index), device=index.device)

    in_order = False
    """Whether rows are counted only, as saved arrays are: then there must be one for each example of whole data."""

    def to(self, device: torch.device | str) -> "StoredTargets":
        """The same answers on a device."""
        moved = copy.copy(self)
        moved.values, moved.row_of, moved._softened = self.values.to(device), self.row_of.to(device), None
        return moved

    live = False

    @property
    def every_temperature(self) -> bool:
        """Whether the answers are for T = 1 and serve every temperature."""
        return self.temperature is None

    @property
    def has_logits(self) -> bool:
        """Whether the answers are logits but for a constant: all classes are kept, so where they are for T = 1."""
        return self.temperature is None

    @property
    def fingerprint(self) -> Any:
        """What tells these answers from others when a run resumes: that of the teacher, or a digest of all values."""
        if self._fingerprint is None:
            held = hashlib.sha256(self.values.cpu().contiguous().numpy().tobytes())
            held.update(self.row_of.cpu().numpy().tobytes())
            self._fingerprint = held.hexdigest()
        return self._fingerprint

    @fingerprint.setter
    def fingerprint(self, value: Any) -> None:
        self._fingerprint = value

    def modules(self) -> list[tuple[nn.Module, Any]]:
        """None: the answers are stored."""
        return []

    def bind(self, examples: "Examples", augmentation: "Augmentation | None" = None) -> "StoredTargets":
        """Bind the outputs to these examples.

        Args:
            examples: What will be asked about.
            augmentation: In which views.

        Returns:
            The same answers, which refuse batches of other data.

        Raises:
            MismatchError: If they belong to other examples, some are missing, or fewer views are stored.
        """
        if self.source not in {None, examples.source}:
            raise MismatchError(
                f"these soft targets belong to other data: source {self.source}, and these examples have "
                f"{examples.source}: ask the teacher about these"
            )
        self.require(examples.index)
        if self.in_order and self.source is None and examples.origin is None and self.values.shape[1] != len(examples):
            raise MismatchError(
                f"there are {self.values.shape[1]} rows of saved answers, and {len(examples)} examples: give the rows' "
                "index where they are of other or more examples"
            )
        views = augmentation.views if augmentation is not None and augmentation.active else 1
        if views is not None and views > len(self.values):
            raise MismatchError(f"{views} views are asked for, and {len(self.values)} are stored: set views")
        if augmentation is not None and augmentation.mixes and int((self.row_of >= 0).sum()) != len(examples):
            raise MismatchError(
                f"partners of mixup and cutmix are chosen among all {int((self.row_of >= 0).sum())} examples that were "
                f"answered, and these are {len(examples)} of them: ask the teacher about these"
            )
        bound = copy.copy(self)
        bound.source = examples.source
        return bound

    @property
    def device(self) -> torch.device:
        """Where the answers are."""
        return self.values.device

    def require(self, index: Tensor) -> None:
        """Check that examples are among those stored.

        Args:
            index: The examples' numbers, int64 ``(N,)``.

        Raises:
            MismatchError: If any is not.
        """
        numbers = index.to(self.row_of.device)
        known = numbers < len(self.row_of)
        known = known & (self.row_of[numbers.clamp_max(len(self.row_of) - 1)] >= 0)
        if not bool(known.all()):
            first = int(numbers[~known][0])
            raise MismatchError(
                f"no soft targets are stored for {int((~known).sum())} of {len(numbers)} examples, the first is "
                f"example {first}: write them for this data set"
            )

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float) -> Tensor:
        """The stored answers, softened at a temperature, float32 ``(N, K)``.

        Args:
            batch: The examples; only their numbers and their view are used.
            temperature: :math:`T > 0`.

        Returns:
            Natural logarithms, without gradient.

        Raises:
            MismatchError: If the batch is of other data, or an example, a view or the temperature is not among those
                stored.
        """
        refuse_other_data(batch, self.source)
        if batch.view >= len(self.values):
            raise MismatchError(f"view {batch.view} is asked for, and {len(self.values)} are stored: set views")
        if self.temperature is not None and temperature != self.temperature:
            raise MismatchError(
                f"these soft targets hold for temperature {self.temperature} alone, and {temperature} is asked for"
            )
        # No look at the numbers here: that would make the host wait for an accelerator at each step. `require` does.
        try:
            answers = self._at(temperature)
            return answers[batch.view].index_select(0, self.row_of.index_select(0, batch.index))
        except IndexError as error:
            self.require(batch.index)
            raise MismatchError(f"soft targets cannot be looked up: {error}") from error

    def _at(self, temperature: float) -> Tensor:
        """All outputs at a temperature: softened once, not once per step, and cached."""
        if self.temperature is not None:
            return self.values
        if self._softened is None or self._softened[0] != temperature:
            self._softened = (temperature, softened(self.values, temperature))
        return self._softened[1]
