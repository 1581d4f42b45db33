"""``python -m limbeck``, which launchers of several processes start."""

from limbeck.cli import main

if __name__ == "__main__":
    main()
