# %% [markdown]
# # Your own model and data
#
# Limbeck takes any `torch.nn.Module` and any `torch.utils.data.Dataset` whose items are
# pairs of an input and a label. This notebook writes both by hand, with a random
# transform as everybody has one, and shows what Limbeck does with it: **student and
# teacher see the same random version of an example**, and a run can be repeated to the
# same bits. It takes half a minute.

# %%
import random

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import Dataset

import limbeck

# %% [markdown]
# ## The data
#
# The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn. The
# transform shifts an image and adds noise; it draws from Python's `random` and from
# torch, as transforms do, and knows nothing of Limbeck.

# %%
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16


class Digits(Dataset):
    def __init__(self, rows, augment=False):
        self.rows, self.augment = rows, augment

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        image = images[self.rows[place]]
        if self.augment:
            image = image.roll(
                (random.randint(-1, 1), random.randint(-1, 1)), dims=(1, 2)
            )
            image = image + 0.1 * torch.randn_like(image)
        return image, int(labels[self.rows[place]])


order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist()
train, validation, test = (
    Digits(order[:600], augment=True),
    Digits(order[600:800]),
    Digits(order[800:]),
)

figure, axes = plt.subplots(1, 8, figsize=(7, 1.1))
for axis in axes:
    axis.imshow(train[0][0][0].numpy(), cmap="gray_r")
    axis.set(xticks=[], yticks=[])
figure.suptitle("eight versions of one example", fontsize=9)
plt.show()

# %% [markdown]
# ## The models
#
# A teacher that is larger than it needs to be, and a student of a few hundred
# parameters. A student may be a module (every seed starts from its weights) or, as
# here, a function of the seed that makes one.


# %%
class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten()),
        )
        self.classifier = nn.Linear(64 * 16, 10)

    def forward(self, image):
        return self.classifier(self.features(image))


def student(seed):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
    )


settings = {"batch_size": 25, "learning_rate": 0.005, "workers": 0}
torch.manual_seed(0)
teacher = limbeck.train(Teacher(), train, validation, test=test, epochs=12, **settings)
teacher

# %% [markdown]
# `workers=0` reads examples in this process, which is quickest for data as small as
# these; the default starts worker processes. The number of workers never changes the
# result.
#
# ## Distil

# %%
run = limbeck.distill(
    teacher.model,
    student,
    train,
    validation,
    test=test,
    temperature=2.0,
    hard_weight=0.3,
    epochs=20,
    **settings,
)
run

# %% [markdown]
# Fewer than a thousand test examples are few: look at the width of the interval. If the
# verdict is that no difference can be shown, that is what it is; [more examples or
# seeds](reading-a-verdict.ipynb) would tell, and a better-looking pair of error counts
# would not.
#
# ## What happens to the random transform
#
# Before an example is transformed, Limbeck seeds `random`, NumPy and torch by the
# view's seed, the epoch and the example's number. So the transform becomes a function
# of the example: the teacher is asked about exactly the pixels that the student sees,
# whatever the batch size or the number of workers, and a run that was stopped resumes
# to the same bits. Two runs with the same settings give the same weights:

# %%
again = [
    limbeck.distill(
        teacher.model, student, train, validation, epochs=2, baseline=False, **settings
    ).student
    for _ in range(2)
]
pairs = zip(again[0].parameters(), again[1].parameters(), strict=True)
print(
    "the same weights, bit by bit:",
    all(torch.equal(one, other) for one, other in pairs),
)

# %% [markdown]
# With a seed of its own a transform would give the teacher *other* pixels than the
# student: it would then teach the student what to say about an image that it does not
# see. That is asked for with `teacher_view="independent"` and never happens by
# accident.
#
# ## Other shapes of data
#
# | you have | you give |
# |---|---|
# | arrays or tensors | `(inputs, labels)` |
# | items as a dict, `(dict, label)`, PIL images | the `Dataset` |
# | a `DataLoader` | the `DataLoader`: its data set is used, and its batch size is yours to set |
# | a pandas `DataFrame`, a Hugging Face data set | itself, see [a table and a forest](table-and-forest.ipynb) |
# | a folder of images, a CSV file, a `.npz` | its path |
