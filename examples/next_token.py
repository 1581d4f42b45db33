"""A language model, distilled into a tiny one of the same vocabulary: every position learns its next token's class."""

import limbeck
from limbeck.data import cut_validation
from limbeck.data.position_files import open_next_tokens

data = cut_validation(open_next_tokens("texts.jsonl", limbeck.TextPresentation("gpt", max_length=128)), 0.1)
run = limbeck.distill("hf:gpt", "hf:tiny-gpt", data, batch_size=1024, epochs=3, hard_weight=0.5, out="runs/next")
print(run.verdict)
