"""Fragments are taken apart into definitions and put together for a rollout."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible.module_utils.stack_definitions import MARK, Definition, compose, definitions, mark, steps

REDIS: dict[str, Any] = {
    "services": {
        "redis-0": {"image": "r/redis:1", "networks": ["redis"], "volumes": ["redis:/data"]},
        "sentinel-0": {
            "image": "r/redis:1",
            "networks": ["redis"],
            "secrets": [{"source": "forum_redis_password_1", "target": "redis_password"}],
            "volumes": [{"type": "volume", "source": "sentinel", "target": "/data"}],
        },
    },
    "networks": {"redis": {"external": True, "name": "forum_redis"}},
    "secrets": {"forum_redis_password_1": {"external": True}, "forum_redis_other_1": {"external": True}},
    "volumes": {"redis": {}, "sentinel": {}},
}
NGINX: dict[str, Any] = {
    "services": {"nginx": {"image": "r/nginx:1", "deploy": {"replicas": 3, "labels": {"edge": "1"}}}}
}


def of(*fragments: dict[str, Any]) -> dict[str, Definition]:
    found: dict[str, Definition] = definitions("forum", fragments)
    return found


def test_a_definition_holds_a_service_and_what_it_names() -> None:
    assert of(REDIS)["forum_sentinel-0"] == {
        "services": {"sentinel-0": REDIS["services"]["sentinel-0"]},
        "networks": REDIS["networks"],
        "secrets": {"forum_redis_password_1": {"external": True}},
        "volumes": {"sentinel": {}},
    }


def test_a_mark_changes_with_its_service_alone() -> None:
    other = yaml.safe_load(yaml.safe_dump(REDIS))
    other["services"]["redis-0"]["image"] = "r/redis:2"
    before, after = of(REDIS), of(other)
    assert mark(before["forum_redis-0"]) != mark(after["forum_redis-0"])
    assert mark(before["forum_sentinel-0"]) == mark(after["forum_sentinel-0"])


def test_a_mark_changes_with_the_network_behind_a_name() -> None:
    moved = {**REDIS, "networks": {"redis": {"external": True, "name": "other_redis"}}}
    assert mark(of(REDIS)["forum_redis-0"]) != mark(of(moved)["forum_redis-0"])


def test_what_is_put_together_is_what_was_taken_apart_and_the_marks() -> None:
    parts = of(REDIS, NGINX)
    merged = json.loads(compose(parts, {}))
    assert list(merged["services"]) == ["redis-0", "sentinel-0", "nginx"]
    assert merged["networks"] == REDIS["networks"]
    assert merged["volumes"] == REDIS["volumes"]
    assert merged["services"]["redis-0"]["image"] == "r/redis:1"
    assert merged["services"]["nginx"]["deploy"] == {
        "replicas": 3,
        "labels": {"edge": "1", MARK: mark(parts["forum_nginx"])},
    }
    assert MARK not in json.dumps(parts), "the definitions stay as they are"


def test_labels_may_be_a_list() -> None:
    listed = {"services": {"nginx": {"image": "i", "deploy": {"labels": ["edge=1"]}}}}
    parts = of(listed)
    labels = json.loads(compose(parts, {}))["services"]["nginx"]["deploy"]["labels"]
    assert labels == ["edge=1", f"{MARK}={mark(parts['forum_nginx'])}"]


def test_what_is_put_together_is_yaml_whatever_it_says() -> None:
    said = {"services": {"a": {"image": "i", "environment": {"WORDS": "\U0001f600 é on 22:22 $$HOME\n\t"}}}}
    text = compose(of(said), {})
    assert yaml.safe_load(text)["services"]["a"]["environment"] == said["services"]["a"]["environment"]


MEMBERS = of(
    {"services": {name: {"image": "i"} for name in ("postgres-0", "postgres-1", "postgres-2")}},
    NGINX,
    {"services": {"worker-1": {"image": "i", "deploy": {"replicas": 2}}}},
)


def test_at_the_first_boot_everything_comes_together() -> None:
    assert steps(MEMBERS, changed=MEMBERS, existing=[]) == [list(MEMBERS)]


def test_members_that_exist_follow_one_after_the_other() -> None:
    assert steps(MEMBERS, changed=MEMBERS, existing=MEMBERS) == [
        ["forum_nginx", "forum_worker-1"],
        ["forum_postgres-0"],
        ["forum_postgres-1"],
        ["forum_postgres-2"],
    ]


def test_a_lost_member_comes_first() -> None:
    existing = ["forum_postgres-0", "forum_postgres-2", "forum_nginx"]
    pending = {name: part for name, part in MEMBERS.items() if "postgres" in name}
    assert steps(pending, changed=pending, existing=existing) == [
        ["forum_postgres-1"],
        ["forum_postgres-0"],
        ["forum_postgres-2"],
    ]


def test_what_is_only_waited_for_holds_up_the_next_member_and_nothing_else() -> None:
    assert steps(MEMBERS, changed=["forum_postgres-1"], existing=MEMBERS) == [
        ["forum_postgres-0"],
        ["forum_postgres-1"],
        ["forum_postgres-2"],
        ["forum_nginx", "forum_worker-1"],
    ]


def test_nothing_pending_is_no_step() -> None:
    assert steps({}, changed=[], existing=MEMBERS) == []


def test_a_job_says_which_run_it_is_and_keeps_its_mark() -> None:
    job = {"image": "i:1", "labels": {"a": "b"}, "deploy": {"restart_policy": {"condition": "none"}}}
    parts = of({"services": {"release": job}})
    ((name, definition),) = parts.items()
    before = {"Spec": {"TaskTemplate": {"ContainerSpec": {"Labels": {"forum.run": "2"}}}}}
    ((_, service),) = json.loads(compose(parts, {name: before}))["services"].items()
    assert service["labels"] == {"a": "b", "forum.run": "3"}
    assert service["deploy"]["labels"][MARK] == mark(definition)


def scaled(labels: dict[str, str], replicas: int = 3, **bounds: str) -> dict[str, Any]:
    """What is deployed of a service with three replicas, when the swarm has it with these labels and replicas."""
    given = {f"forum.scale.{name}": value for name, value in bounds.items()}
    parts = of({"services": {"nginx": {"image": "i", "deploy": {"replicas": 3, "labels": given}}}})
    live = {"Spec": {"Labels": labels, "Mode": {"Replicated": {"Replicas": replicas}}}}
    before = mark(parts["forum_nginx"])
    deploy: dict[str, Any] = json.loads(compose(parts, {"forum_nginx": live}))["services"]["nginx"]["deploy"]
    assert deploy["labels"][MARK] == before
    return deploy


LAST = {"forum.scale.at": "2026-01-31T12:00:00+00:00", "forum.scale.by": "-1", "forum.scale.action": "a7"}
OLD = {"forum.scale.min": "1", "forum.scale.max": "9"}


def test_what_was_scaled_stays_so() -> None:
    deploy = scaled(LAST | OLD, 2, min="1", max="4")
    assert deploy["replicas"] == 2
    assert deploy["labels"].items() >= (LAST | {"forum.scale.min": "1", "forum.scale.max": "4"}).items()


@pytest.mark.parametrize(("replicas", "kept"), [(1, 2), (9, 4)])
def test_it_comes_within_new_bounds(replicas: int, kept: int) -> None:
    assert scaled(LAST | OLD, replicas, min="2", max="4")["replicas"] == kept


@pytest.mark.parametrize(
    ("labels", "bounds"),
    [(OLD, {"min": "1", "max": "4"}), (LAST | OLD, {})],
    ids=["never scaled", "may not be scaled any more"],
)
def test_otherwise_the_inventory_says_how_many(labels: dict[str, str], bounds: dict[str, str]) -> None:
    deploy = scaled(labels, 1, **bounds)
    assert deploy["replicas"] == 3
    assert not LAST.keys() & deploy["labels"].keys()
