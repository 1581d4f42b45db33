"""The job of examples/forest.py with scikit-learn and PyTorch: no baseline, no verdict, no resume."""

import pandas
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch.utils.data import DataLoader, TensorDataset

WEIGHT, EPOCHS = 0.3, 10
train, val = pandas.read_csv("train.csv"), pandas.read_csv("val.csv")
forest = RandomForestClassifier(300, min_samples_leaf=5).fit(train.drop(columns="y"), train["y"])
encoder = make_column_transformer(
    (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
    (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_exclude="number")),
).fit(train.drop(columns="y"))


def tensors(frame):
    inputs = torch.tensor(encoder.transform(frame.drop(columns="y")), dtype=torch.float32)
    return inputs, torch.tensor(forest.classes_.searchsorted(frame["y"]))


inputs, labels = tensors(train)
answers = torch.tensor(forest.predict_proba(train.drop(columns="y")), dtype=torch.float32)
layers = torch.nn.Linear(inputs.shape[1], 512), torch.nn.ReLU(), torch.nn.Linear(512, len(forest.classes_))
student = torch.nn.Sequential(*layers)
loader = DataLoader(TensorDataset(inputs, labels, answers), batch_size=256, shuffle=True)
optimizer = torch.optim.AdamW(student.parameters(), 1e-3)
for epoch in range(EPOCHS):
    for x, y, target in loader:
        logits = student(x)
        soft = torch.nn.functional.kl_div(logits.log_softmax(-1), target, reduction="batchmean")
        loss = WEIGHT * torch.nn.functional.cross_entropy(logits, y) + (1 - WEIGHT) * soft
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
x, y = tensors(val)
with torch.no_grad():
    print("validation errors", int((student(x).argmax(1) != y).sum()))
    new = torch.tensor(encoder.transform(pandas.read_csv("new.csv")), dtype=torch.float32)
    probabilities = student(new).softmax(-1).numpy()
pandas.DataFrame(probabilities, columns=forest.classes_).to_csv("predictions.csv", index=False)
