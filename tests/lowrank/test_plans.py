"""Plans: the rules' arithmetic, budgets against other rules, files, and plans for another network."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.errors import ConfigError, DataError, FormatError, MismatchError
from limbeck.losses import soft_target_loss, softened
from limbeck.lowrank import RankPlan, Spectrum, apply, decompose, look, parse_bytes, plan_ranks, weigh

RANKS = {"0": 112, "2": 117, "4": 124, "6": 232}


def speech_network(decays=None, *, seed=0):
    """A 429-512-256-512-913 ReLU network; with decays, each layer's spectrum falls as a power of the rank."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential()
    widths = (429, 512, 256, 512, 913)
    for number, (n, m) in enumerate(zip(widths, widths[1:], strict=False)):
        layer = nn.Linear(n, m)
        with torch.no_grad():
            if decays is not None:
                left = torch.linalg.qr(torch.randn(m, min(m, n), generator=generator))[0]
                right = torch.linalg.qr(torch.randn(n, min(m, n), generator=generator))[0]
                values = torch.arange(1.0, min(m, n) + 1) ** -decays[number]
                layer.weight.copy_((left * values) @ right.T * (2 * m / values.square().sum()).sqrt())
            else:
                layer.weight.normal_(0, (2 / n) ** 0.5, generator=generator)
            layer.bias.normal_(0, 0.1, generator=generator)
        net.extend([layer, nn.ReLU()])
    return net[:-1]


@pytest.fixture(scope="module")
def speech():
    net = speech_network((0.4, 1.0, 0.7, 1.2))
    generator = torch.Generator().manual_seed(1)
    scales = torch.arange(1.0, 430) ** -0.5
    inputs = torch.randn(1600, 429, generator=generator) * scales
    return net, inputs[:1000], inputs[1000:]


def output_error(net, small, inputs):
    with torch.no_grad():
        wanted = net(inputs)
        return float((wanted - small(inputs)).square().sum(-1).mean() / wanted.var(0).sum())


def test_the_older_scripts_numbers():
    net = speech_network()
    spectrum = look(net, most=232)
    plan = plan_ranks(spectrum, rank=RANKS)
    assert sum(layer.parameters for layer in plan.layers) == 949_248
    assert sum(layer.parameters_after for layer in plan.layers) == 621_080
    assert [layer.parameters_after for layer in plan.layers] == [105_392, 89_856, 95_232, 330_600]
    assert sum(p.numel() for p in apply(plan, net).parameters()) == 621_080 + 512 + 256 + 512 + 913
    text = str(plan)
    assert "913 x 512" in text and "232" in text and "951,441 -> 623,273" in text


def test_a_budget_has_less_error_than_the_per_layer_rules_at_equal_size(speech):
    net, calibration, fresh = speech
    plain, aware = look(net), look(net, calibration, metric="outputs")
    divergence = look(net, calibration)
    budget = 623_273
    best = apply(plan_ranks(aware, parameters=budget), net, aware)
    informed = apply(plan_ranks(divergence, parameters=budget), net, divergence)
    for rule in ("sum_share", "energy_share", "layer_share"):
        low, high = 0.0, 1.0
        for _ in range(25):
            share = (low + high) / 2
            plan = plan_ranks(plain, **{rule: share})
            low, high = (share, high) if plan.parameters_after <= budget else (low, share)
        plan = plan_ranks(plain, **{rule: low})
        assert 0.98 * budget < plan.parameters_after <= budget
        other = output_error(net, apply(plan, net), fresh)
        assert output_error(net, best, fresh) < 0.6 * other
        assert output_error(net, informed, fresh) < 0.6 * other


