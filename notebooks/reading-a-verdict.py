# %% [markdown]
# # Reading a verdict
#
# A student makes 113 test errors and its baseline 121. Did distillation help? Every run
# of Limbeck answers with an interval and a p-value, and "no difference can be shown" is
# a frequent answer. This notebook simulates models whose true error rates we know, so
# that we can see when a verdict is right, when it cannot be, and how many examples it
# needs. Nothing is trained: the whole notebook takes seconds.

# %%
import matplotlib.pyplot as plt
import numpy as np

from limbeck.evaluation.non_inferiority import judge_margin
from limbeck.evaluation.sample_size import (
    examples_needed,
    smallest_difference,
    smallest_margin,
)
from limbeck.evaluation.verdicts import judge, judge_seeds

rng = np.random.default_rng(0)


def simulated(examples, student, baseline, shared=0.02):
    """Where two models err: both on the hardest examples, and each on some of its own."""
    hard = rng.random(examples) < shared
    return hard | (rng.random(examples) < student - shared), hard | (
        rng.random(examples) < baseline - shared
    )


# %% [markdown]
# ## The same truth, on more and more examples
#
# The student's true error rate is 4 %, the baseline's 5 %: distillation *does* help
# here, by one point. We look at test sets of growing size.

# %%
for examples in (300, 3_000, 30_000):
    student, baseline = simulated(examples, student=0.04, baseline=0.05)
    print(f"{examples:,} examples. {judge(student, baseline)}\n")

# %% [markdown]
# On few examples the verdict is "no difference can be shown". It does **not** say that
# there is none: read the interval, which holds everything from much fewer errors to
# some more. Only a large test set makes it narrow.
#
# Errors alone do not decide. What counts are *discordant* examples, those on which
# exactly one of the two errs: the interval and McNemar's test use nothing else. Two
# models that err on the same examples can be told apart with far fewer.

# %%
sizes = [300, 1_000, 3_000, 10_000, 30_000]
figure, axis = plt.subplots()
for place, examples in enumerate(sizes):
    found = judge(*simulated(examples, student=0.04, baseline=0.05)).difference
    low, high, middle = (100 * each for each in (found.low, found.high, found.estimate))
    axis.plot([place, place], [low, high], color="C0", linewidth=3)
    axis.plot(place, middle, "o", color="C0")
axis.axhline(0, color="black", linewidth=1)
axis.axhline(-1, color="C1", linestyle="--", label="the truth: one point fewer")
axis.set(xticks=range(len(sizes)), xlabel="test examples", ylabel="difference (points)")
axis.set_xticklabels([f"{each:,}" for each in sizes])
axis.legend()
plt.show()

# %% [markdown]
# ## Ask before training
#
# How many examples does a claim need? `limbeck.evaluation.sample_size` answers before a
# GPU is warm. Its only assumption is the share of discordant examples, 5 % unless you
# know better.

# %%
for examples in (500, 2_000, 10_000, 50_000):
    difference, margin = (
        100 * smallest_difference(examples),
        100 * smallest_margin(examples),
    )
    print(
        f"{examples:>6,} examples show a difference of {difference:.2f} points, or a margin of {margin:.2f}"
    )
print(f"a margin of half a point needs {examples_needed(0.005):,} examples")

# %% [markdown]
# ## A case where nothing can be shown
#
# Now student and baseline have the *same* true error rate. A hundred laboratories each
# test the pair on 1,000 fresh examples. Each line is one laboratory's interval.

# %%
verdicts = [judge(*simulated(1_000, student=0.05, baseline=0.05)) for _ in range(100)]
figure, axis = plt.subplots(figsize=(7, 3.6))
for place, verdict in enumerate(verdicts):
    found, wrong = verdict.difference, verdict.helped is not None
    axis.plot(
        [place] * 2,
        [100 * found.low, 100 * found.high],
        color="C1" if wrong else "C0",
        alpha=1 if wrong else 0.6,
    )
axis.axhline(0, color="black", linewidth=1)
axis.set(xlabel="laboratory", ylabel="95 % interval (points)")
plt.show()
claims = [verdict.helped for verdict in verdicts]
print(
    f"{claims.count(True)} claim that it helped, {claims.count(False)} that it hurt, {claims.count(None)} neither"
)
fewest = min(verdicts, key=lambda each: each.difference.estimate)
print(
    f"the luckiest: {sum(fewest.student_errors)} errors against {sum(fewest.baseline_errors)}"
)

# %% [markdown]
# At most about five in a hundred may be wrong, by construction. But look at the
# luckiest laboratory: had it shown only its two error counts, or tried ten settings *on
# the test set* and kept the best, it would have published an improvement that does not
# exist. Therefore Limbeck reads the test set once, and settings are chosen on
# validation.
#
# ## Seeds are not examples
#
# A verdict on one pair is about **these two networks**. Another seed gives other
# networks. With several seeds the verdict is about *trainings like these*, and seeds
# and examples both add to its interval. Here the trainings differ: each network's error
# rate is off by about half a point.


# %%
def over_seeds(seeds, examples=10_000):
    pairs = [
        simulated(
            examples,
            student=0.04 + rng.normal(0, 0.004),
            baseline=0.048 + rng.normal(0, 0.004),
        )
        for _ in range(seeds)
    ]
    return zip(*pairs, strict=True)


for seeds in (2, 3, 8):
    print(f"{seeds} seeds. {judge_seeds(*over_seeds(seeds))}\n")

# %% [markdown]
# Two seeds are few: there is one degree of freedom to tell how much trainings differ,
# and the interval is honest about it. From about five on it is useful.
# `limbeck.distill(..., seeds=5)` does this with real trainings.
#
# ## As good as the teacher?
#
# "No difference can be shown" never means "as good as". That claim needs a **margin**,
# chosen beforehand by what matters for the use: "at most half a point worse". The same
# two error rates, on two test sets:

# %%
for examples in (1_000, 20_000):
    student, teacher = simulated(examples, student=0.031, baseline=0.030)
    print(f"{examples:,} examples. {judge_margin([student], [teacher], 0.5)}\n")

# %% [markdown]
# In a run: `limbeck.distill(..., margin=0.5)`.
#
# ## A check list
#
# 1. Read the **interval** first, in points. Is its worst end acceptable? Is its best
#    end worth the work?
# 2. Which **scope** does the last sentence name: these two networks, or any such
#    trainings?
# 3. **Test or validation?** A verdict on validation says so; the epoch was chosen
#    there, so errors look fewer.
# 4. Are classes named that **lost**? A student can win on the whole and lose a class
#    that matters.
# 5. How many comparisons were made before this one? `limbeck.compare` and
#    `limbeck.compare_methods` adjust for theirs.
#
# What was simulated to see that the intervals hold what they promise is in [what a
# verdict says](../verdicts.md).
