"""Words with tags and next tokens by commands alone: train, distil, soften, evaluate and predict."""

import csv
import json

import pandas
import pytest
import torch

from limbeck.data import open_data
from limbeck.data.position_files import open_words
from limbeck.evaluation.prediction import predict as answers_to
from limbeck.options import DataOptions
from limbeck.runs.models import load
from limbeck.softtargets import SoftTargets
from limbeck.system.hugging_face import transformers

FAST = ("--epochs", 1, "--batch-size", 64, "--precision", "float32", "--learning-rate", 0.01)
QUIET = (*FAST, "--quiet", "--json")


def tag_of(word, before):
    """IOB tags: some words begin a thing, and the one after such is inside."""
    if int(word[1:]) // 3 % 3 == 0 and before == "O":
        return "B-THING"
    return "I-THING" if before == "B-THING" else "O"


def tagged(text):
    found = []
    for word in text.split():
        found.append(tag_of(word, found[-1] if found else "O"))
    return found


@pytest.fixture
def conll(tmp_path, texts):
    """Files with a word, another column and a tag in each line."""
    for name, part in (("train", texts[:60]), ("dev", texts[60:75]), ("held_out", texts[75:])):
        blocks = ["\n".join(f"{w} X {t}" for w, t in zip(s.split(), tagged(s), strict=True)) for s in part]
        (tmp_path / f"{name}.conll").write_text("-DOCSTART- X O\n\n" + "\n\n".join(blocks) + "\n")
    return tmp_path


