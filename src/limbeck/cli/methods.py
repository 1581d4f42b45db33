"""``limbeck methods``."""

__all__ = ["methods"]

from limbeck.cli.common import Json
from limbeck.cli.console import print_json, print_rows


def methods(*, json: Json = False) -> None:
    """List the distillation methods, with their options and defaults.

    ```
    limbeck methods
    limbeck distill --teacher runs/teacher --method dkd --method-options beta=2 --out runs/student
    limbeck distill --teacher runs/teacher --method kd:1+dist:0.5 --out runs/student
    ```

    Args:
        json: Print them as JSON.
    """
    from limbeck.methods import describe_methods

    found = describe_methods()
    if json:
        print_json({name: {"what": line, "options": options} for name, line, options in found})
        return
    rows = [(name, line, " ".join(f"{key}={value}" for key, value in options.items())) for name, line, options in found]
    print_rows(("--method", "what it is", "--method-options"), rows)
