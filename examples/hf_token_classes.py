"""A Hugging Face model for token classes, distilled from sentences of words with a tag each."""

import limbeck
from limbeck.data import cut_validation
from limbeck.data.position_files import open_words

data = cut_validation(open_words("tagged.jsonl", words_column="tokens", labels_column="tags"), 0.1)
run = limbeck.distill("hf:bert-tagger", "hf:tiny-tagger", data, batch_size=512, epochs=3, out="runs/tags")
print(run.verdict)
