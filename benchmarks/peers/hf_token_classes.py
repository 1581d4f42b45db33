"""The job of examples/hf_token_classes.py with Hugging Face's Trainer: no baseline, no verdict."""

import torch
from datasets import load_dataset
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

T, WEIGHT = 4.0, 0.1
tokenizers = {name: AutoTokenizer.from_pretrained(name) for name in ("bert-tagger", "tiny-tagger")}
teacher = AutoModelForTokenClassification.from_pretrained("bert-tagger").eval()
config = AutoConfig.from_pretrained("tiny-tagger", label2id=teacher.config.label2id, id2label=teacher.config.id2label)
student = AutoModelForTokenClassification.from_config(config)
parts = load_dataset("json", data_files="tagged.jsonl", split="train").train_test_split(0.1, seed=0)


def encode(rows, name):
    found = tokenizers[name](rows["tokens"], is_split_into_words=True, truncation=True)
    labels = []
    for row, tags in enumerate(rows["tags"]):
        words = found.word_ids(row)
        first = [word is not None and word != before for word, before in zip(words, [None, *words[:-1]])]
        labels.append([teacher.config.label2id[tags[word]] if begins else -100 for word, begins in zip(words, first)])
    return {**found, "labels": labels}


def encode_both(rows):
    taught = encode(rows, "bert-tagger")
    return {**encode(rows, "tiny-tagger"), **{f"teacher_{name}": values for name, values in taught.items()}}


encoded = parts.map(encode_both, batched=True, remove_columns=["tokens", "tags"])
pads = {name: DataCollatorForTokenClassification(each) for name, each in tokenizers.items()}


def collate(rows):
    own = [{name: values for name, values in row.items() if not name.startswith("teacher_")} for row in rows]
    taught = [{name[8:]: values for name, values in row.items() if name.startswith("teacher_")} for row in rows]
    return {**pads["tiny-tagger"](own), "for_teacher": pads["bert-tagger"](taught)}


class Distiller(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **_):
        for_teacher = inputs.pop("for_teacher")
        out = model(**inputs)
        with torch.no_grad():
            logits = teacher(**for_teacher).logits[for_teacher["labels"] != -100]
        own = (out.logits[inputs["labels"] != -100] / T).log_softmax(-1)
        soft = torch.nn.functional.kl_div(own, (logits / T).log_softmax(-1), reduction="batchmean", log_target=True)
        loss = WEIGHT * out.loss + (1 - WEIGHT) * T * T * soft
        return (loss, out) if return_outputs else loss


def accuracy(found):
    held = found.label_ids != -100
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids)[held].mean())}


settings = TrainingArguments(
    "runs/tags", num_train_epochs=3, remove_unused_columns=False, report_to=[], use_cpu=not torch.cuda.is_available()
)
trainer = Distiller(
    student,
    settings,
    train_dataset=encoded["train"],
    eval_dataset=encoded["test"],
    data_collator=collate,
    compute_metrics=accuracy,
)
trainer.train()
print(trainer.evaluate())
