"""Secrets and configs of the swarm: created once, labelled as wanted, and no secret's value told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from docker.errors import DockerException
from swarm_publish import KINDS, publish

NAME = "forum_redis_redis_password_0123456789ab"
LABELS = {"forum.stack": "forum"}


class Api:
    """Stands for the SDK's client; keeps what it has of one kind, and what was asked of it."""

    def __init__(self, kind: str, *held: dict[str, Any]) -> None:
        self.created: list[tuple[str, str, dict[str, str]]] = []
        self.updated: list[tuple[str, dict[str, Any], dict[str, int]]] = []
        self.refusal: Exception | None = None
        self.create_secret = self.creating(kind == "secrets")
        self.create_config = self.creating(kind == "configs")
        setattr(self, kind, lambda: list(held))

    def creating(self, right: bool) -> Callable[..., dict[str, str]]:
        def create(name: str, data: str, labels: dict[str, str]) -> dict[str, str]:
            assert right, "the other kind was meant"
            if self.refusal:
                raise self.refusal
            self.created.append((name, data, labels))
            return {"ID": "new"}

        return create

    def _url(self, path: str, identity: str) -> str:
        return path.format(identity)

    def _post_json(self, url: str, data: dict[str, Any], params: dict[str, int]) -> str:
        self.updated.append((url, data, params))
        return "answer"

    def _raise_for_status(self, response: str) -> None:
        assert response == "answer"


def held(name: str = NAME, **labels: str) -> dict[str, Any]:
    """A secret or config as the engine describes it."""
    return {"ID": "old", "Version": {"Index": 7}, "Spec": {"Name": name, "Labels": labels}}


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_missing_is_created_with_the_wanted_labels_alone(kind: str) -> None:
    api = Api(kind, held(NAME + "x", **LABELS))
    assert publish(api, kind, {NAME: "value"}, LABELS, dry=False) == [NAME]
    assert api.created == [(NAME, "value", LABELS)]


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_is_there_is_left_alone(kind: str) -> None:
    api = Api(kind, held(**LABELS))
    assert publish(api, kind, {NAME: "value"}, LABELS, dry=False) == []
    assert (api.created, api.updated) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_that_tells_of_the_value_is_removed_from_one_in_use(kind: str) -> None:
    api = Api(
        kind, held(**LABELS, ansible_key="5bf8aa57fc5a6bc547decf1cc6db63f10deb55a3c6c5df497d631fb3d95e1abf")
    )
    assert publish(api, kind, {NAME: "value"}, LABELS, dry=False) == [NAME]
    assert api.created == []
    assert api.updated == [(f"/{kind}/old/update", {"Name": NAME, "Labels": LABELS}, {"version": 7})]


@pytest.mark.parametrize("there", [(), (held(other="label"),)])
def test_a_dry_run_tells_and_changes_nothing(there: tuple[dict[str, Any], ...]) -> None:
    api = Api("secrets", *there)
    assert publish(api, "secrets", {NAME: "value"}, LABELS, dry=True) == [NAME]
    assert (api.created, api.updated) == ([], [])


def test_a_component_without_any_asks_nothing() -> None:
    assert publish(object(), "configs", {}, LABELS, dry=False) == []


def test_a_refusal_names_what_was_refused_and_not_its_value() -> None:
    api = Api("secrets")
    api.refusal = DockerException("invalid name")
    with pytest.raises(DockerException) as caught:
        publish(api, "secrets", {NAME: "value"}, LABELS, dry=False)
    assert caught.value.__notes__ == [f"The swarm refuses {NAME} (secrets)"]
    assert "value" not in str(caught.value)