def test_the_estimated_divergence_is_near_the_true_one():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(30, 60), nn.ReLU(), nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 8))
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.mul_(2.0)
    calibration = torch.randn(4000, 30)
    spectrum = look(net, calibration)
    weighed = weigh(spectrum, net, calibration)
    # The estimate is the loss softened at 4, the weighed one the plain divergence.
    for seen, temperature, factor in ((spectrum, 4.0, 1.6), (weighed, 1.0, 1.6)):
        plan = plan_ranks(seen, rank={"2": 12})
        with torch.no_grad():
            loss = soft_target_loss(
                apply(plan, net, seen)(calibration),
                softened(net(calibration), temperature),
                temperature=temperature,
            )
        assert float(loss.mean()) / factor < plan.loss < float(loss.mean()) * factor
    assert weighed.digest != spectrum.digest
    for one, other in zip(weighed.layers, spectrum.layers, strict=True):
        assert one.weight != other.weight and one.decomposition is other.decomposition


def test_weighing_leaves_the_network_alone_and_refuses_others():
    net = nn.Sequential(nn.Linear(9, 8), nn.Dropout(), nn.Linear(8, 3)).train()
    inputs = torch.randn(20, 9)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    spectrum = look(net)
    weigh(spectrum, net, iter([inputs]))
    assert net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with pytest.raises(MismatchError, match=spectrum.model_digest[:16]):
        weigh(spectrum, nn.Linear(9, 3), inputs)
    with pytest.raises(DataError, match="no calibration data"):
        weigh(spectrum, net, [])
    with pytest.raises(DataError, match="NaN or infinite logits"):
        weigh(spectrum, net, inputs * torch.inf)


def test_kept_shares_are_those_of_the_singular_values():
    net = speech_network()
    spectrum = look(net)
    weights = {name: net[int(name)].weight.detach().double().numpy() for name in RANKS}
    for rule, power in (("sum_share", 1), ("energy_share", 2)):
        plan = plan_ranks(spectrum, **{rule: 0.5})
        for layer in plan.layers:
            values = np.linalg.svd(weights[layer.name], compute_uv=False)
            sums = np.cumsum(values**power) / np.sum(values**power)
            rank = int(np.argmax(sums >= 0.5)) + 1
            m, n = layer.shape
            if rank * (m + n) < m * n:
                assert layer.rank == rank
                assert np.isclose(layer.kept, np.sum(values[:rank] ** 2) / np.sum(values**2))
            else:
                assert layer.rank is None and layer.parameters_after == m * n


@pytest.mark.parametrize("metric", ["weights", "divergence"])
@pytest.mark.parametrize("placement", ["input", "split"])
def test_saved_and_applied_twice_gives_equal_bytes(tmp_path, metric, placement):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 30), nn.ReLU(), nn.Linear(30, 5))
    inputs = torch.randn(50, 1, 6, 6)
    spectrum = look(net, None if metric == "weights" else inputs, example=inputs)
    plan = plan_ranks(spectrum, parameters=0.5, placement=placement)
    plan.save(tmp_path / "plan.json")
    spectrum.save(tmp_path / "spectrum.safetensors")
    read, seen = RankPlan.load(tmp_path / "plan.json"), Spectrum.load(tmp_path / "spectrum.safetensors")
    assert read == plan and str(read) == str(plan)
    assert seen.digest == spectrum.digest and plan_ranks(seen, parameters=0.5, placement=placement) == plan
    results = [apply(plan, net, spectrum), apply(read, net, seen), apply(read, net, seen)]
    if metric == "weights":
        results.append(apply(read, net))
    first = results[0].state_dict()
    for other in results[1:]:
        assert list(other.state_dict()) == list(first)
        for name, value in other.state_dict().items():
            assert value.numpy().tobytes() == first[name].numpy().tobytes()


def test_a_plan_for_another_network_is_refused_by_both_digests():
    torch.manual_seed(0)
    net, other = nn.Linear(20, 20), nn.Linear(20, 20)
    spectrum, foreign = look(net, torch.randn(30, 20)), look(other)
    plan = plan_ranks(spectrum, rank=3)
    with pytest.raises(MismatchError) as error:
        apply(plan, other, spectrum)
    assert spectrum.model_digest[:16] in str(error.value) and foreign.model_digest[:16] in str(error.value)
    with pytest.raises(ConfigError, match="applied with the spectrum"):
        apply(plan, net)
    with pytest.raises(MismatchError, match=foreign.digest[:16]):
        apply(plan, net, foreign)


