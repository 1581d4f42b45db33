# %% [markdown]
# # Choosing temperature and weight
#
# Two numbers are set for every distillation: the temperature $T$ of the soft targets,
# and the weight of the true labels beside them. This notebook searches both on
# validation examples with `limbeck.tune`, looks at the whole grid and not at its winner
# alone, and then reads the test set once. It takes about a minute.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import limbeck

digits = limbeck.open_data("mnist", train_examples=2000, validation=2000)


def convnet(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(
            nn.Conv2d(1, 16, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ),
        *(nn.Flatten(), nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


def student(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))


teacher = limbeck.train(convnet, digits, epochs=20, batch_size=64)
print(f"the teacher: {teacher.metrics['model']['test_errors']} test errors")

# %% [markdown]
# ## A grid
#
# The teacher answers each training example once; then sixteen students are trained on
# its answers. `tune` puts the test set aside before it does anything, so no choice can
# depend on it. With `grid=False`, the default, it samples from ranges instead and stops
# poor trials early, which is better where there are more than two settings to choose.

# %%
search = limbeck.Search(
    grid=True, temperatures=(1, 2, 4, 8), hard_weights=(0, 0.1, 0.5, 0.9)
)
found = limbeck.tune(
    teacher.model,
    student,
    digits,
    search=search,
    epochs=40,
    batch_size=64,
    learning_rate=0.003,
)
found.best

# %%
temperatures, weights = sorted(search.temperatures), sorted(search.hard_weights)
errors = np.zeros((len(weights), len(temperatures)))
for trial in found.trials:
    errors[
        weights.index(trial["hard_weight"]), temperatures.index(trial["temperature"])
    ] = trial["validation_errors"]

figure, axis = plt.subplots(figsize=(6, 3))
axis.grid(False)
axis.imshow(errors, cmap="viridis_r", aspect="auto")
for (row, column), value in np.ndenumerate(errors):
    dark = value < errors.min() + 0.5 * np.ptp(errors)
    axis.text(
        column,
        row,
        f"{value:.0f}",
        ha="center",
        va="center",
        color="white" if dark else "black",
    )
axis.set(
    xlabel="temperature T",
    ylabel="weight of the labels",
    title="validation errors of 2,000 examples",
)
axis.set_xticks(range(len(temperatures)), [f"{each:g}" for each in temperatures])
axis.set_yticks(range(len(weights)), [f"{each:g}" for each in weights])
plt.show()

# %% [markdown]
# ## How much of this is chance?
#
# An error count of 100 has a standard deviation of about 10 by the choice of examples
# alone, and another seed would add its own. Neighbours in the grid that differ by a few
# errors are **not** different. What can be read from such a picture is its large shape:
# which region is good, and which edge is bad. A second grid with another seed shows
# what repeats.

# %%
again = limbeck.tune(
    teacher.model,
    student,
    digits,
    search=search,
    epochs=40,
    batch_size=64,
    learning_rate=0.003,
    seed=1,
)
first = [trial["validation_errors"] for trial in found.trials]
second = [trial["validation_errors"] for trial in again.trials]

figure, axis = plt.subplots(figsize=(4.2, 3.4))
points = axis.scatter(
    first, second, c=[trial["hard_weight"] for trial in found.trials], cmap="viridis"
)
low, high = min(first + second) - 5, max(first + second) + 5
axis.plot([low, high], [low, high], color="gray", linewidth=1)
axis.set(
    xlabel="validation errors, seed 0",
    ylabel="seed 1",
    xlim=(low, high),
    ylim=(low, high),
    aspect="equal",
)
figure.colorbar(points, label="weight of the labels")
plt.show()
print(
    "the best settings of seed 0:",
    {name: found.best[name] for name in ("temperature", "hard_weight")},
)
print(
    "the best settings of seed 1:",
    {name: again.best[name] for name in ("temperature", "hard_weight")},
)

# %% [markdown]
# ## The verdict
#
# `found.best` goes straight into `distill`. Now, and only now, the test set is read.
# Over two seeds, so that the verdict may be about such trainings and not about one
# network; none of them is the seed that the settings were chosen with.

# %%
run = limbeck.distill(
    teacher.model, student, digits, **found.best, batch_size=64, seeds=2, seed=10
)
print(run.verdict)

# %% [markdown]
# ## What to take from it
#
# - Start with T = 4 and a weight of 0.1. Search if there are many validation examples:
#   few cannot tell settings apart.
# - Choose a **region**, not a winner: a good value whose neighbours are good.
# - Give the baseline the same care. Where `tune` searches learning rates, it searches
#   the baseline's as well.
# - What temperature does to targets and gradients is shown in [what temperature
#   does](temperature.ipynb).
