"""What the settings have in common."""

__all__ = ["require"]

from limbeck.errors import ConfigError


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Refuse a setting that is out of its range.

    Args:
        holds: Whether it is in it.
        name: Of the setting.
        value: What was given.
        rule: What it must be, in words.

    Raises:
        ConfigError: If it is not.

    Example:
        >>> require(3 > 0, "epochs", 3, "above 0")
    """
    if not holds:
        raise ConfigError(f"{name} must be {rule}, and is {value}")
