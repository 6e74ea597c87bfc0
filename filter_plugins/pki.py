"""Filters for certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable


def subject_alt_name(name: str) -> str:
    """The entry of a certificate for a name or an address: DNS:name, or IP:address for IPv4 and IPv6."""
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"subject_alt_name": subject_alt_name}
