# %% [markdown]
# # First distillation
#
# Somebody has a good, large model, and you want a small one. You have many images of
# your own, and labels for only a few of them. Distillation is made for that: the large
# model, the *teacher*, answers all your images, and the small one, the *student*,
# learns its answers. Is it better than the same small network trained on the labels
# that you have?
#
# MNIST comes with Limbeck, so there is nothing to download. This takes one to two
# minutes on two cores.

# %%
import matplotlib.pyplot as plt

import limbeck

digits = limbeck.open_data("mnist", train_examples=6000, validation=500)
few = digits.train.take(range(500))  # the labels that you have
unlabelled = digits.train.without_labels()  # all your images
digits.describe()["examples"]

# %% [markdown]
# ## A teacher
#
# Here we play that somebody as well, and train the teacher on all the labels. `"cnn"`
# is a convolutional network. Any `torch.nn.Module` would do, and so would a timm or
# Hugging Face model, a scikit-learn estimator, or an ONNX file.

# %%
teacher = limbeck.train("cnn", digits, epochs=3, batch_size=64)
teacher

# %% [markdown]
# ## A student, and its baseline
#
# `limbeck.distill` trains *two* networks. The student learns the teacher's softened
# answers to the transfer set, your unlabelled images. Its **baseline** learns your 500
# labels. Both have the same architecture, the same initial weights and the same number
# of steps.
#
# The run is kept in the folder `runs/first`. With `resume=True` a second call continues
# it, or returns at once if it is finished: to the same bits as if nothing had stopped
# it.

# %%
run = limbeck.distill(
    teacher.model,
    "mlp",
    few,
    digits.validation,
    test=digits.test,
    transfer=unlabelled,
    hard_weight=0,
    epochs=12,
    batch_size=64,
    out="runs/first",
    resume=True,
)
run

# %% [markdown]
# The last column is the network to ship. Compare its multiply-adds with the teacher's.
# The sentence above the table says what is shown and what is not. Read the interval
# first: how many points fewer may it be at worst, how many at best? The rest is
# explained in [reading a verdict](reading-a-verdict.ipynb).
#
# Most of this gain comes from the *images*: the teacher made the unlabelled ones
# useful. Where every image has a label already, there is less to gain, and with a short
# training nothing: the other notebooks have verdicts of that kind, too.
#
# ## What happened meanwhile
#
# `run.history` has a row per epoch of the student.

# %%
epochs = [row["epoch"] for row in run.history]
figure, axis = plt.subplots()
axis.plot(epochs, [row["validation_errors"] for row in run.history], "o-")
axis.set(xlabel="epoch", ylabel="validation errors of 500", xticks=epochs)
plt.show()

# %% [markdown]
# ## Use it
#
# `run.student` is a plain PyTorch module. `limbeck.predict` gives labels and
# probabilities, here for the first test digits:

# %%
found = limbeck.predict(run.student, digits.test.take(range(12)))
sure = found.probabilities.max(-1)
figure, axes = plt.subplots(1, 12, figsize=(9, 1.2))
for axis, image, label, share in zip(
    axes, digits.test.inputs, found.labels, sure, strict=False
):
    axis.imshow(image[0].numpy(), cmap="gray_r")
    axis.set(xticks=[], yticks=[])
    axis.set_title(f"{label}  {share:.0%}", fontsize=8)
plt.show()

# %% [markdown]
# The report is one HTML page with all of this, confusion matrices, calibration, and the
# examples on which student and baseline differ:

# %%
print(run.report())

# %% [markdown]
# ## What next
#
# - [Your own model and data](own-model-and-data.ipynb).
# - [Choosing temperature and weight](temperature-and-weight.ipynb): we took T = 4, the
#   default.
# - This was one seed: the verdict is about these two networks. `seeds=5` makes it about
#   any such trainings.
# - [Ship it](ship-it.ipynb): ONNX, int8, and a page on which you draw.
