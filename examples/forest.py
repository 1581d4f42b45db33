"""A random forest on a table, distilled into a small network that sees the same columns encoded."""

import pandas
from sklearn.ensemble import RandomForestClassifier

import limbeck

train, val = pandas.read_csv("train.csv"), pandas.read_csv("val.csv")
forest = RandomForestClassifier(300, min_samples_leaf=5).fit(train.drop(columns="y"), train["y"])
parts = [(each.drop(columns="y"), each["y"]) for each in (train, val)]
run = limbeck.distill(forest, "mlp", *parts, temperature=1.0, hard_weight=0.3, out="runs/forest")
print(run.verdict)
limbeck.predict("runs/forest", "new.csv").write("predictions.csv")