def rows_of(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_words_go_from_a_conll_file_to_predictions(conll, limbeck, architectures, texts):
    model = f"hf:{architectures / 'TokenClassification'}"
    data = ["--data", conll / "train.conll", "--validation-data", conll / "dev.conll", "--test-data",
            conll / "held_out.conll"]  # fmt: skip
    for command in (
        ["train", *data, "--model", model, "--out", conll / "teacher"],
        ["distill", *data, "--teacher", conll / "teacher", "--student", model, "--out", conll / "student"],
        ["soften", *data, "--teacher", conll / "teacher", "--out", conll / "store"],
        ["distill", *data, "--teacher-targets", conll / "store", "--student", model, "--out", conll / "stored"],
    ):
        flags = QUIET if command[0] != "soften" else ["--quiet"]
        done = limbeck(*command, *flags)
        assert done.code == 0, done.err
    held_out = texts[75:]
    words = [word for text in held_out for word in text.split()]
    metrics = json.loads((conll / "student/metrics.json").read_text())
    assert metrics["student"]["test_examples"] == len(words) and metrics["judged_on"] == "test"
    told = limbeck("evaluate", conll / "student", "--data", conll / "train.conll", "--test-data",
                   conll / "held_out.conll", "--json")  # fmt: skip
    assert told.code == 0, told.err
    assert json.loads(told.out)["test_errors"] == metrics["student"]["test_errors"]
    done = limbeck("predict", conll / "student", conll / "held_out.conll", "--out", conll / "tags.csv", "--quiet")
    assert done.code == 0, done.err
    rows = rows_of(conll / "tags.csv")
    assert [row["word"] for row in rows] == words
    assert [row["id"] for row in rows][:3] == [f"0:{place}" for place in range(3)]
    truth = [tag for text in held_out for tag in tagged(text)]
    wrong = sum(row["label"] != tag for row, tag in zip(rows, truth, strict=True))
    assert wrong == metrics["student"]["test_errors"]
    # The same words as lists in JSON lines, without tags.
    (conll / "new.jsonl").write_text("\n".join(json.dumps({"tokens": text.split()}) for text in held_out))
    again = limbeck("predict", conll / "student", conll / "new.jsonl", "--out", conll / "again.csv", "--quiet")
    assert again.code == 0, again.err
    assert rows_of(conll / "again.csv") == rows
    # Predictions of the training words are answers that a store can be made of, matched by their names.
    limbeck("predict", conll / "teacher", conll / "train.conll", "--out", conll / "all.csv", "--quiet")
    done = limbeck("soften", *data, "--from-file", conll / "all.csv", "--out", conll / "from file", "--quiet")
    assert done.code == 0, done.err
    train = open_data(
        DataOptions(**dict(zip(("data", "validation_data", "test_data"), map(str, data[1::2]), strict=True)))
    ).train
    batch = train.unseen().batch(torch.arange(len(train)))
    stores = [SoftTargets.open(conll / name, examples=train).log_probs(batch, 1.0) for name in ("store", "from file")]
    assert (stores[0] - stores[1]).abs().max() < 5e-3


def test_words_in_tables_are_those_of_the_conll_file(conll, texts):
    train, test = texts[:60], texts[75:]
    frame = pandas.DataFrame({"words": [s.split() for s in train], "ner": [tagged(s) for s in train],
                              "document": [f"d{n // 6}" for n in range(60)]})  # fmt: skip
    frame.to_parquet(conll / "train.parquet")
    listed = open_words(conll / "train.conll", test=conll / "held_out.conll")
    given = {"words_column": "words", "label_column": "ner", "test_data": None}
    datasets = pytest.importorskip("datasets")
    for source in (frame, conll / "train.parquet", datasets.Dataset.from_pandas(frame), {"train": frame}):
        data = open_data(source, **given)
        whole = sum(len(part) for part in data.parts().values())
        assert data.classes == listed.classes == ("B-THING", "I-THING", "O") and whole == len(listed.train)
    grouped = open_data(frame, **given, group_column="document", validation=0.2)
    owners = [set(part.inputs.group[part.inputs.sequence].tolist()) for part in grouped.parts().values()]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 10
    both = open_data({"train": frame, "test": frame[:2]}, **given)
    assert len(both.test) == sum(len(s.split()) for s in train[:2])
    assert len(listed.test) == sum(len(s.split()) for s in test)


def test_class_labels_of_hugging_face_name_the_classes(texts, limbeck):
    datasets = pytest.importorskip("datasets")
    names = ["O", "B-THING", "I-THING"]
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")),
                                  "tags": datasets.Sequence(datasets.ClassLabel(names=names))})  # fmt: skip
    columns = {"tokens": [t.split() for t in texts], "tags": [[names.index(x) for x in tagged(t)] for t in texts]}
    data = open_data(datasets.Dataset.from_dict(columns, features=features), words_column="tokens")
    assert data.classes == tuple(names)
    plain = open_words(pandas.DataFrame({"tokens": columns["tokens"], "tags": [tagged(t) for t in texts]}))
    order = [plain.classes.index(name) for name in names]
    assert [order[label] for label in data.train.labels.tolist()] == plain.train.labels.tolist()


@pytest.mark.slow
def test_next_tokens_go_from_a_file_of_texts_to_predictions(tmp_path, limbeck, architectures, texts):
    model = f"hf:{architectures / 'LMHeadModel'}"
    pandas.DataFrame({"body": texts}).to_csv(tmp_path / "texts.csv", index=False)
    data = ["--data", tmp_path / "texts.csv", "--text-column", "body", "--next-token"]
    flags = [*QUIET, "--max-length", 8]
    for command in (
        ["train", *data, *flags, "--model", model, "--out", tmp_path / "teacher"],
        ["distill", *data, *flags, "--teacher", tmp_path / "teacher", "--student", model,
         "--out", tmp_path / "student"],
        ["soften", *data, "--max-length", 8, "--quiet", "--teacher", tmp_path / "teacher", "--out", tmp_path / "store",
         "--k", 4],
    ):  # fmt: skip
        done = limbeck(*command)
        assert done.code == 0, done.err
    settings = (tmp_path / "student/config.toml").read_text()
    assert "next_token = true" in settings and "vocabulary = 64" in settings and "max_length = 8" in settings
    told = limbeck("evaluate", tmp_path / "student", "--data", tmp_path / "texts.csv", "--json")
    assert told.code == 0, told.err
    metrics = json.loads((tmp_path / "student/metrics.json").read_text())
    assert json.loads(told.out)["test_errors"] == metrics["student"]["test_errors"]
    done = limbeck("predict", tmp_path / "student", tmp_path / "texts.csv", "--text-column", "body", "--top", 2,
                   "--out", tmp_path / "next.jsonl", "--quiet")  # fmt: skip
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (tmp_path / "next.jsonl").read_text().splitlines()]
    assert len(rows) == sum(len(text.split()) - 1 for text in texts)
    longest = max(range(90), key=lambda row: len(texts[row].split()))
    mine = [row for row in rows if row["id"].startswith(f"{longest}:")]
    assert [row["word"] for row in mine] == texts[longest].split()[:-1]
    assert [row["id"] for row in mine] == [f"{longest}:{place}" for place in range(len(mine))]
    network, loaded = load(tmp_path / "student"), transformers().AutoTokenizer.from_pretrained(model[3:])
    ids = loaded(texts[longest], return_tensors="pt")["input_ids"][:, :8]
    with torch.no_grad():
        first = network(ids).logits[0].argmax(-1).tolist()
    assert [row["class_1"] for row in mine[:8]] == loaded.convert_ids_to_tokens(first)


