# %% [markdown]
# # A table and a forest
#
# A random forest is easy to fit to a table and awkward to ship: hundreds of trees,
# megabytes, a library to carry along. Here it teaches a small neural network. There is
# one trap on the way, and most of this notebook is about it: **a forest knows its own
# training rows by heart**, and what it says about them teaches little. It takes half a
# minute, and needs `pip install '.[table]'`.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_predict, train_test_split

import limbeck

# %% [markdown]
# The table: 1,797 rows of 64 columns that come with scikit-learn, ink counted in cells
# of a grid laid over handwritten digits. We keep half of it for the test.

# %%
table, digit = load_digits(return_X_y=True, as_frame=True)
rest, x_test, y_rest, y_test = train_test_split(
    table, digit, test_size=900, random_state=0, stratify=digit
)
x_train, x_val, y_train, y_val = train_test_split(
    rest, y_rest, test_size=200, random_state=0, stratify=y_rest
)
print(
    f"{len(x_train)} rows to learn from, {len(x_val)} to choose by, {len(x_test)} to judge on"
)

forest = RandomForestClassifier(200, random_state=0).fit(x_train, y_train)
own, new = forest.score(x_train, y_train), forest.score(x_test, y_test)
print(f"the forest: {own:.1%} of its training rows, {new:.1%} of new ones")

# %% [markdown]
# ## The trap
#
# What a student learns from are the teacher's probabilities on *training* rows. But a
# forest has seen these with their labels. Its honest opinion of a row is **out of
# fold**: that of a forest which was fitted without it. scikit-learn's
# `cross_val_predict` gives exactly that.

# %%
seen = forest.predict_proba(x_train)
unseen = cross_val_predict(
    RandomForestClassifier(200, random_state=0),
    x_train,
    y_train,
    cv=5,
    method="predict_proba",
)

figure, axis = plt.subplots(figsize=(7, 2.6))
bins = np.linspace(0, 1, 26)
axis.hist(seen.max(-1), bins, alpha=0.7, label="rows that it was fitted to")
axis.hist(unseen.max(-1), bins, alpha=0.7, label="the same rows, out of fold")
axis.hist(forest.predict_proba(x_test).max(-1), bins, weights=np.full(len(x_test), len(x_train) / len(x_test)),
          histtype="step", color="black", label="test rows (scaled to the same number)")  # fmt: skip
axis.set(xlabel="largest probability", ylabel="rows")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
# Answers out of fold look like answers to new rows. Those on rows that were learned are
# close to the labels, and so they tell a student little more than the labels do.
#
# ## Distil the forest as it is
#
# An estimator with `predict_proba` is a teacher as it stands. Probabilities have no
# logits, so T = 1 is a natural start. Limbeck notices what we just saw, and warns:

# %%
parts = ((x_train, y_train), (x_val, y_val))
settings = {
    "test": (x_test, y_test),
    "temperature": 1.0,
    "hard_weight": 0.3,
    "epochs": 25,
    "batch_size": 32,
}
settings |= {"seeds": 3}
as_it_is = limbeck.distill(forest, "mlp", *parts, **settings)
as_it_is

# %% [markdown]
# ## Distil it out of fold
#
# Answers that exist already become a teacher by `limbeck.SoftTargets.from_array`.

# %%
answers = limbeck.SoftTargets.from_array(probs=unseen)
out_of_fold = limbeck.distill(answers, "mlp", *parts, **settings)
out_of_fold

# %%
runs = {"forest as it is": as_it_is, "out of fold": out_of_fold}
figure, axis = plt.subplots(figsize=(7, 2.2))
for place, run in enumerate(runs.values()):
    found = run.verdict.difference
    axis.plot([100 * found.low, 100 * found.high], [place, place], linewidth=3)
    axis.plot(100 * found.estimate, place, "o", color=f"C{place}")
axis.axvline(0, color="black", linewidth=1)
axis.set(
    yticks=[0, 1],
    ylim=(1.5, -0.5),
    xlabel="student's error rate minus the baseline's (points)",
)
axis.set_yticklabels(runs)
plt.show()

# %% [markdown]
# ## How to read it
#
# The intervals above are from 900 test rows and three seeds, and they are wide.
# Whatever they show here, two things hold elsewhere too:
#
# - On a small table a well-tuned network on labels may be **as good as a student, or
#   better than the forest**. Then there is nothing to distil, and the baseline in the
#   same table says so. Look at the teacher's column before anything else.
# - The teacher must not have seen the rows that it is *evaluated* on. `x_test` was kept
#   from the forest; where no test set is named, Limbeck cuts one from the training
#   rows, which a forest fitted elsewhere knows by heart.
#
# The student is used on a DataFrame with the same columns:

# %%
limbeck.predict(
    out_of_fold.student, x_test.head(5), classes=[str(each) for each in range(10)]
).labels
