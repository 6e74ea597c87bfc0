"""Filters that add up connections, memory and processors."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import pytest
from ansible.errors import AnsibleFilterError
from capacity import (
    FilterModule,
    connection_problems,
    resource_problems,
    scalable,
    to_bytes,
    to_cpus,
    with_telegraf,
)

CLIENTS = {
    "misago": {"replicas": 3, "connections": 3},
    "celery": {"replicas": 1, "connections": 2},
    "maintenance": {"connections": 1},
    "release": {},
}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1024, 1024),
        ("512m", 512 << 20),
        ("1.5G", 1536 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("7b", 7),
    ],
)
def test_sizes(size: object, expected: int) -> None:
    assert to_bytes(size) == expected


@pytest.mark.parametrize("size", ["", "-1", "much", "1 apple", None, True])
def test_what_is_no_size(size: object) -> None:
    with pytest.raises(AnsibleFilterError, match="is no size"):
        to_bytes(size)


def test_cpus() -> None:
    assert to_cpus("0.25") == Fraction(1, 4)
    assert to_cpus(2) == 2


@pytest.mark.parametrize("cpus", ["two", -1, None, "1/0", True])
def test_what_is_no_number_of_cpus(cpus: object) -> None:
    with pytest.raises(AnsibleFilterError, match="number of processors"):
        to_cpus(cpus)


def test_connections_that_add_up() -> None:
    # 9 + 2 + 1 + 1 = 13 clients on 2 of 3 Pgpool with 7 each; 3 * 7 + 10 = 31
    assert (
        connection_problems(CLIENTS, {"replicas": 3, "num_init_children": 7}, {"max_connections": 31}) == []
    )


def test_one_child_too_few() -> None:
    problems = connection_problems(CLIENTS, {"replicas": 3, "num_init_children": 6}, {"max_connections": 100})
    assert len(problems) == 1
    assert "13 connections (misago 9 + celery 2 + maintenance 1 + release 1)" in problems[0]
    assert "3 Pgpool take 12 while one of them is away: raise num_init_children to 7 or more" in problems[0]


def test_one_connection_too_few() -> None:
    problems = connection_problems(CLIENTS, {"replicas": 3, "num_init_children": 7}, {"max_connections": 30})
    assert len(problems) == 1
    assert "raise max_connections to 31 or more" in problems[0]


def test_direct_clients_count_for_postgres_only() -> None:
    clients = {"misago": {"replicas": 1, "connections": 7}, "celery": {"connections": 5, "direct": True}}
    pgpool = {"replicas": 1, "num_init_children": 7}
    assert connection_problems(clients, pgpool, {"max_connections": 22}) == []
    (problem,) = connection_problems(clients, pgpool, {"max_connections": 21})
    assert "5 come directly" in problem


def test_max_pool_multiplies() -> None:
    pgpool = {"replicas": 3, "num_init_children": 10, "max_pool": 4}
    (problem,) = connection_problems({}, pgpool, {"max_connections": 100, "reserved": 3})
    assert "up to 120 connections" in problem
    assert "leaves 97" in problem


def test_no_pgpool() -> None:
    problems = connection_problems({}, {"replicas": 0, "num_init_children": 1}, {"max_connections": 100})
    assert problems == ["there is no Pgpool: set its replicas to 1 or more"]


@pytest.mark.parametrize("value", ["many", -1, None, 1.5, True])
def test_numbers_of_connections_must_be_numbers(value: object) -> None:
    (problem,) = connection_problems({}, {"replicas": 1, "num_init_children": 1}, {"max_connections": value})
    assert "max_connections is" in problem


def service(
    replicas: int = 1, memory: str = "100m", cpus: str = "0.1", **placement: object
) -> dict[str, object]:
    """A compose service with limits of twice its reservations."""
    return {
        "deploy": {
            "replicas": replicas,
            "placement": placement,
            "resources": {
                "reservations": {"memory": memory, "cpus": cpus},
                "limits": {"memory": to_bytes(memory) * 2, "cpus": float(to_cpus(cpus)) * 2},
            },
        }
    }


def three(memory: str = "4g", cpus: int = 2) -> dict[str, Mapping[str, object]]:
    """Three nodes; each has its own postgres label."""
    return {f"node-{n}": {"cpus": cpus, "memory": memory, "labels": {"postgres": str(n)}} for n in range(3)}


def test_a_stack_that_fits() -> None:
    services = {
        **{
            f"postgres-{n}": service(memory="512m", constraints=[f"node.labels.postgres == {n}"])
            for n in range(3)
        },
        "misago": service(3, "700m", "0.5"),
        "pgpool": service(3, "200m", max_replicas_per_node=1),
    }
    assert resource_problems(services, three()) == []


def test_too_little_memory_at_all() -> None:
    (problem,) = resource_problems({"misago": service(4, "3g")}, three())
    assert problem.startswith(
        "there is no room for misago on all nodes together: the services reserve 12288 MB"
    )
    assert "lower the reservations" in problem


def test_too_little_memory_with_a_node_lost() -> None:
    problems = resource_problems({"misago": service(3, "3g")}, three())
    assert [problem.split(":")[0] for problem in problems] == [
        f"there is no room for misago when node-{n} is lost" for n in range(3)
    ]


def test_too_few_processors_with_a_node_lost() -> None:
    problems = resource_problems({"misago": service(5, "1m", "1")}, three())
    assert len(problems) == 3
    assert "offer 7168 MB and 4 CPUs" in problems[0]


def test_tasks_bound_to_the_lost_node_wait_for_it() -> None:
    services = {
        f"postgres-{n}": service(memory="3g", constraints=[f"node.labels.postgres=={n}"]) for n in range(3)
    }
    assert resource_problems(services, three()) == []


def test_one_per_node_waits_for_the_lost_node() -> None:
    assert resource_problems({"nginx": service(3, max_replicas_per_node=1)}, three()) == []
    (problem,) = resource_problems({"nginx": service(4, max_replicas_per_node=1)}, three())
    assert "no room for nginx on all nodes" in problem


def bound(low: object, high: object, replicas: int = 3, memory: str = "1m") -> Mapping[str, object]:
    """A service that may be scaled."""
    found = service(replicas, memory)
    assert isinstance(found["deploy"], dict)
    found["deploy"]["labels"] = {"forum.scale.min": low, "forum.scale.max": high}
    return found


def test_what_may_be_scaled_counts_with_the_most_that_it_may_have() -> None:
    assert resource_problems({"misago": bound("2", "4", memory="1g")}, three()) == []
    (problem, *_) = resource_problems({"misago": bound("2", "13", memory="1g")}, three())
    assert problem.startswith("there is no room for misago")


@pytest.mark.parametrize(("low", "high"), [(0, 3), (4, 5), (1, 2)])
def test_bounds_that_the_inventory_s_own_number_is_out_of(low: int, high: int) -> None:
    (problem,) = resource_problems({"misago": bound(low, high)}, three())
    assert problem == (
        f"misago has 3 replicas and may be scaled between {low} and {high}: "
        "have 1 ≤ misago_replicas_min ≤ misago_replicas ≤ misago_replicas_max"
    )


def test_only_what_has_bounds_may_be_scaled() -> None:
    assert scalable({"misago": bound(1, 3), "redis-0": service()}) == ["misago"]


def test_global_services_run_once_on_each_node_that_may() -> None:
    relay = service(memory="3g")
    assert isinstance(relay["deploy"], dict)
    relay["deploy"]["mode"] = "global"
    assert resource_problems({"relay": relay}, three()) == []
    (problem,) = resource_problems({"relay": relay, "other": service(memory="600m")}, three())
    assert "no room for other" in problem


def test_the_systems_share_is_left_alone() -> None:
    services = {"misago": service(1, "900m")}
    nodes = {"node": {"cpus": 2, "memory": "1g", "labels": {}}}
    assert resource_problems(services, nodes, system_memory=0) == []
    assert len(resource_problems(services, nodes, system_memory="200m")) == 1
    assert len(resource_problems(services, nodes, system_cpus=2, system_memory=0)) == 1


def test_no_node_has_the_label() -> None:
    services = {"postgres-3": service(constraints=["node.labels.postgres == 3", "node.role == worker"])}
    assert resource_problems(services, three()) == [
        "postgres-3 may run on no node, none is labelled postgres == 3: add it to swarm_labels of a node"
    ]


def test_constraints_by_difference() -> None:
    services = {"misago": service(1, "3g", constraints=["node.labels.postgres != 0"])}
    problems = resource_problems(services, {"node": {"cpus": 2, "memory": "4g", "labels": {"postgres": 0}}})
    assert "may run on no node" in problems[0]


def test_limits() -> None:
    unlimited: dict[str, object] = {"deploy": {"resources": {"reservations": {"memory": "10m"}}}}
    small = {
        "deploy": {
            "resources": {
                "reservations": {"memory": "64m", "cpus": 1},
                "limits": {"memory": "32m", "cpus": "1.0"},
            }
        }
    }
    assert resource_problems({"a": unlimited, "b": small}, three()) == [
        "a has no limit of cpus: set deploy.resources.limits.cpus",
        "a has no limit of memory: set deploy.resources.limits.memory",
        "b reserves 64m of memory, more than its limit 32m: lower the reservation",
    ]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (
            {
                "deploy": {
                    "resources": {"limits": {"cpus": 1, "memory": "1g"}, "reservations": {"memory": "x"}}
                }
            },
            "size",
        ),
        ({"deploy": {"placement": {"constraints": 5}}}, "must be a list"),
        ({"deploy": {"replicas": "many"}}, "replicas is 'many'"),
    ],
)
def test_broken_services(broken: dict[str, object], reason: str) -> None:
    assert reason in resource_problems({"a": broken}, three())[-1]


def test_broken_labels() -> None:
    assert (
        "labels must be" in resource_problems({}, {"node": {"cpus": 1, "memory": 1, "labels": ["edge"]}})[0]
    )


def test_the_telegraf_beside_a_service_has_a_share_of_its_own() -> None:
    resources = {"limits": {"cpus": "0.50", "memory": "384M"}, "reservations": {"memory": "64M"}}
    services: dict[str, dict[str, object]] = {
        "redis-0": {"deploy": {"replicas": 1, "resources": resources}},
        "relay": {"x-telegraf": False, "deploy": {"resources": resources}},
        "unlimited": {"deploy": {}},
    }
    share = {
        "limits": {"cpus": "0.05", "memory": "64M"},
        "reservations": {"cpus": "0.01", "memory": "32M"},
    }
    found = with_telegraf(services, share)
    assert found["redis-0"]["deploy"] == {
        "replicas": 1,
        "resources": {"limits": {"cpus": "0.55", "memory": "448M"}, "reservations": {"memory": "96M"}},
    }
    assert found["relay"] == services["relay"]
    assert found["unlimited"] == services["unlimited"]
    assert with_telegraf(services, {})["redis-0"] == services["redis-0"]


def test_filters_are_published() -> None:
    assert set(FilterModule().filters()) == {
        "connection_problems",
        "resource_problems",
        "scalable",
        "with_telegraf",
    }
