"""Classifiers of Hugging Face's: from folders and configurations, matched to the data's classes, saved and loaded."""

import json
import shutil
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

import limbeck
from limbeck.data.text_files import open_text
from limbeck.errors import ConfigError, FormatError, LimbeckWarning, MismatchError
from limbeck.evaluation.prediction import predict
from limbeck.models import build, describe, from_options
from limbeck.models.calling import call_model
from limbeck.models.hf_models import build_hf, hf_model, hf_teacher
from limbeck.options import ModelOptions, TextPresentation
from limbeck.runs.models import load, save_model
from limbeck.runs.models_for_data import load_teacher
from limbeck.system.hugging_face import transformers

SIZES = {"vocab_size": 64, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2}
NAMES = ["bad", "fair", "good"]


@pytest.fixture
def folder(tmp_path, bert, tokenizer):
    """A classifier of three named classes, with its tokenizer."""
    shutil.copytree(tokenizer, tmp_path / "bert")
    bert.config.id2label = dict(enumerate(NAMES))
    bert.config.label2id = {name: number for number, name in enumerate(NAMES)}
    bert.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def bare(tmp_path, tokenizer):
    """A configuration and a tokenizer, without weights."""
    shutil.copytree(tokenizer, tmp_path / "bare")
    transformers().DistilBertConfig(
        vocab_size=64, dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=30
    ).save_pretrained(tmp_path / "bare")
    return tmp_path / "bare"


@pytest.fixture
def reviews(tmp_path, texts):
    rows = [json.dumps({"text": text, "label": NAMES[len(text.split()) % 3]}) for text in texts]
    (tmp_path / "reviews.jsonl").write_text("\n".join(rows))
    return tmp_path / "reviews.jsonl"


def test_a_folder_is_read_as_it_was_saved(folder, bert):
    teacher, student = hf_teacher(f"hf:{folder}", NAMES), hf_model(str(folder), NAMES, seed=5)
    for model in (teacher, student):
        assert type(model) is type(bert) and model.classes == tuple(NAMES)
        assert model.presentation == TextPresentation(
            str(folder), 40, ("input_ids", "attention_mask", "token_type_ids")
        )
        assert all(torch.equal(value, bert.state_dict()[name]) for name, value in model.state_dict().items())
    assert student.training and not teacher.training


def test_a_head_of_other_classes_is_new_and_the_rest_is_kept_for_every_seed(folder, bert):
    ours = ["a", "b", "c", "d", "e"]
    one, again, other = (hf_model(str(folder), ours, seed=seed).state_dict() for seed in (1, 1, 2))
    assert one["classifier.weight"].shape == (5, 32)
    assert all(torch.equal(one[name], again[name]) for name in one)
    differ = [name for name in one if not torch.equal(one[name], other[name])]
    assert differ == ["classifier.weight"]
    kept = [name for name in one if "classifier" not in name]
    assert all(torch.equal(one[name], bert.state_dict()[name]) for name in kept)


