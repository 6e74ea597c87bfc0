"""The filters that tell HAProxy which Sentinel to ask about which Redis."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from sentinel import FilterModule, sentinel_checks, sentinel_quorum

REDIS = ["redis-0", "redis-1", "redis-2"]
SENTINELS = ["sentinel-0", "sentinel-1", "sentinel-2"]


@pytest.mark.parametrize(("count", "majority"), [(3, 2), (4, 3), (5, 3), (7, 4)])
def test_a_majority_is_more_than_half(count: int, majority: int) -> None:
    assert sentinel_quorum([f"sentinel-{index}" for index in range(count)]) == majority


@pytest.mark.parametrize("names", [[], ["sentinel-0"], ["sentinel-0", "sentinel-1"]])
def test_too_few_sentinels_are_refused(names: list[str]) -> None:
    with pytest.raises(AnsibleFilterError, match="name at least three"):
        sentinel_quorum(names)


def test_every_server_has_a_check_of_its_own() -> None:
    checks = sentinel_checks(REDIS, SENTINELS)
    assert [check["server"] for check in checks] == REDIS
    assert [check["port"] for check in checks] == [8100, 8101, 8102]
    assert all(check["sentinels"] == SENTINELS and check["quorum"] == 2 for check in checks)
    assert len({check["backend"] for check in checks} | {check["frontend"] for check in checks}) == 6


def test_the_expected_reply_is_the_protocols() -> None:
    check = sentinel_checks(["redis-10"], SENTINELS)[0]
    reply = "*2\r\n$8\r\nredis-10\r\n"
    assert check["min_recv"] == len(reply)
    assert check["expect"] == r"*2\r\n\$8\r\nredis-10\r\n"


def test_a_name_that_begins_like_another_is_told_apart() -> None:
    one, ten = sentinel_checks(["redis-1", "redis-10"], SENTINELS)
    assert one["expect"] not in ten["expect"]
    assert ten["expect"] not in one["expect"]


@pytest.mark.parametrize(
    ("redis", "sentinels", "first_port", "message"),
    [
        ([], SENTINELS, 8100, "at least one Redis"),
        ("redis-0", SENTINELS, 8100, "a list of host names"),
        (REDIS, 3, 8100, "a list of host names"),
        (["redis-0", "redis-0"], SENTINELS, 8100, "occurs twice"),
        (REDIS, ["sentinel-0", "sentinel-0", "sentinel-1"], 8100, "occurs twice"),
        (["redis 0"], SENTINELS, 8100, "is not a host name"),
        (['redis-0"\n  server evil'], SENTINELS, 8100, "is not a host name"),
        (["sentinel-0"], SENTINELS, 8100, "can't be a Redis server and a Sentinel"),
        (REDIS, SENTINELS[:2], 8100, "name at least three"),
        (REDIS, SENTINELS, 0, "no room"),
        (REDIS, SENTINELS, 65534, "no room"),
    ],
)
def test_what_can_not_work_is_refused(redis: Any, sentinels: Any, first_port: int, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        sentinel_checks(redis, sentinels, first_port)


def test_ansible_finds_the_filters() -> None:
    assert FilterModule().filters() == {
        "sentinel_quorum": sentinel_quorum,
        "sentinel_checks": sentinel_checks,
    }
