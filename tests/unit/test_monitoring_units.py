"""What systemd and HAProxy are told of the monitoring's daemons, rendered as their rooms render it."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

ROLES = Path(__file__).resolve().parents[2] / "roles"
VARIABLES: dict[str, object] = {
    "ansible_managed": "made by Ansible",
    "vendor_package_program": "/usr/bin/program",
    "chronograf_address": "192.0.2.14",
    "chronograf_port": 8888,
    "chronograf_memory_mb": 512,
    "action_server_allowed_networks": ["198.51.100.0/24", "2001:db8::/32"],
    "kapacitor_memory_mb": 512,
    "kibana_address": "192.0.2.14",
    "kibana_heap_mb": 1024,
    "kibana_memory_mb": 1536,
}
#: What binds an address of its machine, by what systemd reads of it.
UNITS = (
    "chronograf/templates/chronograf.service.j2",
    "docker_reader/templates/docker_reader.conf.j2",
    "kapacitor/templates/kapacitor.service.j2",
    "kibana/templates/kibana.service.conf.j2",
    "snmpd/files/start.conf",
)


def unit(path: str) -> dict[str, str]:
    """The settings of a unit or of what is added to one; of a setting that is there twice the last."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no page
    text = environment.from_string((ROLES / path).read_text()).render(VARIABLES).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize("path", UNITS)
def test_a_daemon_whose_address_comes_late_tries_for_good(path: str) -> None:
    settings = unit(path)
    assert settings["StartLimitIntervalSec"] == "0"
    assert settings["RestartSec"] == "2"


def test_chronograf_starts_again_however_it_ended() -> None:
    assert unit(UNITS[0])["Restart"] == "always"


def test_chronograf_is_for_its_own_machine_and_the_operators() -> None:
    settings = unit(UNITS[0])
    assert settings["IPAddressDeny"] == "any"
    assert settings["IPAddressAllow"].split() == [
        "localhost",
        "192.0.2.14",
        "198.51.100.0/24",
        "2001:db8::/32",
    ]
