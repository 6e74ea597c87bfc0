"""Typed reading of the environment: a missing or malformed variable stops the start with its name."""

from __future__ import annotations

import os
from collections.abc import Mapping


class EnvironmentMistake(SystemExit):
    """A variable is missing or malformed. A SystemExit, so that the program ends with the message alone."""


class Environment:
    """Reads variables with one prefix.

    variables: the environment, os.environ by default. prefix: put before every name asked for.
    Each reader raises EnvironmentMistake if the value does not fit, or if there is neither value nor default.
    An empty value counts as absent. Values are never part of a message: some are secrets.
    """

    def __init__(self, prefix: str, variables: Mapping[str, str] | None = None) -> None:
        self._prefix = prefix
        self._variables = os.environ if variables is None else variables

    def text(self, name: str, default: str | None = None) -> str:
        """The value as it is."""
        value = self.optional(name)
        if value:
            return value
        if default is None:
            raise EnvironmentMistake(f"{self._prefix}{name} is not set")
        return default

    def optional(self, name: str) -> str:
        """The value, or an empty string."""
        return self._variables.get(self._prefix + name, "")

    def number(self, name: str, default: float | None = None) -> float:
        """A number, with a point or without."""
        value = self.text(name, None if default is None else str(default))
        try:
            return float(value)
        except ValueError:
            raise EnvironmentMistake(f"{self._prefix}{name} is not a number") from None

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self.text(name, None if default is None else str(default))
        try:
            return int(value)
        except ValueError:
            raise EnvironmentMistake(f"{self._prefix}{name} is not a whole number") from None

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True for true, yes and 1, False for false, no and 0, in any case."""
        value = self.text(name, None if default is None else str(default)).lower()
        if value in ("true", "yes", "1"):
            return True
        if value in ("false", "no", "0"):
            return False
        raise EnvironmentMistake(f"{self._prefix}{name} is neither true nor false")

    def items(self, name: str) -> list[str]:
        """Comma-separated values, without empty ones and surrounding blanks; an absent variable has none."""
        return [item.strip() for item in self.optional(name).split(",") if item.strip()]
