# %% [markdown]
# # What temperature does
#
# Distillation trains a student on the teacher's softmax *at a temperature* $T$: the
# logits are divided by $T$ first. This notebook looks at what that changes: the
# targets, the gradients, and the limit in which $T$ no longer matters. MNIST comes with
# Limbeck; all of it takes half a minute.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import limbeck
from limbeck.losses import logit_matching_loss, soft_target_loss, softened

digits = limbeck.open_data("mnist", train_examples=3000, validation=500)


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


teacher = limbeck.train(convnet, digits, epochs=5, batch_size=64)
teacher

# %% [markdown]
# ## The targets
#
# We take the validation digit about which this teacher is the least certain, and one
# about which it has no doubt. At $T = 1$ the certain one is a label in disguise:
# nothing is left to learn from it but the class. The ratios between the other classes,
# of 1 to 1,000 and more, are there all the same, and a higher temperature shows them.

# %%
validation = digits.validation
with torch.no_grad():
    logits = teacher.model(validation.inputs.float() / 255)
sure = logits.softmax(-1).amax(-1)
chosen = {
    "uncertain": int(sure.argmin()),
    "certain": int(sure.argsort()[len(sure) // 2]),
}

temperatures = [1, 4, 20]
figure, axes = plt.subplots(2, 4, figsize=(9, 3.6), width_ratios=[1, 2, 2, 2])
for row, (name, number) in zip(axes, chosen.items(), strict=True):
    row[0].imshow(validation.inputs[number, 0].numpy(), cmap="gray_r")
    row[0].set(title=name, xticks=[], yticks=[])
    for axis, temperature in zip(row[1:], temperatures, strict=True):
        axis.bar(range(10), softened(logits[number], temperature).exp().numpy())
        axis.set(title=f"T = {temperature}", ylim=(0, 1), xticks=range(10))
plt.show()

# %% [markdown]
# How much of this is information? The entropy of the targets rises from that of labels
# (0) to that of no answer at all ($\ln 10 = 2.3$ nats). In between the student is told
# which classes resemble each other.

# %%
grid = np.geomspace(0.5, 50, 25)
entropy = [
    float(-(softened(logits, T).exp() * softened(logits, T)).sum(-1).mean())
    for T in grid
]
figure, axis = plt.subplots()
axis.semilogx(grid, entropy)
axis.axhline(np.log(10), color="gray", linestyle=":", label="ln 10: every class alike")
axis.set(
    xlabel="temperature T",
    ylabel="entropy of the targets (nats)",
    xticks=[0.5, 1, 2, 4, 8, 20, 50],
)
axis.set_xticklabels(["0.5", "1", "2", "4", "8", "20", "50"])
axis.legend()
plt.show()

# %% [markdown]
# ## The gradients, and why the loss has $T^2$
#
# With targets $p = \mathrm{softmax}(v/T)$ and a student's $q = \mathrm{softmax}(z/T)$,
# the gradient of their cross-entropy is $(q - p)/T$, and for large $T$ also $q - p$
# shrinks as $1/T$. Without a correction, soft targets at $T = 20$ would weigh 400 times
# less against the labels than at $T = 1$. Limbeck's loss is
#
# $$\ell = T^2 \sum_k p_k (\log p_k - \log q_k),$$
#
# so that a weight which was chosen at one temperature keeps its meaning at another.
# Here is the gradient of a student that has learnt nothing yet, averaged over the
# validation digits.


# %%
def gradient(loss, student_logits):
    z = student_logits.detach().requires_grad_()
    (found,) = torch.autograd.grad(loss(z).sum(), z)
    return found


torch.manual_seed(1)
with torch.no_grad():
    student_logits = convnet(1)(validation.inputs.float() / 255).double()
teacher_logits = logits.double()


def soft_gradient(temperature):
    targets = softened(teacher_logits, temperature)
    return gradient(
        lambda z: soft_target_loss(z, targets, temperature=temperature), student_logits
    )


grid = np.geomspace(0.5, 500, 31)
with_factor = np.array([float(soft_gradient(T).norm(dim=-1).mean()) for T in grid])
figure, axis = plt.subplots()
axis.loglog(grid, with_factor, label="with T²")
axis.loglog(grid, with_factor / grid**2, label="without")
axis.set(xlabel="temperature T", ylabel="mean norm of the gradient")
axis.legend()
plt.show()

# %% [markdown]
# With the factor its size is about constant, and it tends to a limit; without, it falls
# by orders of magnitude. Every run of Limbeck checks this gradient against the formula
# before its first step, because a forgotten factor is the most common mistake of all
# and shows in no error message.
#
# ## The limit: matching logits
#
# As $T \to \infty$ the softmax becomes linear, and the loss becomes the squared
# distance of the logits, each freed of its mean: $\frac{1}{2K}\sum_k \bigl((z_k - \bar
# z) - (v_k - \bar v)\bigr)^2$. The angle between the two gradients tells how far a
# temperature is from that limit.

# %%
limit = gradient(lambda z: logit_matching_loss(z, teacher_logits), student_logits)
apart = []
for T in grid:
    cosine = nn.functional.cosine_similarity(soft_gradient(T), limit, dim=-1).clamp(
        -1, 1
    )
    apart.append(float(torch.rad2deg(torch.acos(cosine)).mean()))
size = {T: float(soft_gradient(T).norm() / limit.norm()) for T in (1, 4, 20, 500)}

figure, axis = plt.subplots()
axis.semilogx(grid, apart)
axis.set(
    xlabel="temperature T", ylabel="angle to logit matching (degrees)", ylim=(0, None)
)
plt.show()
print(
    "size of the gradient, as a share of logit matching's:",
    {T: round(share, 3) for T, share in size.items()},
)
print(
    "the teacher's logits spread over",
    round(float((logits.amax(-1) - logits.amin(-1)).median())),
    "units",
)

# %% [markdown]
# ## What to take from it
#
# - **Low temperatures** care about the classes that the teacher gives mass to, and
#   ignore the logits of all others.
# - **High temperatures** make the student match every logit, also those far below the
#   top-1 class, which were hardly constrained when the teacher was trained and may be
#   noise. A small student has no capacity to spare for noise.
# - What counts is $T$ beside the spread of the teacher's logits, printed above. With a
#   wider spread the same $T$ is less soft: 2 to 8 is where to look first, and
#   validation decides ([choosing temperature and
#   weight](temperature-and-weight.ipynb)).
# - Past the point where the angle is small, raising $T$ further changes nothing: use
#   `method="logits"`.
