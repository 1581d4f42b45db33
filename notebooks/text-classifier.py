# %% [markdown]
# # A text classifier
#
# A small transformer reads sentences and says what they are about; its student is a
# *bag of words*, which ignores the order and needs one table of numbers: a model for a
# phone or a search box.
#
# The texts are real and come with Python: the sentences of the standard library's
# docstrings, with the kind of module that each is from. Which sentences there are
# depends a little on your version of Python; the outputs here are from 3.11. It takes
# one to two minutes.

# %%
import ast
import re
import sysconfig
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

import limbeck

TOPICS = {
    "network": "http urllib socket ssl smtplib email ftplib imaplib socketserver xmlrpc ipaddress mailbox selectors",
    "files": "os pathlib shutil tempfile zipfile tarfile gzip lzma glob posixpath filecmp _pyio configparser csv",
    "numbers": "statistics fractions _pydecimal random numbers datetime calendar colorsys",
    "language": "ast inspect dis tokenize typing types code traceback importlib pkgutil dataclasses enum pickle",
    "processes": "threading asyncio multiprocessing queue subprocess concurrent sched contextlib",
    "testing": "unittest doctest pdb bdb pstats timeit trace logging warnings",
}
library = Path(sysconfig.get_path("stdlib"))
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(module):
    """All docstrings of a module or package of the standard library."""
    for file in sorted((library / module).rglob("*.py")) or [library / f"{module}.py"]:
        if file.is_file():
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, DOCUMENTED):
                    yield ast.get_docstring(node) or ""


found = {}  # a sentence that occurs twice is one example
for topic, modules in TOPICS.items():
    for text in (text for module in modules.split() for text in docstrings(module)):
        for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", text):
            words = tuple(re.findall(r"[a-z]+", sentence.lower()))
            if 5 <= len(words) <= 40:
                found.setdefault(words, topic)

sentences, topics = list(found), list(TOPICS)
labels = torch.tensor([topics.index(found[each]) for each in sentences])
print(f"{len(sentences):,} sentences")
for topic in topics:
    own = [each for each in sentences if found[each] == topic]
    print(f"{topic:10} {len(own):5,}   {' '.join(own[40])[:70]}")

# %% [markdown]
# ## From words to numbers
#
# A word's number is its place in the vocabulary, which is made from training sentences
# alone. 0 is padding, 1 an unknown word. A model sees int64 tensors as they are. (With
# `transformers` installed, `teacher` may be `"hf:a-folder"` and the data texts: Limbeck
# then uses each model's own tokenizer.)

# %%
shuffled = torch.Generator().manual_seed(0)
order = torch.randperm(len(sentences), generator=shuffled).tolist()
counts = {}
for row in order[:6000]:
    for word in sentences[row]:
        counts[word] = counts.get(word, 0) + 1
repeated = sorted(word for word, count in counts.items() if count > 1)
vocabulary = {word: number for number, word in enumerate(repeated, 2)}

tokens = torch.zeros(len(sentences), 40, dtype=torch.int64)
for row, words in enumerate(sentences):
    tokens[row, : len(words)] = torch.tensor(
        [vocabulary.get(word, 1) for word in words]
    )

# Sentences that differ in unknown words alone are one example, too.
first = {}
for row in order:
    first.setdefault(tuple(tokens[row].tolist()), row)
order = list(first.values())

train, validation, test = (
    (tokens[rows], labels[rows])
    for rows in (order[:6000], order[6000:7000], order[7000:])
)
size = len(vocabulary) + 2
print(f"{size:,} words, {len(test[1]):,} test sentences")


# %% [markdown]
# ## Teacher and student


# %%
class Transformer(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.words = nn.Embedding(size, width, padding_idx=0)
        self.places = nn.Embedding(40, width)
        self.block = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.3, batch_first=True
        )
        self.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, len(topics)))

    def forward(self, tokens):
        padding = tokens == 0
        found = self.block(
            self.words(tokens) + self.places.weight, src_key_padding_mask=padding
        )
        kept = found.masked_fill(padding[..., None], 0)
        return self.classifier(kept.sum(1) / (~padding).sum(1, keepdim=True))


class BagOfWords(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.words = nn.EmbeddingBag(size, width, mode="mean", padding_idx=0)
        self.classifier = nn.Linear(width, len(topics))

    def forward(self, tokens):
        return self.classifier(self.words(tokens))


def teacher(seed):
    torch.manual_seed(seed)
    return Transformer()


def student(seed):
    torch.manual_seed(seed)
    return BagOfWords()


settings = {"test": test, "classes": topics, "batch_size": 64}
trained = limbeck.train(
    teacher, train, validation, epochs=8, learning_rate=0.003, **settings
)
trained

# %% [markdown]
# Is the bag of words better for having heard the transformer? Two seeds of each:

# %%
run = limbeck.distill(
    trained.model, student, train, validation, epochs=10, learning_rate=0.01,
    temperature=2.0, hard_weight=0.3, seeds=2, **settings
)  # fmt: skip
run

# %% [markdown]
# ## Read the verdict, and mind what the test set is
#
# Sentences were divided at random, so the same modules speak in training and test. The
# figures are about further sentences *from these modules*. For a claim about modules
# that nobody has seen, divide by module, and the errors will be more.
#
# What has the student learned? Its answer to a single word shows:

# %%
with torch.no_grad():
    alone = torch.zeros(size, 40, dtype=torch.int64)
    alone[:, 0] = torch.arange(size)
    answers = run.student(alone).softmax(-1)
names = np.array(["", "?", *vocabulary])
often = torch.tensor([False, False, *(counts[word] >= 8 for word in vocabulary)])
figure, axes = plt.subplots(1, len(topics), figsize=(11, 2.6))
for axis, topic, chance in zip(
    axes, topics, answers.where(often[:, None], 0).T, strict=True
):
    best = chance.topk(7).indices.flip(0)
    axis.barh(names[best], chance[best].numpy())
    axis.set(title=topic, xlim=(0, 1), xticks=[0, 1])
    axis.tick_params(labelsize=8)
plt.show()

# %% [markdown]
# And on a sentence of your own:


# %%
def about(text):
    words = re.findall(r"[a-z]+", text.lower())[:40]
    row = torch.zeros(1, 40, dtype=torch.int64)
    row[0, : len(words)] = torch.tensor([vocabulary.get(word, 1) for word in words])
    found = limbeck.predict(run.student, row, classes=topics)
    return found.labels[0], f"{found.probabilities.max():.0%}"


for text in (
    "Open a connection to the mail server.",
    "Wait until all worker threads have finished.",
    "Return the median of the data.",
    "Remove the directory and everything in it.",
):
    print(*about(text), text)
