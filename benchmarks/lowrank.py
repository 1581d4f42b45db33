"""What the rank rules lose at equal size, on a network trained here for some seconds on the packaged MNIST.

    python benchmarks/lowrank.py [--model mlp|cnn] [--shares 0.05 0.1 0.2 0.35] [--epochs 2] [--calibration 2000]
        [--temperature 4]

Each rule is tuned to the largest number of parameters within the same budget. Printed are the KL divergence of the
smaller network's answers from the original's on the 10,000 test digits, in nats per example, and its test errors;
nothing is fine-tuned.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from limbeck.data import open_data
from limbeck.errors import ConfigError
from limbeck.lowrank import Metric, RankPlan, Spectrum, apply, look, plan_ranks, weigh
from limbeck.models import CNN, MLP, CNNConfig, MLPConfig


def train(model: nn.Module, inputs: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """Train with Adam and a one-cycle learning rate."""
    batch, count = 128, len(inputs)
    optimizer = torch.optim.Adam(model.parameters())
    steps = epochs * -(-count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(count).split(batch):
            loss = nn.functional.cross_entropy(model(inputs[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def within(spectrum: Spectrum, rule: str, budget: int) -> RankPlan | None:
    """The plan of a rule that comes closest to a budget from below."""
    if rule == "parameters":
        try:
            return plan_ranks(spectrum, parameters=budget)
        except ConfigError:
            return None
    best, low, high = None, 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        plan = plan_ranks(spectrum, **{rule: middle})
        if plan.parameters_after <= budget:
            best, low = plan, middle
        else:
            high = middle
    return best


def judge(model: nn.Module, reference: Tensor, inputs: Tensor, labels: Tensor) -> tuple[float, int]:
    """KL divergence from the reference's answers, nats per example, and errors."""
    with torch.no_grad():
        answers = torch.cat([model(part) for part in inputs.split(1000)]).log_softmax(-1)
    divergence = (reference.exp() * (reference - answers)).sum(-1).mean()
    return float(divergence), int((answers.argmax(-1) != labels).sum())


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=("mlp", "cnn"), default="mlp")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.35])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--calibration", type=int, default=2000)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    data = open_data("mnist")
    assert data.test is not None and data.train.labels is not None and data.test.labels is not None
    some = data.train.take(torch.randperm(len(data.train))[: options.examples])
    assert some.labels is not None
    make: dict[str, Callable[[], nn.Module]] = {
        "mlp": lambda: MLP(MLPConfig(input_shape=(1, 28, 28), classes=10, hidden=(512, 256, 512))),
        "cnn": lambda: CNN(CNNConfig(input_shape=(1, 28, 28), classes=10, channels=(32, 64), hidden=(256,))),
    }
    inputs, tests, labels = some.as_seen(slice(None)), data.test.as_seen(slice(None)), data.test.labels
    model = train(make[options.model](), inputs, some.labels, options.epochs)
    with torch.no_grad():
        reference = torch.cat([model(part) for part in tests.split(1000)]).log_softmax(-1)
    spectra: list[tuple[Metric, bool, bool, Spectrum]] = []
    metrics: list[tuple[Metric, bool]] = [
        ("weights", False),
        ("outputs", False),
        ("outputs", True),
        ("divergence", False),
        ("divergence", True),
    ]
    for metric, correct in metrics:
        start = time.perf_counter()
        calibration = None if metric == "weights" else inputs[: options.calibration]
        spectrum = look(model, calibration, metric=metric, correct_bias=correct, temperature=options.temperature)
        spectra.append((metric, correct, False, spectrum))
        print(
            f"looked at {metric:<10} bias corrected: {correct!s:<5} in {time.perf_counter() - start:.1f} s",
            end="",
        )
        start = time.perf_counter()
        spectra.append((metric, correct, True, weigh(spectrum, model, inputs[: options.calibration])))
        print(f", weighed in {time.perf_counter() - start:.1f} s")
    whole = spectra[0][3].parameters
    errors = int((reference.argmax(-1) != labels).sum())
    print(f"original: {whole:,} parameters, {errors} test errors")
    print(
        f"{'share':>5}  {'rule':<18}  {'metric':<10}  {'bias':<4}  {'parameters':>10}  {'KL':>8}  {'errors':>6}  ranks"
    )
    for share in options.shares:
        for metric, correct, weighed, spectrum in spectra:
            for rule in ("layer_share", "sum_share", "energy_share", "parameters"):
                plan = within(spectrum, rule, int(share * whole))
                if plan is None or (weighed and rule != "parameters"):
                    continue
                divergence, wrong = judge(apply(plan, model, spectrum), reference, tests, labels)
                ranks = " ".join(str(layer.rank or "whole") for layer in plan.layers)
                print(
                    f"{share:5.2f}  {rule + ' weighed' * weighed:<18}  {metric:<10}  {'new' if correct else 'old':<4}  "
                    f"{plan.parameters_after:10,}  {divergence:8.4f}  {wrong:6d}  {ranks}"
                )


if __name__ == "__main__":
    main()
