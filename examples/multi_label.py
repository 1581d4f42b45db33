"""A network with one logit per label, distilled into a smaller one: several labels may hold at a time."""

import numpy as np
from own import teacher  # a torch.nn.Module with one logit per label

import limbeck

saved = np.load("tags.npz")  # labels are 0 or 1, (examples, labels)
train, val, test = ((saved[f"x_{part}"], saved[f"y_{part}"]) for part in ("train", "val", "test"))
run = limbeck.distill(teacher, "mlp", train, val, test=test, classes=["red", "round", "sweet"], out="runs/tags")
print(run.verdict, run.metrics["student"]["macro_f1"])
limbeck.predict("runs/tags", test[0]).write("tags.csv")
