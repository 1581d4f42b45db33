"""The job of examples/next_token.py with Hugging Face's Trainer: no baseline, no verdict."""

import torch
from datasets import load_dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

T, WEIGHT = 4.0, 0.5
tokenizer = AutoTokenizer.from_pretrained("gpt")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
teacher = AutoModelForCausalLM.from_pretrained("gpt").eval()
student = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained("tiny-gpt"))
parts = load_dataset("json", data_files="texts.jsonl", split="train").train_test_split(0.1, seed=0)
encoded = parts.map(
    lambda rows: tokenizer(rows["text"], truncation=True, max_length=128), batched=True, remove_columns=["text"]
).filter(lambda row: len(row["input_ids"]) > 1)


class Distiller(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **_):
        out = model(**inputs)
        with torch.no_grad():
            taught = teacher(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        held = inputs["labels"][:, 1:] != -100
        own = (out.logits[:, :-1][held] / T).log_softmax(-1)
        target = (taught[:, :-1][held] / T).log_softmax(-1)
        soft = torch.nn.functional.kl_div(own, target, reduction="batchmean", log_target=True)
        loss = WEIGHT * out.loss + (1 - WEIGHT) * T * T * soft
        return (loss, out) if return_outputs else loss


settings = TrainingArguments("runs/next", num_train_epochs=3, report_to=[], use_cpu=not torch.cuda.is_available())
collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
trainer = Distiller(
    student, settings, train_dataset=encoded["train"], eval_dataset=encoded["test"], data_collator=collate
)
trainer.train()
print(trainer.evaluate())
