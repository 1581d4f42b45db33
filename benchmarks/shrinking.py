r"""Ways to make one network smaller at equal budgets: two layers for one, three for a convolution, and fewer units.

    python benchmarks/shrinking.py [--channels 16 32] [--hidden 128] [--epochs 2] [--finetune-epochs 0] [--json FILE]

A CNN is trained on MNIST. For each budget of parameters and of multiply-adds its layers get a low rank, convolutions as
one to fewer channels and a 1x1 ("channels") or as the best of that, columns and rows, and three ("best"); or lose
hidden units and channels ("units"). The table gives what that does to the answers to the test set: the divergence from
the network as it was at T = 4, errors, and how many answers agree. ``--quick`` shows only that it runs.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch

import limbeck
from limbeck.data import open_data
from limbeck.evaluation.prediction import predict
from limbeck.models import CNN, CNNConfig
from limbeck.options import DataOptions, FineTuning, RankRule
from limbeck.runs.measure import size_of

WAYS: dict[str, dict[str, Any]] = {
    "channels": {"convolutions": "channels"},
    "best": {"convolutions": "best"},
    "units": {"by": "units"},
}
BUDGETS = (("parameters", 0.5), ("parameters", 0.25), ("parameters", 0.1), ("flops", 0.5), ("flops", 0.25))
TEMPERATURE = 4.0


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32], help="of the convolutions")
    parser.add_argument("--hidden", type=int, nargs="*", default=[128], help="of the fully connected layers")
    parser.add_argument("--epochs", type=int, default=2, help="of the training")
    parser.add_argument("--finetune-epochs", type=int, default=0, help="of the distillation afterwards")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the results to a file")
    parser.add_argument("--quick", action="store_true", help="a short run that shows only that it works")
    options = parser.parse_args(arguments)
    data = open_data(DataOptions(data="mnist", validation=5000))
    assert data.test is not None
    if options.quick:
        few = {name: part.take(torch.arange(400)) for name, part in data.parts().items()}
        data = dataclasses.replace(data, **few)
    assert data.test is not None and data.test.labels is not None

    def make(seed: int) -> CNN:
        sizes = {"channels": tuple(options.channels), "hidden": tuple(options.hidden)}
        return CNN(CNNConfig(input_shape=(1, 28, 28), classes=10, **sizes))

    model = limbeck.train(make, data, epochs=options.epochs, precision="float32").model
    before, labels = predict(model, data.test), data.test.labels
    soft = (before / TEMPERATURE).log_softmax(-1)
    print(f"the network: {int((before.argmax(1) != labels).sum()):,} errors of {len(labels):,}")
    print(f"{'budget':18}{'way':10}{'parameters':>12}{'multiply-adds':>15}{'divergence':>12}{'errors':>8}{'agree':>9}")
    rows = []
    for name, share in BUDGETS[3:] if options.quick else BUDGETS:
        for way, chosen in WAYS.items():
            run = limbeck.compress(
                model, data.train, data.validation, rule=RankRule(**{name: share}), classes=data.classes,
                finetuning=FineTuning(finetune_epochs=options.finetune_epochs, precision="float32"), **chosen,
            )  # fmt: skip
            after = predict(run.model, data.test)
            lost = TEMPERATURE**2 * float((soft.exp() * (soft - (after / TEMPERATURE).log_softmax(-1))).sum(1).mean())
            size = size_of(run.model, data.test)
            rows.append(
                {
                    "budget": f"{name} {share:g}",
                    "way": way,
                    "parameters": size["parameters"],
                    "multiply_adds": size["multiply_adds"],
                    "divergence": lost,
                    "errors": int((after.argmax(1) != labels).sum()),
                    "agreement": float((after.argmax(1) == before.argmax(1)).float().mean()),
                }
            )
            row = rows[-1]
            print(
                f"{row['budget']:18}{way:10}{row['parameters']:12,}{row['multiply_adds']:15,}{lost:12.4f}"
                f"{row['errors']:8,}{100 * row['agreement']:8.2f}%",
                flush=True,
            )
    if options.json is not None:
        options.json.write_text(json.dumps({"shrinking": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
