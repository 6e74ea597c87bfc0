"""When the action server takes an alarm for over, by what the board's statements answer; and what its role writes."""

from __future__ import annotations

import configparser
import json
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from action_server.judge import NODES, recovered
from action_server.settings import Settings
from action_server.sources import Series
from board_site import ROOT, level
from conftest import Rendered
from service_levels import service_level_errors

NOW = 1_800_000_000.0


def told(values: Mapping[str, float], tag: str = "host", age: float = 5) -> dict[str, list[Series]]:
    """What the statements answer of instances that tell something."""
    series = [Series({tag: name}, ((NOW - age, value),)) for name, value in values.items()]
    return dict.fromkeys(("now", "each", "hour", "seen"), series)


@pytest.mark.parametrize(
    ("values", "instance", "over"),
    [
        ({"a": 900, "b": 10}, {"host": "a"}, False),
        ({"a": 751, "b": 10}, {"host": "a"}, False),
        ({"a": 601, "b": 10}, {"host": "a"}, False),
        ({"a": 600, "b": 10}, {"host": "a"}, True),
        ({"a": 10, "b": 900}, {"host": "a"}, True),
        ({"a": 10, "b": 900}, {}, False),
        ({"a": 10, "b": 20}, {}, True),
        ({"b": 10}, {"host": "a"}, True),
    ],
)
def test_an_alarm_is_over_beyond_its_recovery_and_not_before(
    values: dict[str, float], instance: dict[str, str], over: bool
) -> None:
    assert recovered(level("nginx-clients"), told(values), instance, None, NOW) is over


@pytest.mark.parametrize(
    ("values", "over"),
    [({"a": 100, "b": 149}, False), ({"a": 100, "b": 199}, False), ({"a": 100, "b": 200}, True)],
)
def test_where_every_instance_counts_one_of_them_is_enough(values: dict[str, float], over: bool) -> None:
    assert recovered(level("nginx-idle"), told(values), {}, None, NOW) is over


def test_an_alarm_without_a_recovery_is_over_at_its_threshold() -> None:
    wanted = level("nginx-clients")
    wanted["alarm"] = {name: value for name, value in wanted["alarm"].items() if name != "recovery"}
    assert recovered(wanted, told({"a": 750}), {"host": "a"}, None, NOW) is True
    assert recovered(wanted, told({"a": 751}), {"host": "a"}, None, NOW) is False


def test_nobody_knows_while_the_source_is_away_or_the_instance_is_missed() -> None:
    assert recovered(level("nginx-clients"), None, {"host": "a"}, None, NOW) is None
    silent = told({}) | {"seen": [Series({"host": "a", "service": "nginx"}, ((NOW - 100, 1.0),))]}
    assert recovered(level("nginx-clients"), silent, {"host": "a"}, {"nginx": 1}, NOW) is None


def test_of_lines_that_don_t_arrive_nobody_knows_and_of_none_that_matter_all_is_well() -> None:
    lines = [Series({}, ((NOW, 50.0),))]
    answers: dict[str, list[Series]] = {"now": [], "each": [], "hour": [], "seen": lines, "alarm": []}
    assert recovered(level("misago-get-time"), answers, {}, None, NOW) is True
    assert recovered(level("misago-get-time"), answers | {"seen": []}, {}, None, NOW) is None


def test_where_the_alarm_looks_at_another_figure_that_one_counts() -> None:
    lines = [Series({}, ((NOW, 50.0),))]
    answers = {"now": [Series({}, ((NOW, 39.0),))], "each": [], "hour": [], "seen": lines}
    for mean, over in ((6.0, False), (5.0, True)):
        found = recovered(
            level("misago-get-time"), answers | {"alarm": [Series({}, ((NOW, mean),))]}, {}, None, NOW
        )
        assert found is over


def test_silence_is_over_for_who_tells_something_again_and_for_who_departed() -> None:
    wanted = level("silent-components")

    def tasks(*newest: float) -> dict[str, list[Series]]:
        told = zip("ab", newest, strict=True)
        return {"seen": [Series({"service": "nginx", "host": name}, ((at, 1.0),)) for name, at in told]}

    gone = {"service": "nginx", "host": "a"}
    for answers, replicas, over in (
        (tasks(NOW - 61, NOW), 2, False), (tasks(NOW - 59, NOW), 2, True), (tasks(NOW - 61, NOW), 1, True),
        # Another one is missed.
        (tasks(NOW, NOW - 61), 2, True),
    ):  # fmt: skip
        assert recovered(wanted, answers, gone, {"nginx": replicas}, NOW) is over


