"""``limbeck completion``."""

__all__ = ["completion"]

from typing import Annotated, Literal

from cyclopts import Parameter

from limbeck.cli.console import say
from limbeck.errors import ConfigError


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="The shell.")],
    /,
    *,
    install: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Complete commands, flags and their choices in a shell.

    ```
    limbeck completion bash --install
    limbeck completion zsh > ~/.zfunc/_limbeck
    limbeck completion fish > ~/.config/fish/completions/limbeck.fish
    ```

    Args:
        shell: The shell.
        install: Write the script where the shell looks for it, rather than print it; bash and zsh get a line in
            their start-up file too.
    """
    import sys

    from limbeck.cli.application import app

    if not install:
        sys.stdout.write(app.generate_completion(shell=shell))
        return
    try:
        path = app.install_completion(shell=shell, add_to_startup=shell != "fish")
    except OSError as error:
        raise ConfigError(
            f"the completion script cannot be written: {error}: print it, and put it elsewhere"
        ) from error
    say(f"The script is {path}: begin a new shell")
