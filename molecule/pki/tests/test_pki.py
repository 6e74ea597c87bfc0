"""An authority of our own, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from role_lab import STATE, Run

PKI = STATE / "pki"


def certificate(name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((PKI / f"{name}.crt").read_bytes())


def test_the_authority_signed_the_certificate() -> None:
    certificate("trial").verify_directly_issued_by(certificate("ca"))


def test_the_authority_may_sign_certificates_but_no_other_authority() -> None:
    limits = certificate("ca").extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert limits.value.ca
    assert limits.value.path_length == 0
    usage = certificate("ca").extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature


def test_the_certificate_is_for_the_names_and_addresses_asked_for() -> None:
    names = certificate("trial").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["trial.lab.test"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("198.51.100.7")]


def test_only_the_owner_reads_keys() -> None:
    assert PKI.stat().st_mode & 0o777 == 0o700
    for key in PKI.glob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600, key


def test_a_certificate_near_its_end_is_made_anew_and_the_authority_stays(ansible: Run) -> None:
    before, authority = certificate("trial"), certificate("ca")
    key = (PKI / "trial.key").read_bytes()
    left = before.not_valid_after_utc - datetime.datetime.now(datetime.UTC)

    renewed = ansible("converge.yml", pki_renew_before=f"+{left.days + 2}d")

    assert renewed.returncode == 0, renewed.stdout
    assert certificate("trial").serial_number != before.serial_number
    assert (PKI / "trial.key").read_bytes() == key
    assert certificate("ca") == authority
    certificate("trial").verify_directly_issued_by(authority)
