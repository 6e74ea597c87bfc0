"""A filter that judges a certificate before nginx has to."""

from __future__ import annotations

import datetime
import fnmatch
import ipaddress
from collections.abc import Callable, Sequence

from ansible.errors import AnsibleFilterError
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtensionOID

_SOON = datetime.timedelta(days=7)


def _names(certificate: x509.Certificate) -> list[str]:
    """Names and addresses that a certificate speaks for."""
    try:
        value = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return []
    if not isinstance(value, x509.SubjectAlternativeName):
        return []
    addresses = value.get_values_for_type(x509.IPAddress)
    return [*value.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate, perhaps with a * as its first label, stands for a host."""
    if pattern.startswith("*."):
        return name.count(".") == pattern.count(".") and fnmatch.fnmatchcase(name.lower(), pattern.lower())
    try:
        return ipaddress.ip_address(pattern) == ipaddress.ip_address(name)
    except ValueError:
        return pattern.lower() == name.lower()


def certificate_problems(certificate: str, key: str, hosts: Sequence[str] = ()) -> list[str]:
    """Whether a certificate and its key fit each other, the time and the hosts.

    certificate: PEM, perhaps followed by its chain. key: PEM, without a passphrase. hosts: names and addresses it must
    speak for. Returns sentences with the remedy; nothing of the key is ever in them.
    Raises AnsibleFilterError when one of them is no text.
    """
    if not isinstance(certificate, str) or not isinstance(key, str):
        raise AnsibleFilterError("certificate_problems needs the certificate and the key as texts in PEM")
    try:
        parsed = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        return ["the certificate can't be read: give it in PEM, the server's own first, then its chain"]
    problems = []
    try:
        public = serialization.load_pem_private_key(key.encode(), password=None).public_key()
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if public.public_bytes(*form) != parsed.public_key().public_bytes(*form):
            problems.append(
                "the key doesn't belong to the certificate: give the key that it was requested with"
            )
    except (TypeError, ValueError):
        problems.append("the certificate's key can't be read: give it in PEM, without a passphrase")
    left = parsed.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    if left < _SOON:
        state = "ended" if left < datetime.timedelta() else "ends"
        problems.append(f"the certificate {state} on {parsed.not_valid_after_utc:%Y-%m-%d}: renew it")
    names = _names(parsed)
    problems.extend(
        f"the certificate doesn't speak for {host}, but for {', '.join(names) or 'nobody'}: request one with that name"
        for host in hosts
        if not any(_covers(name, host) for name in names)
    )
    return problems


class FilterModule:
    """The filter of this file, as Ansible looks for it."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"certificate_problems": certificate_problems}
