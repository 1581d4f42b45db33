"""A Hugging Face data set of texts and labels; its texts stay on the disk, and each model has its own tokenizer."""

import datasets

import limbeck

data = datasets.load_from_disk("reviews")  # a DatasetDict with train, validation and test
run = limbeck.distill("hf:bert-finetuned", "hf:tiny-config", data, epochs=3, out="runs/reviews")
print(run.verdict)
