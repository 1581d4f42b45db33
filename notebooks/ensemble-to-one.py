# %% [markdown]
# # An ensemble to one network
#
# Several networks together are more accurate than each of them, and cost as many times
# as much. Distillation was made for this: one network of the *same* architecture learns
# what the ensemble says. Here 1,000 digits have labels and 5,000 have none. The
# ensemble learns from the labels, and its student from what the ensemble says of all
# 6,000. It takes one to two minutes.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

import limbeck

digits = limbeck.open_data("mnist", train_examples=6000, validation=500)
labelled, images = digits.train.take(range(1000)), digits.train.without_labels()


def convnet(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10)),
    )


parts = (labelled, digits.validation)
settings = {"test": digits.test, "classes": digits.classes, "batch_size": 32}

# %% [markdown]
# ## Three members
#
# `members=3` trains three networks with consecutive seeds. Their mean is arithmetic
# here: of probabilities. A geometric mean, of logits, is `mean="geometric"`.

# %%
teacher = limbeck.train(
    convnet, *parts, members=3, epochs=40, learning_rate=0.002, **settings
)
members = [each["test_errors"] for each in teacher.metrics["members"]]
together = teacher.metrics["model"]["test_errors"]
print(f"each alone: {members}, together: {together}")

# %% [markdown]
# Networks that exist already are put together by `limbeck.Ensemble([net_a, net_b,
# net_c], mean="geometric")`.
#
# ## One student
#
# It has the architecture of one member, and a seed that no member had. The baseline is
# the same network, trained on the 1,000 labels for as many steps. The ensemble answers
# each image once, before the training; its answers are kept in memory.

# %%
run = limbeck.distill(
    teacher.model, convnet, *parts, transfer=images, temperature=2.0, hard_weight=0,
    seed=10, epochs=10, learning_rate=0.002, **settings
)  # fmt: skip
run

# %%
shown = {
    "members": members,
    "ensemble": [together],
    "baseline": run.verdict.baseline_errors,
    "student": run.verdict.student_errors,
}
figure, axis = plt.subplots(figsize=(7, 2.6))
for place, values in enumerate(shown.values()):
    axis.plot(values, [place] * len(values), "o", markersize=8, alpha=0.8)
axis.set(yticks=range(4), xlabel="test errors of 10,000", ylim=(3.5, -0.5))
axis.set_yticklabels(shown)
plt.show()

# %% [markdown]
# ## How to read it
#
# - Look at **members** and **ensemble** first. If being together gains nothing, there
#   is nothing to distil: more members of the same kind will not change that, and other
#   architectures or other data may.
# - The student costs a third of the ensemble at each prediction: see the multiply-adds
#   in the table.
# - Two things help the student: the ensemble's knowledge, and 5,000 images more to
#   learn it on. The baseline has neither, so this verdict is about both together. To
#   separate them, distil from a single member on the same images, and compare the runs
#   with `limbeck.compare`.
# - This is one seed. `seeds=5` makes the verdict about such trainings.