def test_a_configuration_alone_makes_a_network_from_the_seed(bare):
    before = torch.get_rng_state()
    one, again, other = (hf_model(str(bare), NAMES, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert one.config.num_labels == 3 and one.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    # DistilBERT takes no token_type_ids, which this tokenizer gives.
    assert one.presentation == TextPresentation(str(bare), 30, ("input_ids", "attention_mask"))
    with pytest.raises(ConfigError, match="has no weights, only a configuration"):
        hf_teacher(str(bare), NAMES)
    options = from_options(ModelOptions(model=f"hf:{bare}"), input_shape=(5,), classes=3, class_names=NAMES, seed=1)
    assert torch.equal(options.classifier.weight, one.classifier.weight) and options.classes == tuple(NAMES)
    with pytest.raises(ConfigError, match=r"dropout has no meaning for hf:.*: set it in its config.json"):
        ModelOptions(model=f"hf:{bare}", dropout=0.5)


def test_a_teacher_s_classes_are_put_in_the_order_of_the_data(folder, bert):
    ids = {"input_ids": torch.tensor([[2, 8, 9, 3], [2, 30, 31, 3]])}
    wanted = bert(**ids).logits
    order = ["good", "bad", "fair"]
    found = hf_teacher(str(folder), order)
    assert torch.equal(call_model(found, ids), wanted[:, [2, 0, 1]]) and found.classes == tuple(order)
    assert found.presentation.tokenizer == str(folder)
    with pytest.raises(MismatchError, match=r"has no class 'great', which the data have: its classes are bad, fair"):
        hf_teacher(str(folder), ["bad", "fair", "great"])
    with pytest.raises(MismatchError, match="has 3 classes, and the data have 2"):
        hf_teacher(str(folder), ["bad", "good"])
    # Numbers say nothing against the model's order.
    assert torch.equal(call_model(hf_teacher(str(folder), ["0", "1", "2"]), ids), wanted)


@pytest.mark.parametrize("kind", ["Gpt2", "Roberta", "Vit"])
def test_other_architectures(tmp_path, kind, tokenizer, other_tokenizer, texts):
    hf = transformers()
    if kind == "Vit":
        config = hf.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                              image_size=8, patch_size=4)  # fmt: skip
        config.save_pretrained(tmp_path)
        processor = {"size": {"height": 8, "width": 8}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
        model = hf_model(str(tmp_path), ["cat", "dog"])
        assert model.presentation.size == (8, 8) and model.presentation.std == (0.25,) * 3
        assert type(model).__name__ == "ViTForImageClassification"
        assert call_model(model, {"pixel_values": torch.zeros(2, 3, 8, 8)}).shape == (2, 2)
        return
    if kind == "Gpt2":
        hf.GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=30).save_pretrained(tmp_path)
        model, names, most = (
            hf_model(str(tmp_path), NAMES, tokenizer=other_tokenizer),
            ("input_ids", "attention_mask"),
            30,
        )
    else:
        hf.RobertaConfig(**SIZES, intermediate_size=16, max_position_embeddings=30).save_pretrained(tmp_path)
        names, most = ("input_ids", "attention_mask", "token_type_ids"), 28
        model = hf_model(str(tmp_path), NAMES, tokenizer=tokenizer)
    assert model.presentation.names == names and model.presentation.max_length == most
    long = limbeck.Examples.of(limbeck.data.text.Text([*texts, "w1 " * 99], presentation=model.presentation))
    together, alone = (predict(model, long, batch_size=size) for size in (91, 1))
    assert (together - alone).abs().max() < 1e-5
    with pytest.raises(ConfigError, match=f"max_length is {most + 1}, and model .* takes {most} tokens at most"):
        hf_model(str(tmp_path), NAMES, tokenizer=tokenizer, max_length=most + 1)


def test_what_is_saved_is_loaded_without_the_folder_it_came_from(folder, bare, tmp_path, texts):
    for number, (name, classes) in enumerate([(bare, NAMES), (folder, ["x", "y"])]):
        model = hf_model(str(name), classes, seed=3, max_length=20)
        saved = save_model(tmp_path / f"run{number}", model, classes=classes)
        examples = limbeck.Examples.of(limbeck.data.text.Text(texts))
        wanted = predict(model, examples)
        shutil.rmtree(name)
        again = load(saved)
        assert type(again) is type(model) and again.classes == tuple(classes)
        assert again.presentation.tokenizer == str(saved / "tokenizer") and again.presentation.max_length == 20
        assert torch.equal(predict(again, examples), wanted)
        assert str(tmp_path) not in (saved / "config.json").read_text()
        described = json.loads((saved / "config.json").read_text())
        assert described["model_type"] == "hf" and described["architecture"] == type(model).__name__
        file = saved / "tokenizer" / "tokenizer.json"
        file.write_bytes(file.read_bytes().replace(b"w7", b"w8"))
        with pytest.raises(FormatError, match="tokenizer.json"):
            load(saved)


def test_a_model_whose_parts_were_replaced_is_the_user_s_own(bare):
    model = hf_model(str(bare), NAMES)
    assert build({**describe(model)}).config.dim == 16
    model.classifier = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Linear(8, 3))
    assert describe(model) is None


