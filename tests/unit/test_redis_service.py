"""The services and settings of Redis and Sentinel, rendered as the room renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import yaml
from sentinel import FilterModule

ROOM = Path(__file__).parents[2] / "roles" / "redis"


def render(template: str, **changed: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOM / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # no page for a browser
    )
    environment.filters.update(FilterModule().filters())
    defaults: dict[str, Any] = yaml.safe_load((ROOM / "defaults" / "main.yml").read_text())
    given = {
        **defaults,
        "ansible_managed": "made by Ansible",
        "component_image": "registry/redis:1",
        **changed,
    }
    return environment.get_template(template).render(**given)


def services() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(render("service.yml.j2"))
    return parsed


def settings(template: str, **changed: object) -> dict[str, str]:
    """Setting -> value; a Sentinel's setting is the first two words."""
    found = {}
    for line in render(template, **changed).splitlines():
        if line and not line.startswith("#"):
            words = line.split()
            head = 2 if words[0] == "sentinel" else 1
            found[" ".join(words[:head])] = " ".join(words[head:])
    return found


def test_one_redis_and_one_sentinel_per_labelled_node() -> None:
    assert set(services()) == {f"{kind}-{n}" for kind in ("redis", "sentinel") for n in range(3)}
    for name, service in services().items():
        kind, _, number = name.partition("-")
        assert service["deploy"]["placement"]["constraints"] == [f"node.labels.redis == {number}"]
        assert service["volumes"] == [f"{kind}:/data"]
        assert service["environment"]["SELF"] == name
        assert service["command"] == [f"start-{kind}"]


def test_the_grace_period_outlasts_six_turns() -> None:
    # A turn waits 40 s at most (TURN_SECONDS), a hand-over 8 s, and Redis's own stop 5 s.
    for service in services().values():
        assert int(service["stop_grace_period"].removesuffix("s")) >= 40 + 8 + 5


def test_no_two_sentinels_stand_for_election_at_once() -> None:
    found = services()
    waits = [int(found[f"sentinel-{n}"]["environment"]["DOWN_AFTER"]) for n in range(3)]
    assert waits == [1000, 1200, 1400]


def test_every_service_is_bounded_and_watched() -> None:
    for service in services().values():
        assert set(service["deploy"]["resources"]) == {"limits", "reservations"}
        assert service["healthcheck"]["test"][:2] == ["CMD", "redis-alive"]
        assert service["networks"] == ["redis"]
        assert service["secrets"] == ["redis_password"]
        assert service["x-telegraf"] == {"readable": True}


def test_a_master_without_replicas_refuses_writes() -> None:
    redis = settings("redis.conf.j2")
    assert redis["min-replicas-to-write"] == "1"
    assert redis["min-replicas-max-lag"] == "3"
    assert redis["appendonly"] == "yes"
    assert "requirepass" not in redis


def test_the_sentinels_know_names_and_their_majority() -> None:
    sentinel = settings("sentinel.conf.j2", redis_sentinel_hosts=[f"s-{n}" for n in range(5)])
    assert sentinel["sentinel monitor"] == "mymaster @MASTER@ 6379 3"
    assert sentinel["sentinel resolve-hostnames"] == "yes"
    assert sentinel["sentinel announce-hostnames"] == "yes"


def test_the_files_say_who_made_them() -> None:
    for template in ("redis.conf.j2", "sentinel.conf.j2", "service.yml.j2"):
        assert render(template).startswith("# made by Ansible\n")


def test_defaults_and_specification_agree() -> None:
    specification = yaml.safe_load((ROOM / "meta" / "argument_specs.yml").read_text())
    options = specification["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROOM / "defaults" / "main.yml").read_text())
    assert {
        name: option.get("default") for name, option in options.items() if "default" in option
    } == defaults
    assert [name for name, option in options.items() if option.get("required")] == ["redis_password"]
