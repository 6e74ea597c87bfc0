"""Kapacitor's tasks: every alarm of sla.yml for figures is one, and says what the service level says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from kapacitor import kapacitor_tasks

ROOT = Path(__file__).resolve().parents[2]
LEVELS: dict[str, dict[str, Any]] = {
    level["id"]: level
    for level in yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
    if "alarm" in level and level["indicator"]["source"] != "log"
}
TOKEN = "not-a-true-one"
#: What of the role's variables comes of the inventory.
GIVEN: dict[str, object] = {
    "stack_name": "forum",
    "influxdb_url": "https://192.0.2.14:8086",
    "influxdb_reader_password": "neither-is-this",
    "action_server_address": "192.0.2.14",
    "kapacitor_token": TOKEN,
}


def task(level: dict[str, Any]) -> str:
    """The task of a level."""
    (script,) = kapacitor_tasks([level], "forum", "full", "action-server").values()
    return script


def changed(name: str, **parts: dict[str, Any]) -> dict[str, Any]:
    """A level of sla.yml with other words in its indicator or alarm."""
    return {**LEVELS[name], **{part: {**LEVELS[name][part], **words} for part, words in parts.items()}}


def asked(script: str) -> str:
    """The statement of a task."""
    found = re.search(r"\|query\('((?:[^'\\]|\\.)*)'\)", script)
    assert found, script
    return found[1].replace("\\'", "'")


def test_an_alarm_of_figures_is_one_task() -> None:
    tasks = kapacitor_tasks(list(LEVELS.values()), "forum", "full", "action-server")
    assert set(tasks) == set(LEVELS)
    for name, script in tasks.items():
        assert script.startswith('dbrp "forum"."full"\n'), name
        assert script.count("|alert()") == 1, name


def test_an_instance_has_an_alarm_of_its_own() -> None:
    script = task(LEVELS["nginx-clients"])
    assert asked(script) == 'SELECT median("active") AS "value" FROM "forum"."full"."nginx"'
    assert ".groupBy('host')" in script
    assert """.id('nginx-clients/{{ index .Tags "host" }}')""" in script


def test_one_alarm_for_every_instance_looks_at_the_least_of_them() -> None:
    script = task(LEVELS["nginx-idle"])
    assert "|delete().tag('host')\n    |max('value').as('value')" in script
    assert ".id('nginx-idle/all')" in script
    assert "|min('value')" in task(
        changed("nginx-idle", alarm={"op": "gt", "threshold": 200, "recovery": 150})
    )


def test_a_rate_is_taken_of_each_series_before_it_is_added_up() -> None:
    script = task(LEVELS["haproxy-errors"])
    assert asked(script) == (
        'SELECT non_negative_derivative("econ", 1s) + non_negative_derivative("eresp", 1s) AS "value"'
        ' FROM "forum"."full"."haproxy" WHERE "type" = \'backend\''
    )
    nodes = [".groupBy(*)", "|mean('value')", "|groupBy()", "|sum('value')", "|alert()"]
    places = [script.index(node) for node in nodes]
    assert places == sorted(places)
    assert "|groupBy('host')" in task(LEVELS["nginx-requests"])


@pytest.mark.parametrize(
    ("alarm", "fires", "over"),
    [
        ({"op": "gt", "threshold": 5, "recovery": 2}, '"value" > 5.0', '"value" <= 2.0'),
        ({"op": "gte", "threshold": 5, "recovery": 2}, '"value" >= 5.0', '"value" < 2.0'),
        ({"op": "lt", "threshold": 5, "recovery": 8}, '"value" < 5.0', '"value" >= 8.0'),
        ({"op": "lte", "threshold": 5, "recovery": 8}, '"value" <= 5.0', '"value" > 8.0'),
    ],
)
@pytest.mark.parametrize(("severity", "level"), [("info", "info"), ("warning", "warn"), ("critical", "crit")])
def test_it_begins_at_the_threshold_and_ends_at_the_recovery(
    alarm: dict[str, Any], fires: str, over: str, severity: str, level: str
) -> None:
    script = task(changed("redis-time", alarm={**alarm, "severity": severity}))
    assert f".{level}(lambda: {fires})" in script
    assert f".{level}Reset(lambda: {over})" in script
    assert script.count("lambda:") == 2


def test_without_a_recovery_it_ends_at_the_threshold() -> None:
    level = changed("redis-time")
    level["alarm"] = {name: value for name, value in level["alarm"].items() if name != "recovery"}
    assert "Reset" not in task(level)


def test_the_alarm_may_take_another_figure() -> None:
    assert 'SELECT mean("response_time")' in asked(task(changed("redis-time", alarm={"aggregation": "mean"})))


def test_silence_is_one_for_who_told_something_before() -> None:
    level = changed(
        "nodes-cpu",
        indicator={"aggregation": "silence", "fields": ["uptime", "cpu_load"], "per": ["service", "host"]},
        alarm={"op": "gt", "threshold": 0},
    )
    script = task(level)
    assert asked(script) == 'SELECT last("uptime") AS "value" FROM "forum"."full"."snmp"'
    assert ".period(15m)" in script
    assert 'if(unixNano(now()) - unixNano("time") > 60000000000, 1.0, 0.0)' in script
    assert """{{ index .Tags "service" }}/{{ index .Tags "host" }}""" in script


def test_no_value_leaves_its_place() -> None:
    script = task(changed("haproxy-errors", indicator={"where": {"type": "it's"}}))
    # TICKscript's own escape before InfluxQL's.
    assert r"""WHERE "type" = \'it\\'s\'')""" in script


@pytest.mark.parametrize("name", ["misago-errors", "nginx-reading"])
def test_what_it_cannot_carry_is_refused(name: str) -> None:
    (level,) = (
        level
        for level in yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
        if level["id"] == name
    )
    with pytest.raises(AnsibleFilterError, match=name):
        task(level)


def test_slack_is_told_by_the_action_server_alone(role_renderer: Callable[..., Callable[[str], str]]) -> None:
    scripts = "".join(kapacitor_tasks(list(LEVELS.values()), "forum", "full", "action-server").values())
    assert "slack" not in scripts.lower()
    rendered = role_renderer("kapacitor", **GIVEN, kapacitor_levels=list(LEVELS.values()))(
        "kapacitor.conf.j2"
    )
    assert "slack" not in rendered


def test_the_token_stands_in_the_configuration_and_in_no_task(
    role_renderer: Callable[..., Callable[[str], str]],
) -> None:
    render = role_renderer("kapacitor", **GIVEN, kapacitor_levels=list(LEVELS.values()))
    configuration = render("kapacitor.conf.j2")
    assert 'url = "https://192.0.2.14:8443/events/kapacitor"' in configuration
    assert f'headers = {{ Authorization = "Bearer {TOKEN}" }}' in configuration
    wanted = json.loads(render("__kapacitor_wanted"))
    assert set(wanted) == set(LEVELS)
    assert TOKEN not in "".join(wanted.values())
    assert "httppost" not in role_renderer("kapacitor", **GIVEN)("kapacitor.conf.j2")
