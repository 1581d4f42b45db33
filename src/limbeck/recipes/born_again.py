"""A network distilled into others of its own size, again and again: recipe ``born-again``."""

__all__ = ["run"]

import numpy as np

from limbeck.recipes.findings import Findings, Order
from limbeck.recipes.letters import letters
from limbeck.recipes.series import Cell, Series
from limbeck.teachers import Ensemble

_GENERATIONS = 3


def run(series: Series, order: Order) -> Findings:
    """Train a network on labels, and three generations that each learn from the one before and from labels.

    Args:
        series: Where trainings are kept.
        order: Names the data.

    Returns:
        Test accuracies of the generations, of their ensemble, and of networks on labels alone.
    """
    here = letters(series, order.data)
    make, settings = here.make(), {"network": here.network}

    def on_labels(name: str, seed: int, times: int = 1) -> Cell:
        return series.train(
            name, make, here.data, here.training(times * 30, seed=seed), augmentation=here.jitter, settings=settings
        )

    def generation(number: int, seed: int, before: Cell) -> Cell:
        return series.distil(
            f"generation-{number}",
            make,
            series.answers(before.model, here.data.train, here.data.classes, augmentation=here.jitter),
            here.data,
            here.training(30, seed=100 * number + seed),  # initial weights of its own, as each generation has
            temperature=1.0,
            hard_weight=0.5,
            augmentation=here.jitter,
            settings={**settings, "teacher": before.name},
        )

    chains, others, longer = [], [], []
    for seed in series.seeds:
        chain = [on_labels("labels", seed)]
        for number in range(1, _GENERATIONS + 1):
            chain.append(generation(number, seed, chain[-1]))
        chains.append(chain)
        others.append([chain[0], *(on_labels("labels", 100 * k + seed) for k in range(1, _GENERATIONS + 1))])
        longer.append(on_labels("labels-longer", seed, times=_GENERATIONS + 1))

    # All trainings are done: now the test set is read.
    def together(cells: list[Cell]) -> float:
        return here.accuracy(Ensemble([cell.model for cell in cells], classes=here.data.classes))

    values = {f"generation_{k}": [here.accuracy(chain[k].model) for chain in chains] for k in range(_GENERATIONS + 1)}
    values["longer"] = [here.accuracy(cell.model) for cell in longer]
    values["chain_ensemble"] = [together(chain) for chain in chains]
    values["labels_ensemble"] = [together(cells) for cells in others]
    first, last = (float(np.mean(values[f"generation_{k}"])) for k in (0, _GENERATIONS))
    once = float(np.mean(values["generation_1"]))
    gap = float(np.mean(values["chain_ensemble"]) - np.mean(values["labels_ensemble"]))
    return Findings(
        values,
        {"longer": f"{longer[0].epochs} epochs, as many as the whole chain"},
        f"Distilled into itself once, the network has {once - first:+.2f} points, after {_GENERATIONS} generations "
        f"{last - first:+.2f}; four times as many epochs on labels give {np.mean(values['longer']) - first:+.2f}. The "
        f"generations as an ensemble are {gap:+.2f} points from as many networks on labels.",
        remarks=(
            here.about(),
            f"All networks are the same ({here.network}), trained for {chains[0][0].epochs} epochs each. A generation "
            "learns from labels and from the generation before at T = 1, in equal parts. Validation chose each "
            "network's epoch, and nothing else was chosen.",
        ),
    )