def test_a_node_that_left_the_swarm_is_not_missed() -> None:
    seen = {"seen": [Series({"node": name}, ((at, 1.0),)) for name, at in (("a", NOW - 90), ("b", NOW))]}
    for nodes, over in ((2, False), (1, True)):
        assert recovered(level("silent-nodes"), seen, {"node": "a"}, {NODES: nodes}, NOW) is over


@pytest.fixture
def rendered(role_renderer: Callable[..., Rendered]) -> Rendered:
    given: dict[str, Any] = {
        "monitoring_address": "192.0.2.14", "action_server_allowed_networks": ["192.0.2.0/24"],
        "docker_reader_addresses": ["192.0.2.11:2376"], "service_levels": [], "influxdb_url": "https://x:8086",
        "elasticsearch_url": "https://x:9200", "action_server_engines": {"nginx-clients": "kapacitor"},
        "action_server_managers": {"node-1": "192.0.2.11"},
        "action_server_edge": {"node-1": "192.0.2.11", "node-2": "192.0.2.12"},
        "slack_webhook": "", "runbook_url": "https://docs/#",
    }  # fmt: skip
    return role_renderer("action_server", **given)


def test_the_role_writes_what_the_program_reads(rendered: Rendered) -> None:
    written = tomllib.loads(rendered("settings.toml.j2"))
    of_files = {"files", "slack", "levels", "dashboards", "requests"}
    assert written.keys() == Settings.__dataclass_fields__.keys() - of_files
    assert written["engines"] == {"nginx-clients": "kapacitor"}
    assert written["caller_networks"] == ["192.0.2.14"]
    assert written["board_url"] == "https://192.0.2.14:8443"


def test_the_actions_reach_managers_and_edge_nodes_by_their_own_key(rendered: Rendered) -> None:
    inventory = yaml.safe_load(rendered("inventory.yml.j2"))["all"]
    assert inventory["children"] == {
        "swarm_managers": {"hosts": {"node-1": {"ansible_host": "192.0.2.11"}}},
        "edge": {
            "hosts": {"node-1": {"ansible_host": "192.0.2.11"}, "node-2": {"ansible_host": "192.0.2.12"}}
        },
    }
    assert inventory["vars"]["ansible_user"] == "forum-actions"
    configuration = configparser.ConfigParser(interpolation=None)
    configuration.read_string(rendered("ansible.cfg.j2"))
    assert configuration["defaults"]["host_key_checking"] == "true"
    assert configuration["ssh_connection"]["pipelining"] == "true"


def test_every_caller_has_a_token_of_its_own(rendered: Rendered) -> None:
    names = yaml.safe_load((ROOT / "roles/action_server/vars/main.yml").read_text())["__action_server_tokens"]
    lab = (ROOT / "inventories/lab/group_vars/all/secrets.yml").read_text()
    example = (ROOT / "inventories/production/group_vars/all/vault.yml.example").read_text()
    for caller, value in names.items():
        assert value == f"{{{{ action_server_token_{caller} }}}}"
        assert f"action_server_token_{caller}: >-\n" in lab
        assert f'action_server_token_{caller}: ""' in example


def test_ansible_on_the_monitoring_machine_is_that_of_the_control_machine() -> None:
    wanted = (ROOT / "roles/action_server/files/requirements.txt").read_text().split()
    locked = (ROOT / "requirements.lock").read_text()
    for word in wanted:
        if "==" in word or word.startswith("--hash="):
            assert word in locked


def test_a_level_may_have_a_reminder_of_its_own() -> None:
    given = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
    services = sorted({each["service"] for each in given})
    tasks = ["nginx", "misago"]
    given[0]["alarm"]["reminder"] = "30m"
    assert service_level_errors(given, services, tasks) == []
    given[0]["alarm"]["reminder"] = "often"
    assert "30s" in json.dumps(service_level_errors(given, services, tasks))
