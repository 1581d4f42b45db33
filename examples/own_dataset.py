"""Your own data set with random transforms: the teacher sees the student's views, as a function of the example."""

from own import Photographs, student, teacher  # a torch.utils.data.Dataset and two torch.nn.Modules

import limbeck

train, val = Photographs("train", augment=True), Photographs("val")
run = limbeck.distill(teacher, student, train, val, workers=4, epochs=20, out="runs/own")
print(run.verdict)
