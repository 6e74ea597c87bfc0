"""Seals on what members tell each other, so that nobody else on their network can have a say."""

from __future__ import annotations

import hashlib
import hmac
import secrets


class Seal:
    """Signs and checks with a key derived from the members' shared password."""

    def __init__(self, password: str) -> None:
        self._key = hmac.digest(password.encode(), b"postgres members", hashlib.sha256)

    def sign(self, *parts: bytes) -> str:
        """Hex signature over the parts, each with its length, so that no two lists of parts share one."""
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()

    def holds(self, signature: str, *parts: bytes) -> bool:
        """True if signature was made over exactly these parts with the same password."""
        return hmac.compare_digest(signature.encode(), self.sign(*parts).encode())


def nonce() -> str:
    """A word never used before: an answer signed with it can't be an old one."""
    return secrets.token_hex(16)
