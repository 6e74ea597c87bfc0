"""Filters that judge an inventory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from inventory import (
    FilterModule,
    chosen_roles,
    cidr_problems,
    label_problems,
    manager_problems,
    missing_variables,
    network_problems,
    placement_labels,
    secret_variables,
    source_problems,
    unknown_variables,
    variable_problems,
)

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATIONS: Mapping[str, object] = {
    "redis": {
        "main": {
            "options": {
                "redis_password": {"type": "str", "required": True, "no_log": True},
                "redis_memory": {"type": "str", "default": "{{ something }}"},
                "redis_replicas": {"type": "int", "default": 3},
            }
        }
    },
    "stack": {"main": {"options": {"stack_endpoint_mode": {"type": "str", "choices": ["vip", "dnsrr"]}}}},
    "misago": {
        "main": {
            "options": {
                "misago_hosts": {"type": "list", "elements": "str"},
                "misago_workers": {"type": "int"},
            }
        },
        "build": {"options": {"misago_release": {"type": "str", "required": True}}},
    },
    "lab_node": {"main": {"options": None}},
    "stack_tools": {"main": {}},
    "broken": None,
}


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_odd_managers(count: int) -> None:
    assert manager_problems([f"node-{n}" for n in range(count)]) == []


@pytest.mark.parametrize(
    ("count", "reason"), [(0, "no manager"), (2, "than 1"), (4, "than 3"), (9, "at most 7")]
)
def test_managers_without_a_quorum(count: int, reason: str) -> None:
    (problem,) = manager_problems([f"node-{n}" for n in range(count)])
    assert reason in problem


def test_a_manager_named_twice_counts_once() -> None:
    assert len(manager_problems(["a", "b", "b"])) == 1


LABELS: Mapping[str, object] = {
    "node-1": {"postgres": "0", "edge": "true"},
    "node-2": {"postgres": 1},
    "node-3": None,
}


def test_labels_that_are_complete() -> None:
    assert label_problems(LABELS, {"postgres": 2}, {"edge": 1}) == []


def test_a_label_that_is_missing() -> None:
    problems = label_problems(LABELS, {"postgres": 3}, {"edge": 2})
    assert problems == [
        'no node is labelled postgres: "2": add it to swarm_labels of the node to hold it',
        '1 nodes are labelled edge: "true", at least 2 must be: add it to swarm_labels of more nodes',
    ]


def test_a_label_given_twice() -> None:
    problems = label_problems({**LABELS, "node-3": {"postgres": "0"}}, {"postgres": 2})
    assert len(problems) == 1
    assert problems[0].startswith('node-1 and node-3 are all labelled postgres: "0"')


def test_a_label_out_of_range() -> None:
    (problem,) = label_problems({**LABELS, "node-3": {"postgres": "5"}}, {"postgres": 2})
    assert "use 0 to 1" in problem


def test_labels_must_be_a_mapping() -> None:
    (problem,) = label_problems({"node-1": ["edge"]}, {})
    assert problem.startswith("node-1: swarm_labels must be a mapping")


def test_networks_that_parse() -> None:
    assert cidr_problems({"nginx_allowed_networks": ["192.0.2.0/24", "2001:db8::/32", "192.0.2.7"]}) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["192.0.2.7/24"], "write 192.0.2.0/24"),
        (["300.0.0.0/8"], "such as 192.0.2.0/24"),
        ("192.0.2.0/24", "must be a list"),
        (None, "must be a list"),
    ],
)
def test_networks_that_do_not_parse(value: object, reason: str) -> None:
    (problem,) = cidr_problems({"nginx_allowed_networks": value})
    assert problem.startswith("nginx_allowed_networks")
    assert reason in problem


def test_networks_apart() -> None:
    networks = {"docker": ["172.17.0.0/16", "172.18.0.0/16"], "overlays": ["10.200.0.0/16", "fd00::/64"]}
    assert network_problems(networks, {"node-1": "198.18.0.11", "node-2": "node-2.example"}) == []


def test_networks_that_overlap() -> None:
    problems = network_problems({"docker": ["172.16.0.0/12"], "overlays": ["172.18.0.0/16", "172.18.5.0/24"]})
    assert [problem.split(":")[0] for problem in problems] == [
        "docker (172.16.0.0/12) and overlays (172.18.0.0/16) overlap",
        "docker (172.16.0.0/12) and overlays (172.18.5.0/24) overlap",
        "overlays",
    ]


def test_a_machine_inside_of_a_pool() -> None:
    (problem,) = network_problems({"overlays": ["10.0.0.0/8"]}, {"node-1": "10.1.2.3"})
    assert problem.startswith(
        "node-1 has the address 10.1.2.3, which lies in overlays (10.0.0.0/8): move overlays"
    )


def test_two_machines_with_one_address() -> None:
    (problem,) = network_problems({}, {"node-1": "198.18.0.11", "node-2": "198.18.0.11"})
    assert problem == "node-1 and node-2 have the same address 198.18.0.11: give each its own"


def test_networks_are_parsed_first() -> None:
    (problem,) = network_problems({"overlays": ["10.0.0.1/8"]})
    assert "write 10.0.0.0/8" in problem


def test_known_variables() -> None:
    names = [
        "redis_password",
        "misago_release",
        "ansible_host",
        "my_own",
        "redis",
        "edge_address",
        "stackable",
    ]
    assert unknown_variables(names, SPECIFICATIONS) == []


def test_unknown_variables_with_what_was_meant() -> None:
    problems = unknown_variables(["redis_pasword", "misago_worker", "lab_node_zzz"], SPECIFICATIONS)
    assert problems[0].startswith("lab_node_zzz is a variable that no role knows: remove it")
    assert problems[1:] == [
        "misago_worker is a variable that no role knows: did you mean misago_workers?",
        "redis_pasword is a variable that no role knows: did you mean redis_password?",
    ]


def test_a_typo_in_the_roles_name() -> None:
    assert unknown_variables(["misgo_workers", "other_workers"], SPECIFICATIONS) == [
        "misgo_workers is a variable that no role knows: did you mean misago_workers?"
    ]


def test_values_as_specified() -> None:
    values = {
        "redis_replicas": "3",
        "stack_endpoint_mode": "vip",
        "misago_hosts": ["forum.example.org"],
        "unrelated": object(),
    }
    assert variable_problems(values, SPECIFICATIONS) == []


def test_values_of_the_wrong_type() -> None:
    problems = variable_problems({"redis_replicas": "three", "stack_endpoint_mode": "mesh"}, SPECIFICATIONS)
    assert len(problems) == 2
    assert problems[0].startswith("redis_replicas: ")
    assert "type int" in problems[0]
    assert "vip, dnsrr" in problems[1]


def test_a_secret_of_the_wrong_type_is_not_repeated() -> None:
    specifications = {"a": {"main": {"options": {"a_token": {"type": "int", "no_log": True}}}}}
    (problem,) = variable_problems({"a_token": "hunter2"}, specifications)
    assert "hunter2" not in problem


def test_missing_variables() -> None:
    specifications = {
        "redis": SPECIFICATIONS["redis"],
        "a": {"main": {"options": {"a_name": {"required": True}}}},
        "b": {"main": {"short_description": "B (internal)", "options": {"b_name": {"required": True}}}},
    }
    assert missing_variables({}, specifications) == [
        "a_name is not set, and its role needs it: set it in the inventory"
    ]
    assert missing_variables({"a_name": "x"}, specifications) == []


@pytest.mark.parametrize("name", ["lab", "production"])
def test_our_own_inventories_lack_nothing(name: str) -> None:
    program = str(Path(sys.executable).with_name("ansible-inventory"))
    command = [program, "-i", f"inventories/{name}", "--list"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    values = {
        key: value for host in json.loads(listed)["_meta"]["hostvars"].values() for key, value in host.items()
    }
    specifications = {
        path.parts[-3]: yaml.safe_load(path.read_text())["argument_specs"]
        for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")
    }
    assert missing_variables(values, specifications) == []


def test_secrets_are_those_marked_or_named_so() -> None:
    options = {
        "a_password": {"required": True},
        "a_community": {"required": True, "no_log": True},
        "a_name": {"required": True},
        "a_token": {"type": "str"},
    }
    specifications = {
        "a": {"main": {"options": options}, "other": {"options": {"b_password": {"required": True}}}}
    }
    assert secret_variables(specifications) == ["a_community", "a_password"]


def test_labels_that_placements_need() -> None:
    def at(*constraints: str) -> dict[str, object]:
        return {"deploy": {"placement": {"constraints": list(constraints)}}}

    services: dict[str, Mapping[str, object]] = {
        "postgres-0": at("node.labels.postgres == 0"),
        "postgres-2": at("node.labels.postgres==2", "node.role == manager"),
        "nginx": at("node.labels.edge == true"),
        "misago": {"deploy": {"placement": {"max_replicas_per_node": 1}}},
        "celery": {"deploy": {}},
        "job": {},
    }
    assert placement_labels(services) == {"numbered": {"postgres": 3}, "wanted": {"edge": 1}}


def test_what_comes_from_a_vendor_or_a_file_needs_its_repository_or_its_path() -> None:
    settings: dict[str, object] = {
        "a_source": "vendor",
        "a_repository": {},
        "b_source": "vendor",
        "b_repository": {"uris": "https://packages.example.org"},
        "c_source": "debian",
        "c_repository": {},
        "d_source": "vendor",
        "e_source": "path",
        "e_path": "",
        "e_repository": {},
        "f_source": "path",
        "f_path": "/opt/program",
    }
    first, second = source_problems(settings)
    assert first.startswith("a_source is vendor, but a_repository is empty: ")
    assert second.startswith("e_source is path, but e_path is empty: ")


def test_a_role_without_a_source_wants_nothing() -> None:
    specifications = {
        name: {"main": {"options": {f"{name}_password": {"required": True}}}} for name in ("a", "b", "c")
    }
    used = chosen_roles(specifications, {"a_source": "none", "b_source": "vendor"})
    assert secret_variables(used) == ["b_password", "c_password"]


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, None),
        ({"log_shipper_source": "rsyslog", "log_collector_source": "telegraf"}, None),
        ({"log_collector_logstash_repository": {}}, "log_collector_logstash_repository is empty: "),
        ({"log_shipper_filebeat_repository": {}}, "log_shipper_filebeat_path are empty: "),
        ({"log_shipper_filebeat_repository": {}, "log_shipper_filebeat_path": "/opt/filebeat"}, None),
        ({"log_collector_source": "telegraf"}, "log_collector_source is telegraf: set it to logstash"),
    ],
)
def test_filebeat_needs_logstash_and_both_need_where_they_come_from(
    changed: dict[str, object], problem: str | None
) -> None:
    settings: dict[str, object] = {
        "log_collector_source": "logstash",
        "log_collector_logstash_repository": {"uris": "https://example.org"},
        "log_shipper_source": "filebeat",
        "log_shipper_filebeat_repository": {"uris": "https://example.org"},
        "log_shipper_filebeat_path": "",
    }
    problems = source_problems(settings | changed)
    assert len(problems) == bool(problem)
    assert all(str(problem) in one for one in problems)


def test_filters_are_published() -> None:
    filters = FilterModule().filters()
    assert len(filters) == 11
    assert all(name.endswith(("_problems", "_variables", "_labels", "_roles")) for name in filters)
