"""An account in a file, and its password, which is written only when it is another one."""

from __future__ import annotations

import pytest
from role_lab import Run
from testinfra.host import Host

FILE = "/etc/trial-htpasswd"
OTHER = "another-9Xq2-password"


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


def fits(machine: Host, password: str) -> bool:
    """Whether it is the account's password."""
    return bool(machine.run("printf '%%s' %s | htpasswd -vi %s trial", password, FILE).rc == 0)


def test_the_password_is_kept_as_a_hash_that_only_the_program_reads(
    monitor: Host, secret_values: dict[str, str]
) -> None:
    file = monitor.file(FILE)
    assert (file.user, file.group, file.mode) == ("root", "daemon", 0o640)
    assert file.content_string.startswith("trial:$2y$")
    assert fits(monitor, secret_values["registry_password"])
    assert not fits(monitor, OTHER)


def test_another_password_takes_the_place_of_the_old_one_and_is_not_shown(
    ansible: Run, monitor: Host, secret_values: dict[str, str]
) -> None:
    dry = ansible("converge.yml", "--check", htpasswd_password=OTHER)
    assert dry.returncode == 0, dry.stdout
    assert fits(monitor, secret_values["registry_password"]), "a dry run writes nothing"
    try:
        changed = ansible("converge.yml", "-vv", htpasswd_password=OTHER)
        assert changed.returncode == 0, changed.stdout
        assert OTHER not in changed.stdout
        assert fits(monitor, OTHER)
        assert not fits(monitor, secret_values["registry_password"])
    finally:
        assert ansible("converge.yml").returncode == 0


def test_a_wrong_type_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("converge.yml", htpasswd_secure_logging="perhaps")
    assert refused.returncode != 0
    assert "htpasswd_secure_logging" in refused.stdout
    assert "changed=0" in refused.stdout
