"""A Hugging Face text classifier, distilled into a tiny one from a CSV file of texts and labels."""

import limbeck
from limbeck.data import cut_validation
from limbeck.data.text_files import open_text

data = cut_validation(open_text("reviews.csv", text_column="text", label_column="label"), 0.1)
run = limbeck.distill("hf:bert-finetuned", "hf:tiny-config", data, epochs=3, out="runs/text")
print(run.verdict)
