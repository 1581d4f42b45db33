# %% [markdown]
# # Ship it
#
# A trained student is a PyTorch module; what runs in production is usually a file. This
# notebook writes three: ONNX, ONNX with 8-bit integers, and one HTML page that runs the
# network in a browser. Beside them comes a **parity report**: on how many held-out
# examples does each file decide otherwise than the network that was judged? It takes
# about half a minute. The ONNX formats need `pip install '.[onnx]'`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch
from torch import nn

import limbeck

digits = limbeck.open_data("mnist", train_examples=5000, validation=500)


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


teacher = limbeck.train(convnet, digits, epochs=6, batch_size=64).model
few, images = digits.train.take(range(500)), digits.train.without_labels()
run = limbeck.distill(
    teacher, "mlp", few, digits.validation, test=digits.test, transfer=images,
    hard_weight=0, epochs=12, batch_size=64, classes=digits.classes,
)  # fmt: skip
print(run.verdict)

# %% [markdown]
# ## Three files
#
# `with_preprocessing=True` puts what comes before and after into the file: it takes
# pixels from 0 to 255 and gives probabilities, so that nobody has to know how the
# training scaled its images. Rounding to 8 bits needs examples to calibrate with; they
# are taken from the training set, never from those that files are compared on.

# %%
shipped = run.export(
    "shipped", formats=["onnx", "int8", "browser"], with_preprocessing=True
)
print(shipped)

# %% [markdown]
# A float32 file that decides otherwise but by ties is refused, and nothing is left
# behind except the report. An 8-bit file loses a little; it must be as good as the
# network within half a point (`margin=0.5`), with an interval that says so.

# %%
for name, path in shipped.files.items():
    print(f"{name:8} {path.as_posix():24} {path.stat().st_size / 1000:6.0f} KB")

# %% [markdown]
# ## Use a file without Limbeck
#
# This is all that a service needs. It does not import PyTorch or Limbeck.

# %%
session = onnxruntime.InferenceSession(shipped.files["onnx"])
(wanted,) = session.get_inputs()
images = digits.test.inputs[:6].numpy()  # uint8, as they come out of a file
(probabilities,) = session.run(None, {wanted.name: images})
print(wanted.name, wanted.type, wanted.shape)
print(
    "decides:", probabilities.argmax(-1), " the truth:", digits.test.labels[:6].numpy()
)

# %% [markdown]
# And with 8 bits, on all test digits. Where do the two files differ?

# %%
rounded = onnxruntime.InferenceSession(shipped.files["int8"])
every = digits.test.inputs.numpy()
answers = {
    name: np.concatenate(
        [each.run(None, {wanted.name: part})[0] for part in np.array_split(every, 20)]
    )
    for name, each in {"float32": session, "int8": rounded}.items()
}
differ = np.flatnonzero(answers["float32"].argmax(-1) != answers["int8"].argmax(-1))
print(f"{len(differ)} of {len(every):,} digits are decided otherwise")

shown = differ[:10]
figure, axes = plt.subplots(1, 10, figsize=(9, 1.5))
for axis in axes:
    axis.axis("off")
for axis, row in zip(axes, shown, strict=False):
    axis.imshow(every[row, 0], cmap="gray_r")
    one, other = (answers[name][row] for name in ("float32", "int8"))
    axis.set_title(
        f"{one.argmax()} ({one.max():.0%})\n{other.argmax()} ({other.max():.0%})",
        fontsize=8,
    )
plt.show()

# %% [markdown]
# They differ where the network was about to change its mind anyway.
#
# ## A page to draw on
#
# `shipped/model.html` is one file with the network inside. It needs no server and asks
# for nothing from the network: open it, draw a digit, and see the probabilities. The
# parity report ran the page's own code on the same held-out digits.
#
# ![The page: a drawing area and a bar per class](../images/browser.png)
#
# ## What next
#
# - Smaller still: `limbeck compress runs/student --size 100KB --int8`, low rank and 8
#   bits, distilled afterwards.
# - All formats, and what each promises: [Export](../export.md).
