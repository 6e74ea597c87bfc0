"""The password of the sign-in, of which the machine has only a hash.

python3 -m action_server.password check FILE, or: hash, with the password on standard input.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import sys
from pathlib import Path

# OWASP, 'Password storage': N = 2^15, r = 8, p = 3.
_COST, _BLOCK, _PARALLEL = 2**15, 8, 3
_MEMORY = 64 * 1024 * 1024


def _derive(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=_MEMORY)


def hashed(password: str) -> str:
    """The hash to keep: scrypt$N$r$p$salt$key."""
    salt = secrets.token_bytes(16)
    key = _derive(password, salt, _COST, _BLOCK, _PARALLEL)
    words = (base64.b64encode(part).decode() for part in (salt, key))
    return "$".join(("scrypt", str(_COST), str(_BLOCK), str(_PARALLEL), *words))


def matches(password: str, kept: str) -> bool:
    """Whether it is the password of which the hash was kept. Raises ValueError for what is no hash."""
    kind, cost, block, parallel, salt, key = kept.strip().split("$")
    if kind != "scrypt":
        raise ValueError(f"{kind} is no kind of hash that is kept here")
    derived = _derive(password, base64.b64decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(derived, base64.b64decode(key))


def main(arguments: list[str]) -> int:
    """Check or hash what is on standard input. Returns the exit status."""
    password = sys.stdin.read()
    if arguments[:1] == ["hash"]:
        sys.stdout.write(hashed(password))
        return 0
    try:
        return 0 if matches(password, Path(arguments[1]).read_text(encoding="utf-8")) else 1
    except (OSError, ValueError):
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