def test_nothing_is_executed_out_of_a_file(folder, bare, tmp_path):
    model = hf_model(str(bare), NAMES)
    described = describe(model)
    described.pop("model_type")
    for odd in ("os", "AutoModelForCausalLM", "BertConfig", "BertModel", "__class__", "pipeline"):
        with pytest.raises(ConfigError, match="is not a classifier of transformers"):
            build_hf({**described, "architecture": odd})
    for name in ("attn_implementation", "_attn_implementation", "auto_map", "quantization_config"):
        made = build_hf({**described, "config": {**described["config"], name: "someone/kernel"}})
        assert made.config._attn_implementation in {"eager", "sdpa"} and not hasattr(made.config, "auto_map")
    with pytest.raises(ConfigError, match="cannot be built"):
        build_hf({**described, "config": {**described["config"], "n_heads": 7}})
    with pytest.raises(ConfigError, match="described by architecture and config"):
        build_hf({"architecture": "BertModel"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attn_implementation": "someone/kernel"}))
    with pytest.raises(ConfigError, match="a kernel of its own"):
        hf_model(str(folder), NAMES)
    odd = {**config, "auto_map": {"AutoConfig": "code.Config"}, "model_type": "unheard-of"}
    (folder / "config.json").write_text(json.dumps(odd))
    with pytest.raises(ConfigError, match="it needs remote code, and Limbeck executes no code"):
        hf_model(str(folder), NAMES)
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="in pytorch_model.bin, and Limbeck executes no code from files"):
        hf_model(str(folder), NAMES)
    del weights["classifier.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"no weights for classifier.weight: it was not trained to classify"):
        hf_teacher(str(folder), NAMES)


def unreachable(*_):
    raise OSError("no network")


def test_what_is_missing_is_told(tmp_path, bare, monkeypatch):
    with pytest.raises(ConfigError, match=r"nowhere: there is no such folder"):
        hf_model(str(tmp_path / "nowhere"), NAMES)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"no model of that name on the disk or to be had from the hub"):
        hf_model("hf:no-such-owner/no-such-model", NAMES)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the hub was asked again"))
    with pytest.raises(ConfigError, match=r"no model of that name on the disk, and huggingface.co cannot be reached"):
        hf_model("hf:no-such-owner/no-such-model", NAMES)
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps({**config, "vocab_size": 20}))
    with pytest.raises(ConfigError, match=r"has 20 tokens, and its tokenizer .* has 64"):
        hf_model(str(bare), NAMES)
    transformers().T5Config().save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text(json.dumps({"model_type": "sam"}))
    with pytest.raises(ConfigError, match="there is no classifier of type sam"):
        hf_model(str(tmp_path / "other"), NAMES)


def test_a_run_of_texts_from_a_teacher_to_a_student_of_another_kind(folder, bare, reviews, tmp_path):
    student = ModelOptions(model=f"hf:{bare}")
    data = open_text(reviews, presentation=hf_model(str(bare), NAMES).presentation)
    teacher = load_teacher([f"hf:{folder}"], data=data)
    maker = limbeck.runs.models_for_data.model_maker(student, data)
    with pytest.warns(LimbeckWarning, match="the teacher has .* accuracy on"):
        run = limbeck.distill(teacher, maker, data, epochs=1, out=tmp_path / "run", precision="float32")
    assert run.metrics["teacher"]["parameters"] > run.metrics["student"]["parameters"]
    again = load(tmp_path / "run")
    assert torch.equal(predict(again, data.test), predict(run.student, data.test))


def test_the_command_line_from_texts_to_a_report(folder, bare, reviews, tmp_path, capsys):
    from limbeck.cli import main

    def code(*words):
        try:
            main(list(words))
        except SystemExit as ended:
            return ended.code or 0
        return 0

    texts = ["--data", str(reviews), "--text-column", "text", "--label-column", "label"]
    pair = ["--teacher", f"hf:{folder}", "--student", f"hf:{bare}", "--out", str(tmp_path / "run")]
    assert code("distill", *texts, *pair, "--epochs", "1", "--quiet") == 0
    assert (tmp_path / "run" / "report.html").exists()
    assert code("evaluate", str(tmp_path / "run"), *texts) == 0
    assert code("distill", *texts, *pair[:2], "--student", "mlp", "--out", str(tmp_path / "x"), "--quiet") == 2
    told = capsys.readouterr().err
    assert "the examples are texts, and the model does not say how it sees them: give hf:FOLDER" in told
