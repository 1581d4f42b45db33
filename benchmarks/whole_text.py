"""The texts of ``whole_job.py``: a BERT of two layers distilled from one of four, both made from configurations.

The loop has Hugging Face's usual form: texts are tokenised once, shuffled, and a batch is padded to its longest. Texts
are made up of words that are more or less frequent in each of eight classes; their lengths differ tenfold.
"""

import csv
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from text_pair import save_tokenizer
from whole_common import Task, clocked, plain_loss, step_operations, stopwatch, warm_up
from whole_images import errors, stepwise

TEMPERATURE, WEIGHT, RATE, LENGTH, CLASSES = 4.0, 0.1, 1e-3, 64, 8
WAYS = ("limbeck", "limbeck-stored", "loop")


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts of classes with words of their own, of 6 to 60 words."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        kind = draw.randrange(CLASSES)
        words = []
        for _ in range(min(60, 6 + int(draw.expovariate(1 / 14)))):
            topic = kind if draw.random() < 0.35 else draw.randrange(CLASSES)
            words.append(f"w{topic * 250 + min(249, int(draw.expovariate(1 / 60)))}")
        found.append((" ".join(words), f"class{kind}"))
    return found


def prepare(folder: Path, *, count: int, epochs: int, sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """Texts, a tokenizer, two configurations, and a teacher that was trained on the texts."""
    import transformers

    import limbeck

    for seed, (part, some) in enumerate((("train", count), ("test", max(64, count // 4)))):
        (folder / "texts").mkdir(exist_ok=True)
        with open(folder / "texts" / f"{part}.csv", "w", newline="") as stream:
            csv.writer(stream).writerows([("text", "label"), *texts(some, seed)])
    for name, (layers, width) in zip(("teacher", "student"), sizes, strict=True):
        save_tokenizer((text for text, _ in texts(count, 0)), folder / f"bert-{name}", 2200)
        transformers.BertConfig(
            vocab_size=2200, hidden_size=width, num_hidden_layers=layers, num_attention_heads=max(1, width // 64),
            intermediate_size=4 * width, max_position_embeddings=LENGTH, num_labels=CLASSES,
            architectures=["BertForSequenceClassification"],
        ).save_pretrained(folder / f"bert-{name}")  # fmt: skip
    run = limbeck.train(
        f"hf:{folder / 'bert-teacher'}", opened(folder), epochs=epochs, batch_size=32, learning_rate=3e-4,
        warmup_epochs=0.25, progress=False,
    )  # fmt: skip
    limbeck.save_model(folder / "teacher", run.model, classes=[f"class{n}" for n in range(CLASSES)], overwrite=True)


def opened(folder: Path) -> Any:
    """The texts as a data set."""
    import limbeck

    return limbeck.open_data(str(folder / "texts"), text_column="text", validation=0)


def with_limbeck(task: Task) -> dict[str, Any]:
    """From live or stored answers."""
    import limbeck

    settings, found, folder = task.settings, {}, Path(task.folder)
    teacher: Any = limbeck.load(folder / "teacher")
    warm_up()
    _ = limbeck.distill
    watch = stopwatch()
    with tempfile.TemporaryDirectory() as store, clocked(found, "all"):
        data = opened(folder)
        with clocked(found, "answers"):
            if task.way.endswith("stored"):
                limbeck.SoftTargets.write(store, teacher, data.train, classes=data.classes, progress=False)
                teacher = limbeck.SoftTargets.open(store)
        with clocked(found, "training"):
            run = limbeck.distill(
                teacher, f"hf:{folder / 'bert-student'}", data, temperature=TEMPERATURE, hard_weight=WEIGHT,
                baseline=False, epochs=settings["epochs"], batch_size=settings["batch"], learning_rate=RATE,
                keep="last", progress=False, seed=task.seed,
                callbacks=watch,
            )  # fmt: skip
    return {**found, "stepping": watch.seconds, "errors": errors(run.student, data), "steps": settings["steps"]}


def with_loop(task: Task) -> dict[str, Any]:
    """As a script with transformers has it."""
    import torch
    import transformers
    from torch.utils.data import DataLoader

    import limbeck

    settings, found, folder = task.settings, {}, Path(task.folder)
    teacher: Any = limbeck.load(folder / "teacher")
    teacher.eval()
    torch.manual_seed(task.seed)
    config = transformers.AutoConfig.from_pretrained(folder / "bert-student")
    student = transformers.AutoModelForSequenceClassification.from_config(config).train()
    warm_up()
    with clocked(found, "all"), clocked(found, "training"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "bert-student")
        with open(folder / "texts" / "train.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        seen = tokenizer([row["text"] for row in rows], truncation=True, max_length=LENGTH)
        labels = [int(row["label"].removeprefix("class")) for row in rows]
        items = [
            {"input_ids": ids, "attention_mask": mask, "labels": label}
            for ids, mask, label in zip(seen["input_ids"], seen["attention_mask"], labels, strict=True)
        ]
        collate = transformers.DataCollatorWithPadding(tokenizer)
        loader: Any = DataLoader(items, batch_size=settings["batch"], shuffle=True, collate_fn=collate)
        optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings["epochs"] * len(loader))
        with clocked(found, "stepping"):
            for _ in range(settings["epochs"]):
                for batch in loader:
                    known = batch.pop("labels")
                    with torch.no_grad():
                        answers = teacher(**batch).logits
                    logits = student(**batch).logits
                    loss = plain_loss(logits, answers, known, temperature=TEMPERATURE, weight=WEIGHT)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
    student.presentation = teacher.presentation
    return {**found, "errors": errors(student, opened(folder)), "steps": settings["steps"]}


def child(task: Task) -> dict[str, Any]:
    """One way of the texts."""
    return with_loop(task) if task.way == "loop" else with_limbeck(task)


def measure(
    ways: Sequence[str], run: Callable[[Task], dict[str, Any]], folder: Path, *, quick: bool, rounds: int, rate: float
) -> list[dict[str, Any]]:
    """All ways in turns; the arguments are those of the search."""
    import torch
    import transformers

    sizes = ((1, 16), (1, 16)) if quick else ((4, 256), (2, 128))
    count, epochs, batch = (96, 1, 32) if quick else (2000, 3, 32)
    if not (folder / "teacher").exists():
        prepare(folder, count=count, epochs=1 if quick else 4, sizes=sizes)
    steps = epochs * -(-count // batch)
    config = transformers.AutoConfig.from_pretrained(folder / "bert-student")
    made = transformers.AutoModelForSequenceClassification.from_config(config)
    # The arithmetic of the tokens that there are: padding is not counted.
    mean = sum(min(LENGTH, 2 + len(text.split())) for text, _ in texts(count, 0)) / count
    ids = torch.ones(batch, LENGTH, dtype=torch.int64)
    work = step_operations(made, {"input_ids": ids, "attention_mask": ids}) * mean / LENGTH
    settings = {"epochs": epochs, "batch": batch, "steps": steps}
    name = " of ".join(f"BERT {layers}x{width}" for layers, width in reversed(sizes))
    return stepwise("text", name, ways, run, folder, settings, rounds, work / rate)