def test_a_hugging_face_teacher_answers_texts_of_a_data_set_and_of_a_frame(tmp_path, limbeck, architectures, texts):
    datasets = pytest.importorskip("datasets")
    labels = ["long" if len(text.split()) > 9 else "short" for text in texts]
    frame = pandas.DataFrame({"body": texts, "kind": labels})
    frame.to_csv(tmp_path / "all.csv", index=False)
    from_file, *others = (
        open_data(source, text_column="body", label_column="kind")
        for source in (
            tmp_path / "all.csv",
            frame,
            datasets.Dataset.from_pandas(frame),
            datasets.DatasetDict({"train": datasets.Dataset.from_pandas(frame)}),
        )  # fmt: skip
    )
    for other in others:
        assert other.identity() == from_file.identity()
    model = f"hf:{architectures / 'SequenceClassification'}"
    done = limbeck("train", "--data", tmp_path / "all.csv", "--text-column", "body", "--label-column", "kind",
                   "--model", model, "--max-length", 12, "--out", tmp_path / "run", *QUIET)  # fmt: skip
    assert done.code == 0, done.err
    network = load(tmp_path / "run")
    assert network.presentation.max_length == 12
    done = limbeck("predict", tmp_path / "run", tmp_path / "all.csv", "--out", tmp_path / "said.csv", "--quiet")
    assert done.code == 0, done.err
    whole = open_data(frame, text_column="body", label_column="kind")
    both = {int(n): row for part in whole.parts().values()
            for n, row in zip(part.index, answers_to(network, part).exp().tolist(), strict=True)}  # fmt: skip
    for row in rows_of(tmp_path / "said.csv"):
        assert [float(row["prob_long"]), float(row["prob_short"])] == pytest.approx(both[int(row["id"])], abs=1e-5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--words-column", "tokens", "--text-column", "text"],
            "--text-column and --words-column contradict each other",
        ),
        (["--next-token", "--words-column", "tokens"], "--next-token is for language modelling, and --words-column"),
        (["--vocabulary", 9], "belongs to --next-token"),
        (["--words-column", "word"], "give that of the words as a number from 1, and not as 'word'"),
        (["--label-column", 9], "line 3 has 3 columns, and a word and its tag are needed"),
        (["--label-column", 1], "words and tags cannot be the same column of train.conll"),
        (["--group-column", "document"], "the columns of CoNLL files have no names"),
        (["--label-columns", "a", "b"], "--label-columns is for"),
        (["--test-data", "nowhere.conll"], "nowhere.conll: there is no such file"),
        (["--model", "hf:./nowhere"], "nowhere: there is no such folder"),
        (["--model", "timm:no_such_net"], "knows no network 'no_such_net'"),
        (["--model", "no_such_module:net"], "the module no_such_module cannot be imported"),
    ],
)  # fmt: skip
def test_what_contradicts_or_is_not_there_is_told_in_a_line(conll, limbeck, architectures, flags, message):
    model = [] if "--model" in flags else ["--model", f"hf:{architectures / 'TokenClassification'}"]
    done = limbeck("train", "--data", conll / "train.conll", *model, "--out", conll / "run", *flags)
    assert done.code == 2 and message in " ".join(done.err.split()), done.err
    assert not (conll / "run").exists()


