"""What the ways of ``whole_search.py`` share, and those of the peers: a plain loop, torchdistill and Keras.

Each trains the students of one setting after the others, and asks the teacher at each step.
"""

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_distilling import dense_network, distiller, network_of, open_keras
from whole_common import Task, clocked, plain_loss, warm_up

TEMPERATURES, WEIGHTS, SEEDS = (1.0, 2.0, 4.0, 8.0), (0.0, 0.1, 0.5), (0, 1, 2)
TRAININGS = len(TEMPERATURES) * len(WEIGHTS) * len(SEEDS)
MEASURED = (4.0, 0.1)
"""The temperature and the weight whose students all ways are compared by."""
RATE, PEAK, PIXELS, CLASSES = 1e-3, 5e-3, 784, 10
"""The peers' learning rate, Adam's own; the peak of Limbeck's cosine, as in its quickstart."""


def digits(task: Task) -> dict[str, Any]:
    """The arrays."""
    with np.load(Path(task.folder) / "digits.npz") as arrays:
        return dict(arrays)


def flat(images: Any) -> Any:
    """Images as rows of numbers in [0, 1]."""
    return images.reshape(len(images), PIXELS).astype(np.float32) / 255


def teachers(task: Task) -> list[Any]:
    """The teacher's networks."""
    import limbeck

    return [limbeck.load(Path(task.folder) / f"teacher-{member}") for member in range(task.settings["members"])]


def with_loop(task: Task) -> dict[str, Any]:
    """As a plain script has it."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    held, settings, found = digits(task), task.settings, {}
    members = [member.eval() for member in teachers(task)]
    (temperature, weight), wrong = MEASURED, []
    warm_up()
    data, judges = tensors(held)
    for seed in SEEDS[: settings["seeds"]]:
        with clocked(found, f"training {seed}"):
            torch.manual_seed(seed)
            student = dense(nn, settings["hidden"])
            loader = DataLoader(data, batch_size=settings["batch"], shuffle=True)
            optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
            for _ in range(settings["epochs"]):
                for inputs, labels in loader:
                    with torch.no_grad():
                        answers = averaged(members, inputs)
                    loss = plain_loss(student(inputs), answers, labels, temperature=temperature, weight=weight)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
            with torch.no_grad():
                wrong.append(int((student(judges).argmax(1).numpy() != held["y_validation"]).sum()))
    return {**found, "measured": len(wrong), "validation_errors": wrong}


def tensors(held: Any) -> tuple[Any, Any]:
    """Training digits with their labels as a ``TensorDataset``, and the inputs to judge on."""
    import torch
    from torch.utils.data import TensorDataset

    learnt = TensorDataset(torch.from_numpy(flat(held["x_train"])), torch.from_numpy(held["y_train"]))
    return learnt, torch.from_numpy(flat(held["x_validation"]))


def dense(nn: Any, hidden: Sequence[int]) -> Any:
    """Linear layers with ReLU between them."""
    layers: list[Any] = []
    for before, after in zip((PIXELS, *hidden), hidden, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], CLASSES))


def averaged(members: Sequence[Any], inputs: Any) -> Any:
    """The mean of the members' logits."""
    return sum(member(inputs) for member in members) / len(members)


def with_torchdistill(task: Task) -> dict[str, Any]:
    """As torchdistill's examples have it, without their logging."""
    import torch
    from torch import nn
    from torch.utils.data import RandomSampler

    from limbeck.models.timm_models import import_timm

    import_timm()  # torchdistill imports torchvision, which may have been built for another PyTorch
    logging.getLogger("torchdistill").setLevel(logging.WARNING)
    importlib.import_module("torchdistill.losses.mid_level")
    box_of: Any = importlib.import_module("torchdistill.core.distillation").DistillationBox
    held, settings, found = digits(task), task.settings, {}
    members = nn.ModuleList(member.eval() for member in teachers(task))

    class Averaged(nn.Module):
        """The teacher as one module."""

        def __init__(self) -> None:
            super().__init__()
            self.members = members

        def forward(self, inputs: Any) -> Any:
            """Mean logits."""
            return averaged(list(self.members), inputs)

    (temperature, weight), wrong = MEASURED, []
    warm_up()
    data, judges = tensors(held)
    for seed in SEEDS[: settings["seeds"]]:
        with clocked(found, f"training {seed}"):
            torch.manual_seed(seed)
            student = dense(nn, settings["hidden"])
            place = {"module_path": ".", "module_io": "output"}
            kd = {f"{who}_{name}": value for who in ("student", "teacher") for name, value in place.items()}
            config = {
                "num_epochs": settings["epochs"],
                "train_data_loader": {
                    "dataset_id": "train", "sampler": {"class_or_func": RandomSampler, "kwargs": {}},
                    "kwargs": {"batch_size": settings["batch"], "num_workers": 0},
                },
                "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
                "student": {"forward_proc": "forward_batch_only", "requires_grad": True},
                "optimizer": {"key": "Adam", "kwargs": {"lr": RATE}},
                "criterion": {
                    "key": "WeightedSumLoss",
                    "kwargs": {"sub_terms": {"kd": {
                        "criterion": {"key": "KDLoss", "kwargs": {**kd, "temperature": temperature, "alpha": weight}},
                        "weight": 1.0,
                    }}},
                },
            }  # fmt: skip
            box = box_of(Averaged().eval(), student, {"train": data}, config, torch.device("cpu"), None, False, 1.0)
            for epoch in range(settings["epochs"]):
                box.pre_epoch_process(epoch=epoch)
                for inputs, labels, extra in box.train_data_loader:
                    box.post_forward_process(loss=box.forward_process(inputs, labels, extra))
                box.post_epoch_process()
            with torch.no_grad():
                wrong.append(int((student(judges).argmax(1).numpy() != held["y_validation"]).sum()))
    return {**found, "measured": len(wrong), "validation_errors": wrong}


def with_keras(task: Task) -> dict[str, Any]:
    """As the Keras guide has it, with the loss given explicitly."""
    keras = open_keras(task.way.split("-")[1])
    held, settings, found = digits(task), task.settings, {}
    whole = keras.Input((PIXELS,))
    outputs = [
        network_of(keras, PIXELS, Path(task.folder) / f"teacher-{member}")(whole)
        for member in range(settings["members"])
    ]
    teacher = keras.Model(whole, outputs[0] if len(outputs) == 1 else keras.layers.Average()(outputs))
    (temperature, weight), wrong = MEASURED, []
    inputs, judges = flat(held["x_train"]), flat(held["x_validation"])
    for seed in SEEDS[: settings["seeds"]]:
        with clocked(found, f"training {seed}"):
            keras.utils.set_random_seed(seed)
            student = dense_network(keras, PIXELS, [*settings["hidden"], CLASSES])
            learner = distiller(keras, teacher, student, temperature=temperature, weight=weight, rate=RATE)
            learner.fit(inputs, held["y_train"], batch_size=settings["batch"], epochs=settings["epochs"], verbose=0)
            answers = np.asarray(student.predict(judges, batch_size=1000, verbose=0)).argmax(1)
            wrong.append(int((answers != held["y_validation"]).sum()))
    return {**found, "measured": len(wrong), "validation_errors": wrong, "version": keras.__version__}
