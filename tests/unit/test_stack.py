"""A component's services become its fragment of the stack."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from pki import subject_alt_name
from stack import stack_fragment, versioned_names

DEFAULTS: dict[str, Any] = {
    "init": True,
    "tmpfs": ["/var/tmp"],  # noqa: S108  # a mount of a service, not a file of ours
    "deploy": {"endpoint_mode": "dnsrr", "update_config": {"parallelism": 1, "failure_action": "rollback"}},
}
NETWORKS = {"redis": "forum_redis", "edge": "forum_edge"}


def fragment(service: dict[str, Any], **names: dict[str, str]) -> dict[str, Any]:
    return stack_fragment(
        {"redis-0": service}, DEFAULTS, names.get("secrets", {}), names.get("configs", {}), NETWORKS
    )


def test_defaults_complete_a_service_and_never_overrule_it() -> None:
    service = fragment({"image": "i", "tmpfs": ["/run"], "deploy": {"update_config": {"parallelism": 3}}})
    assert service["services"]["redis-0"] == {
        "image": "i",
        "init": True,
        "volumes": [{"type": "tmpfs", "target": "/run"}],
        "deploy": {
            "endpoint_mode": "dnsrr",
            "update_config": {"parallelism": 3, "failure_action": "rollback"},
        },
    }


def test_defaults_are_not_shared_between_services() -> None:
    made = stack_fragment({"a": {"image": "i"}, "b": {"image": "i"}}, DEFAULTS, {}, {}, NETWORKS)
    made["services"]["a"]["deploy"]["endpoint_mode"] = "vip"
    assert made["services"]["b"]["deploy"]["endpoint_mode"] == "dnsrr"
    assert DEFAULTS["deploy"]["endpoint_mode"] == "dnsrr"


def test_a_secret_is_readable_by_the_image_user_alone() -> None:
    made = fragment({"image": "i", "secrets": ["password"]}, secrets={"password": "forum_redis_password_0a"})
    assert made["services"]["redis-0"]["secrets"] == [
        {
            "source": "forum_redis_password_0a",
            "target": "password",
            "uid": "10001",
            "gid": "10001",
            "mode": 0o400,
        }
    ]
    assert made["secrets"] == {"forum_redis_password_0a": {"external": True}}


def test_a_config_keeps_its_target() -> None:
    made = fragment(
        {"image": "i", "configs": [{"source": "redis.conf", "target": "/etc/redis/redis.conf"}]},
        configs={"redis.conf": "forum_redis_redis.conf_0a"},
    )
    assert made["services"]["redis-0"]["configs"][0]["target"] == "/etc/redis/redis.conf"
    assert made["services"]["redis-0"]["configs"][0]["mode"] == 0o444


def test_only_what_is_used_is_declared() -> None:
    made = fragment({"image": "i", "networks": ["redis"], "volumes": ["data:/data", "/srv/x:/x:ro"]})
    assert made["networks"] == {"redis": {"external": True, "name": "forum_redis"}}
    assert made["volumes"] == {"data": {}}


def test_a_job_has_no_rollout() -> None:
    made = fragment({"image": "i", "deploy": {"restart_policy": {"condition": "none"}}})
    deploy = made["services"]["redis-0"]["deploy"]
    assert deploy["update_config"]["failure_action"] == "continue", "its end is no failure"
    assert "rollback_config" not in deploy
    assert deploy["labels"] == {"forum.job": "true"}


def test_a_telegraf_beside_a_service_has_a_name_and_a_secret_that_is_its_own() -> None:
    variables = {"INFLUX_DB_LOCATION": "http://relay:8186", "METRICS_STACK": "forum"}
    given = {"image": "i", "environment": {"SELF": "redis-0", "HOST_MONITORING_BASE_TAG": "redis-"}}
    secrets = {"telegraf_password": "forum_redis_telegraf_password_0a"}
    made = stack_fragment({"redis-0": given}, DEFAULTS, secrets, {}, NETWORKS, variables)
    service = made["services"]["redis-0"]
    assert service["environment"] == {
        "HOST_MONITORING_BASE_TAG": "redis-",
        "METRICS_SERVICE": "redis-0",
        "METRICS_NODE": "{{.Node.Hostname}}",
        "SELF": "redis-0",
        **variables,
    }
    assert [(one["target"], one["uid"], one["mode"]) for one in service["secrets"]] == [
        ("telegraf_password", "10002", 0o400)
    ]


def test_a_service_that_lets_telegraf_in_reads_its_secret_too() -> None:
    given = {"image": "i", "x-telegraf": {"readable": True}}
    made = stack_fragment({"redis-0": given}, DEFAULTS, {"telegraf_password": "t"}, {}, NETWORKS, {"A": "b"})
    service = made["services"]["redis-0"]
    assert [(one["uid"], one["gid"], one["mode"]) for one in service["secrets"]] == [
        ("10002", "10001", 0o440)
    ]
    assert "x-telegraf" not in service


def test_what_a_service_says_of_telegraf_is_not_for_the_swarm() -> None:
    service = fragment({"image": "i", "x-telegraf": {"readable": True}})["services"]["redis-0"]
    assert service.keys() & {"x-telegraf", "secrets"} == set()


def test_a_telegraf_itself_has_none_beside_it() -> None:
    given = {"image": "i", "x-telegraf": False}
    made = stack_fragment({"relay": given}, DEFAULTS, {"telegraf_password": "t"}, {}, NETWORKS, {"A": "b"})
    service = made["services"]["relay"]
    assert "secrets" not in service
    assert "x-telegraf" not in service
    assert service["environment"]["METRICS_SERVICE"] == "relay"


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ({"image": "i", "secrets": ["pasword"]}, "uses the secret 'pasword'"),
        ({"image": "i", "configs": [{"source": "x", "target": "/x"}]}, "uses the config 'x'"),
        ({"image": "i", "networks": ["rediss"]}, "on the network 'rediss'"),
        ({"networks": ["redis"]}, "has no image"),
    ],
)
def test_a_name_that_nobody_publishes_is_refused(service: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        fragment(service)


def test_a_new_content_is_a_new_name() -> None:
    one = versioned_names({"password": "a" * 32}, "forum_redis_")
    other = versioned_names({"password": "b" * 32}, "forum_redis_")
    assert one["password"].startswith("forum_redis_password_")
    assert one != other
    assert one == versioned_names({"password": "a" * 32}, "forum_redis_")


def test_equal_secrets_of_two_components_do_not_show() -> None:
    redis = versioned_names({"password": "a" * 32}, "forum_redis_")["password"]
    haproxy = versioned_names({"password": "a" * 32}, "forum_haproxy_")["password"]
    assert redis.rpartition("_")[2] != haproxy.rpartition("_")[2]


@pytest.mark.parametrize(("name", "content"), [("password", ""), ("p" * 60, "x"), ("pass word", "x")])
def test_what_the_swarm_would_refuse_is_refused_first(name: str, content: str) -> None:
    with pytest.raises(AnsibleFilterError):
        versioned_names({name: content}, "forum_")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("192.0.2.1", "IP:192.0.2.1"),
        ("2001:db8::1", "IP:2001:db8::1"),
        ("forum.example", "DNS:forum.example"),
    ],
)
def test_a_certificate_tells_names_from_addresses(name: str, entry: str) -> None:
    assert subject_alt_name(name) == entry
