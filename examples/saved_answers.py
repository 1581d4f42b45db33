"""Top-5 answers that somebody saved, with the class numbers they are for, distilled without their teacher."""

import numpy as np

import limbeck

data = limbeck.open_data("data.npz")
saved = np.load("top5.npz")
teacher = limbeck.SoftTargets.from_array(probs=saved["probs"], ids=saved["ids"], examples=data)
run = limbeck.distill(teacher, "mlp", data, temperature=2.0, out="runs/saved")
print(run.verdict)
