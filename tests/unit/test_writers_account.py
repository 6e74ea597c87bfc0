"""The account that writes the figures: who has a new password always finds the account of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from stack import FilterModule

ROOT = Path(__file__).resolve().parents[2]


def name_of(password: str) -> str:
    """What the inventory calls the account of a password."""
    product = yaml.safe_load((ROOT / "inventories" / "shared" / "product.yml").read_text())
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no page
    environment.filters.update(FilterModule().filters())
    return environment.from_string(product["influxdb_writer"]).render(influxdb_writer_password=password)


def test_a_password_s_account_is_always_the_same_and_another_one_s_is_another() -> None:
    name = name_of("kV8wqZr3TnYb5xHs0LdM")
    assert re.fullmatch(r"writer_[0-9a-f]+", name)
    assert name == name_of("kV8wqZr3TnYb5xHs0LdM")
    assert name != name_of("another-9Xq2-password")


@pytest.fixture(scope="module")
def plays() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks" / "stack.yml").read_text())
    return found


def roles(play: dict[str, Any]) -> list[tuple[str, str]]:
    """The roles of a play, and which of their entries."""
    named = [(role["role"], "main") for role in play.get("roles", [])]
    tasks = [task["ansible.builtin.import_role"] for task in play.get("tasks", [])]
    return named + [(task["name"], task.get("tasks_from", "main")) for task in tasks]


def test_the_account_is_there_before_a_relay_and_the_old_one_until_all_relays_are_new(
    plays: list[dict[str, Any]],
) -> None:
    first, *others, last = plays
    (relays,) = [
        task["tags"]
        for play in others
        for task in play.get("tasks", [])
        if task["ansible.builtin.import_role"]["name"] == "telegraf"
    ]
    assert roles(first) == [("influxdb", "main")]
    assert roles(last) == [("influxdb", "old_writers")]
    assert set(first["tags"]) == {*relays, "monitoring", "influxdb"}
    # A run of the monitoring alone leaves relays as they are, and so what they write by.
    assert set(last["tags"]) == set(relays)
    assert all(("influxdb", "main") not in roles(play) for play in others)