def test_models_and_columns_are_looked_at_before_rows_are_read(tmp_path, limbeck, architectures, other_tokenizer):
    """A file whose rows cannot be read would be told first, were it read first."""
    broken = tmp_path / "broken.csv"
    broken.write_text("text,label\nonly one field\n")
    odd = tmp_path / "odd"
    hf = transformers()
    hf.BertConfig(vocab_size=20, hidden_size=16, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
                  architectures=["BertForSequenceClassification"]).save_pretrained(odd)  # fmt: skip
    hf.AutoTokenizer.from_pretrained(other_tokenizer).save_pretrained(odd)
    begin = ["--data", broken, "--text-column", "text", "--out", tmp_path / "run"]
    good = f"hf:{architectures / 'SequenceClassification'}"
    for command, message in (
        (["train", *begin, "--model", f"hf:{odd}"], "has 20 tokens, and its tokenizer"),
        (["distill", *begin, "--student", good, "--teacher", f"hf:{odd}"], "has no weights, only a configuration"),
        (["distill", *begin, "--student", good, "--teacher", tmp_path / "gone"], "gone: there is no such file"),
        (["soften", *begin, "--teacher", tmp_path], "is not a run with a model"),
        (
            ["train", *begin, "--model", good, "--label-column", "y"],
            "has no column 'y': its columns are 'text', 'label'",
        ),
        (["train", *begin, "--model", good], "line 2 has 1 fields"),
    ):
        done = limbeck(*command)
        assert done.code == 2 and message in " ".join(done.err.split()), done.err


@pytest.mark.slow
def test_heads_of_regression_are_refused(tmp_path, limbeck, architectures):
    pandas.DataFrame({"text": ["w1", "w2"] * 20, "label": [0, 1] * 20}).to_csv(tmp_path / "a.csv", index=False)
    hf = transformers()
    torch.manual_seed(0)
    folder, good = architectures / "SequenceClassification", f"hf:{architectures / 'SequenceClassification'}"
    sizes = {**hf.AutoConfig.from_pretrained(folder).to_diff_dict(), "num_labels": 1}
    data = ["--data", tmp_path / "a.csv", "--text-column", "text"]
    for said, code in ((None, 2), ("regression", 2), ("multi_label_classification", 0)):
        one = tmp_path / f"one {said}"
        hf.BertForSequenceClassification(hf.BertConfig(**{**sizes, "problem_type": said})).save_pretrained(one)
        hf.AutoTokenizer.from_pretrained(folder).save_pretrained(one)
        done = limbeck("distill", *data, "--teacher", f"hf:{one}", "--student", good, *QUIET, "--out",
                       tmp_path / f"run {said}")  # fmt: skip
        assert done.code == code, done.err
        assert code == 0 or "is for regression" in " ".join(done.err.split())
    # One logit is that of the second class.
    network = hf.AutoModelForSequenceClassification.from_pretrained(one).eval()
    tokens = hf.AutoTokenizer.from_pretrained(folder)(["w1", "w2"], return_tensors="pt")
    limbeck("soften", *data, "--teacher", f"hf:{one}", "--out", tmp_path / "store", "--quiet")
    with torch.no_grad():
        wanted = torch.sigmoid(network(**tokens).logits.flatten())
    train = open_data(DataOptions(data=str(tmp_path / "a.csv"), text_column="text")).train
    found = (
        SoftTargets.open(tmp_path / "store", examples=train).log_probs(train.unseen().batch(torch.arange(9)), 1.0).exp()
    )
    assert (found[:, 1] - wanted[train.labels[:9]]).abs().max() < 2e-3
