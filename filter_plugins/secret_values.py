"""A filter that judges secrets without giving anything of them away."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping

from ansible.errors import AnsibleFilterError

# Long enough that none of them turns up in a random value by chance.
_WELL_KNOWN_WORDS = (
    "administrator", "changeit", "changeme", "default", "dontuse", "example", "foobar", "insecure", "letmein",
    "misago", "passphrase", "password", "passwort", "placeholder", "postgres", "qwerty", "qwertz", "replace",
    "sample", "secret", "welcome", "change", "admin", "forum", "redis", "senha", "swarm",
)  # fmt: skip
_LEET = str.maketrans(
    {"0": "o", "1": "l", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i"}
)
# RFC 3986 calls these unreserved; libpq, redis.conf, haproxy.cfg and a shell take them as they are, too.
_PLAIN = re.compile(r"[A-Za-z0-9._~-]*")
_DIFFERENT_CHARACTERS = 8
_UNKNOWN_PART = 10


def _steps_alike(value: str) -> bool:
    """True when most neighbours in value are equal or follow each other, as in aaaa, 1234 or dcba."""
    steps = [ord(after) - ord(before) for before, after in itertools.pairwise(value)]
    return sum(step in (-1, 0, 1) for step in steps) > len(steps) / 2


def _repeats(value: str) -> bool:
    """True when value is one short piece, again and again."""
    return any(
        value == (value[:period] * (len(value) // period + 1))[: len(value)]
        for period in range(1, len(value) // 2 + 1)
    )


def _well_known(value: str) -> bool:
    """True when little is left of value without the words that stand for a password everywhere."""
    rest = "".join(character for character in value.lower().translate(_LEET) if character.isalnum())
    found = [word for word in _WELL_KNOWN_WORDS if word in rest]
    for word in found:
        rest = rest.replace(word, "")
    return bool(found) and len(rest) < _UNKNOWN_PART


def _weakness(value: object, minimum: int, plain: bool) -> str | None:
    """What is wrong with one value, in words that give nothing of it away; None when nothing is."""
    if not isinstance(value, str):
        return "isn't text: put it in quotes"
    if value.startswith("$ANSIBLE_VAULT"):
        return "is still encrypted: mark it with !vault, or encrypt the whole file"
    if "\n" in value or "\r" in value:
        return "holds a line break: use |- or quotes on one line in YAML"
    if not value.isprintable():
        return "holds a control character: make a new one"
    if plain and not _PLAIN.fullmatch(value):
        return (
            "holds a character that breaks a connection string: use letters, digits and - . _ ~ only, "
            "and more of them (openssl rand -hex 24 makes a good one)"
        )
    if len(value) < minimum:
        return f"is shorter than {minimum} characters: make a longer one (openssl rand -hex 24)"
    if _well_known(value):
        return "is built from a word that everybody tries first: make a random one (openssl rand -hex 24)"
    if len(set(value)) < _DIFFERENT_CHARACTERS or _repeats(value) or _steps_alike(value):
        return "is easy to guess, it repeats itself or counts up: make a random one (openssl rand -hex 24)"
    return None


def secret_problems(
    secrets: Mapping[str, object], minimum: int = 16, free: Collection[str] = ()
) -> list[str]:
    """Everything that is wrong with the secrets of an inventory.

    secrets: name of the variable -> its value; None or an empty text is a missing one. minimum: characters.
    free: names that never stand in a connection string, so any printable character may be in them.
    Returns sentences, each with the variable's name and the remedy, never with any part of a value; sorted
    by name. Raises AnsibleFilterError when secrets is no mapping.
    """
    if not isinstance(secrets, Mapping):
        raise AnsibleFilterError("secret_problems needs a mapping of variable names to values")
    problems = []
    same: dict[str, list[str]] = {}
    for name in sorted(secrets):
        value = secrets[name]
        if value is None or value == "":
            problems.append(f"{name} is missing: set it in the inventory's vault")
            continue
        if weakness := _weakness(value, minimum, plain=name not in free):
            problems.append(f"{name} {weakness}")
        same.setdefault(str(value), []).append(name)
    problems.extend(
        f"{', '.join(names[:-1])} and {names[-1]} have the same value: give each secret its own"
        for names in same.values()
        if len(names) > 1
    )
    return problems


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"secret_problems": secret_problems}
