"""``python -m limbeck``: the entry point for multi-process launchers such as torchrun."""

from limbeck.cli import main

if __name__ == "__main__":
    main()
