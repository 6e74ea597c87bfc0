"""Secrets of the swarm: created once, labelled as wanted, and nothing about their value told."""

from __future__ import annotations

from typing import Any

import pytest
from swarm_secret import publish

NAME = "forum_redis_redis_password_0123456789ab"
LABELS = {"forum.stack": "forum"}


class Api:
    """Stands for the SDK's client; keeps the secrets that it has, and what was asked of it."""

    def __init__(self, *secrets: dict[str, Any]) -> None:
        self.held = list(secrets)
        self.created: list[tuple[str, str, dict[str, str]]] = []
        self.updated: list[tuple[str, dict[str, Any], dict[str, int]]] = []

    def secrets(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        return [secret for secret in self.held if secret["Spec"]["Name"].startswith(filters["name"])]

    def create_secret(self, name: str, data: str, labels: dict[str, str]) -> dict[str, str]:
        self.created.append((name, data, labels))
        return {"ID": "new"}

    def _url(self, path: str, identity: str) -> str:
        return path.format(identity)

    def _post_json(self, url: str, data: dict[str, Any], params: dict[str, int]) -> str:
        self.updated.append((url, data, params))
        return "answer"

    def _raise_for_status(self, response: str) -> None:
        assert response == "answer"


def held(name: str = NAME, **labels: str) -> dict[str, Any]:
    """A secret as the engine describes it."""
    return {"ID": "old", "Version": {"Index": 7}, "Spec": {"Name": name, "Labels": labels}}


def test_one_that_is_missing_is_created_with_the_wanted_labels_alone() -> None:
    api = Api(held(NAME + "x", **LABELS))
    assert publish(api, NAME, "value", LABELS, dry=False) == (True, "new")
    assert api.created == [(NAME, "value", LABELS)]


def test_one_that_is_there_is_left_alone() -> None:
    api = Api(held(**LABELS))
    assert publish(api, NAME, "value", LABELS, dry=False) == (False, "old")
    assert (api.created, api.updated) == ([], [])


def test_a_label_that_tells_of_the_value_is_removed_from_one_in_use() -> None:
    api = Api(held(**LABELS, ansible_key="5bf8aa57fc5a6bc547decf1cc6db63f10deb55a3c6c5df497d631fb3d95e1abf"))
    assert publish(api, NAME, "value", LABELS, dry=False) == (True, "old")
    assert api.created == []
    assert api.updated == [("/secrets/old/update", {"Name": NAME, "Labels": LABELS}, {"version": 7})]


@pytest.mark.parametrize("secrets", [(), (held(other="label"),)])
def test_a_dry_run_tells_and_changes_nothing(secrets: tuple[dict[str, Any], ...]) -> None:
    api = Api(*secrets)
    changed, _ = publish(api, NAME, "value", LABELS, dry=True)
    assert changed
    assert (api.created, api.updated) == ([], [])
