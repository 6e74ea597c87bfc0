"""The filter that judges a certificate."""

from __future__ import annotations

import datetime

import pytest
from ansible.errors import AnsibleFilterError
from certificates import FilterModule, certificate_problems
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "forum.example.org"


def make(*names: str, days: float = 90) -> tuple[str, str]:
    """A certificate for these names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "forum")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=100))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize("name", [HOST, "*.example.org", "FORUM.example.org"])
def test_a_good_certificate(name: str) -> None:
    assert certificate_problems(*make(name), [HOST]) == []


@pytest.mark.parametrize("names", [(), ("example.org",), ("*.org",), ("*.forum.example.org",)])
def test_another_host(names: tuple[str, ...]) -> None:
    (problem,) = certificate_problems(*make(*names), [HOST])
    assert problem.startswith("the certificate doesn't speak for forum.example.org")


@pytest.mark.parametrize(("days", "state"), [(-1, "ended"), (3, "ends")])
def test_one_that_ends(days: float, state: str) -> None:
    (problem,) = certificate_problems(*make(HOST, days=days), [HOST])
    assert state in problem


def test_the_key_of_another_certificate() -> None:
    (problem,) = certificate_problems(make(HOST)[0], make(HOST)[1], [HOST])
    assert "doesn't belong" in problem


@pytest.mark.parametrize("key", ["", "hunter2", make(HOST)[1].replace("PRIVATE", "SECRET")])
def test_a_key_that_cannot_be_read(key: str) -> None:
    (problem,) = certificate_problems(make(HOST)[0], key, [HOST])
    assert "key can't be read" in problem
    assert "hunter2" not in problem


def test_a_certificate_that_cannot_be_read() -> None:
    assert len(certificate_problems("", "", [HOST])) == 1


def test_texts_are_needed() -> None:
    with pytest.raises(AnsibleFilterError, match="texts"):
        certificate_problems(None, "")  # type: ignore[arg-type]


def test_filters_are_published() -> None:
    assert set(FilterModule().filters()) == {"certificate_problems"}