def test_one_clear_line_for_impossible_plans():
    net = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 20))
    spectrum = look(net)
    smallest = 70 + 50 + 50
    for rules, message in (
        ({}, "there are 0"),
        ({"rank": 3, "flops": 0.5}, "rank, flops"),
        ({"rank": 31}, "the largest possible of any layer is 30"),
        ({"rank": 0}, "rank 0 is impossible"),
        ({"rank": {"0": 31}}, r"rank 31 is impossible for layer 0 of shape \(30, 40\): 1 to 30"),
        ({"rank": {"7": 3}}, "there is no layer '7': there are 0, 2"),
        ({"energy_share": 0.0}, "above 0 and at most 1"),
        ({"parameters": 0.01}, f"smallest possible, every layer at rank 1, is {smallest:,} "),
        ({"parameters": smallest - 1}, f"{smallest:,}"),
        ({"parameters": -1.0}, "share in"),
        ({"flops": 119}, "multiply-adds, and the smallest possible, every layer at rank 1, is 120"),
        (
            {"size": "0.6KB"},
            f"600 bytes, and the smallest possible, every layer at rank 1, is {4 * smallest}",
        ),
        ({"size": "many"}, "size must be above 0, such as 200KB, .* and is 'many'"),
        ({"rank": 3, "placement": "output"}, "placement"),
    ):
        with pytest.raises(ConfigError, match=message):
            plan_ranks(spectrum, **rules)
    assert plan_ranks(spectrum, parameters=smallest).ranks == {"0": 1, "2": 1}
    assert plan_ranks(spectrum, parameters=1.0).ranks == {}
    conv = look(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten()))
    with pytest.raises(ConfigError, match="example="):
        plan_ranks(conv, flops=0.5)
    few = look(speech_network(), most=8)
    with pytest.raises(ConfigError, match="without most"):
        plan_ranks(few, sum_share=0.5)
    with pytest.raises(ConfigError, match="only 8 singular values"):
        plan_ranks(few, rank=10)


def test_sizes_in_words():
    assert parse_bytes("200KB") == 200_000 and parse_bytes("1 MiB") == 1 << 20 and parse_bytes(" 1.5 mb ") == 1_500_000
    for text in ("", "KB", "-1KB", "1e3", "0", "1 furlong", "1" * 40):
        with pytest.raises(ConfigError, match="size must be above 0"):
            parse_bytes(text)


def test_damaged_files_are_refused(tmp_path):
    net = nn.Linear(20, 20)
    spectrum = look(net, torch.randn(30, 20))
    plan = plan_ranks(spectrum, rank=3)
    path = tmp_path / "plan.json"
    plan.save(path)
    content = json.loads(path.read_text())
    layer = content["layers"][0]
    for change in (
        {"format": "other"},
        {"layers": []},
        {"layers": [5]},
        {"layers": [{**layer, "rank": 21}]},
        {"layers": [{**layer, "rank": 1.5}]},
        {"layers": [{**layer, "kept": 2}]},
        {"layers": [{**layer, "shape": [20]}]},
        {"metric": "taste"},
        {"metric": ["weights"]},
        {"parameters": -1},
        {"model_digest": None},
        {"surprise": 1},
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(FormatError, match=r"plan\.json"):
            RankPlan.load(path)
    path.write_text(json.dumps({key: value for key, value in content.items() if key != "bytes"}))
    with pytest.raises(FormatError, match="bytes is missing"):
        RankPlan.load(path)
    file = tmp_path / "spectrum.safetensors"
    spectrum.save(file)
    whole = file.read_bytes()
    for damaged in (whole[:-9], whole[:-1] + bytes([whole[-1] ^ 1]), b"", b"x" * 100):
        file.write_bytes(damaged)
        with pytest.raises(FormatError):
            Spectrum.load(file)
    with pytest.raises(FormatError, match="missing"):
        Spectrum.load(tmp_path / "none")


def test_a_plan_is_frozen_and_serves_plain_arrays():
    plan = plan_ranks(look(nn.Linear(9, 9)), rank=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.rule = "other"
    assert decompose(np.eye(3, dtype=np.float32)).values.dtype == np.float64
