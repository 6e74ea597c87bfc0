"""Who carries which alarm, and what ElastAlert2 is told of those that are its own."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from alarms import alarm_engines, alarm_problems
from ansible.errors import AnsibleFilterError
from conftest import Rendered
from elastalert_filters import alarms_template, copied_metrics, elastalert_rules, metrics_template
from forum_alarms.figures import Figure, firing, of_lines, of_points

ROOT = Path(__file__).resolve().parents[2]

LEVELS: list[dict[str, Any]] = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())[
    "service_levels"
]
WITH_ALARM = [level for level in LEVELS if "alarm" in level]
RULES = {rule["name"]: rule for rule in elastalert_rules(WITH_ALARM, "forum-logs", "forum-metrics")}
NOW = 1_800_000_000.0


def engines(**available: str) -> dict[str, str]:
    """The engine of each alarm."""
    return {one["level"]: one["engine"] for one in alarm_engines(LEVELS, available)}


def test_where_nothing_else_can_be_had_elastalert_carries_all() -> None:
    found = engines(elastalert_source="pypi", kapacitor_source="none", kibana_source="none")
    assert list(found) == [level["id"] for level in WITH_ALARM]
    assert set(found.values()) == {"elastalert"}


def test_kapacitor_carries_what_is_in_influxdb() -> None:
    found = engines(elastalert_source="pypi", kapacitor_source="path")
    for level in WITH_ALARM:
        wanted = "elastalert" if level["indicator"]["source"] == "log" else "kapacitor"
        assert found[level["id"]] == wanted, level["id"]


@pytest.mark.parametrize(("licence", "calls"), [("basic", False), ("trial", True), ("platinum", True)])
def test_kibana_and_watcher_carry_what_is_in_logs_if_they_may_call_somebody(
    licence: str, calls: bool
) -> None:
    found = engines(
        elastalert_source="pypi", kapacitor_source="vendor", kibana_source="vendor", elastic_licence=licence
    )
    of_logs = {
        level["id"]: found[level["id"]] for level in WITH_ALARM if level["indicator"]["source"] == "log"
    }
    assert of_logs.pop("forum-wrong-logins") == ("watcher" if calls else "elastalert")
    assert set(of_logs.values()) == {"kibana" if calls else "elastalert"}


def test_an_alarm_that_nobody_carries_is_a_problem() -> None:
    assert alarm_problems(alarm_engines(LEVELS, {"elastalert_source": "pypi"})) == []
    told = alarm_problems(alarm_engines(LEVELS, {"kapacitor_source": "path", "elastalert_source": "none"}))
    assert len(told) == sum(level["indicator"]["source"] == "log" for level in WITH_ALARM)
    assert told[0] == (
        "nginx-errors: no engine carries its alarm (kibana_source is none, and so is elastalert_source): "
        "set elastalert_source to pypi"
    )


def test_wrong_logins_are_a_frequency_by_address_that_is_asked_for_every_second() -> None:
    rule = RULES["forum-wrong-logins"]
    assert rule["type"].endswith("CountRule")
    assert (rule["num_events"], rule["timeframe"], rule["query_key"]) == (8, {"seconds": 30}, "source.ip")
    assert rule["run_every"] == {"seconds": 1}
    assert rule["realert"] == {"seconds": 0}, "each eight are an offence"
    text = json.dumps(rule["filter"])
    for word in (
        '"event.dataset": "nginx.access"',
        '"url.path": "/api/auth/"',
        '"http.response.status_code": 400',
    ):
        assert word in text


def test_every_rule_says_what_its_level_says() -> None:
    for level in WITH_ALARM:
        rule, alarm = RULES[level["id"]], level["alarm"]
        assert rule["alert"] == "post2"
        assert rule["index"].startswith(
            "forum-logs-" if level["indicator"]["source"] == "log" else "forum-metrics-"
        )
        assert 1 <= rule["run_every"]["seconds"] <= 15
        if "forum" in rule:
            words = rule["forum"]
            assert (words["op"], words["threshold"]) == (alarm["op"], alarm["threshold"])
            assert words["aggregation"] == alarm.get("aggregation", level["indicator"]["aggregation"])
    assert RULES["nginx-idle"]["forum"]["instances"] == "every"
    assert RULES["misago-get-time"]["forum"]["aggregation"] == "mean"
    assert RULES["nginx-clients"]["run_every"] == RULES["misago-get-time"]["run_every"] == {"seconds": 5}
    assert Counter(rule["type"].rpartition(".")[2] for rule in RULES.values())["CountRule"] == 1


def test_a_condition_on_a_tag_looks_at_the_tag() -> None:
    assert {"term": {"tag.type": "backend"}} in RULES["haproxy-errors"]["filter"][0]["bool"]["filter"]


def test_lines_can_not_be_counted_of_every_instance() -> None:
    (level,) = (level for level in LEVELS if level["id"] == "forum-wrong-logins")
    for change in ({"alarm": {**level["alarm"], "instances": "every"}},
                   {"indicator": {**level["indicator"], "per": ["source.ip", "host.name"]}}):  # fmt: skip
        with pytest.raises(
            AnsibleFilterError, match="forum-wrong-logins: ElastAlert2 counts lines by one field"
        ):
            elastalert_rules([{**level, **change}], "logs", "metrics")


def test_only_what_alarms_read_is_copied_and_it_is_a_number() -> None:
    copied = copied_metrics(WITH_ALARM)
    assert copied["nginx"] == ["active", "requests"]
    assert copied["snmp"] == ["cpu_load", "disk_used", "ram_used", "uptime"]
    assert copied_metrics([level for level in WITH_ALARM if level["indicator"]["source"] == "log"]) == {}
    template = metrics_template(copied, ["host", "type"], "forum-metrics")
    properties = template["template"]["mappings"]["properties"]
    assert properties["redis"]["properties"]["rejected_connections"] == {"type": "double"}
    assert set(properties["tag"]["properties"]) == {"host", "type", "series"}
    assert alarms_template("forum-alarms")["index_patterns"] == ["forum-alarms-*"]


def test_the_tags_of_all_alarms_are_searched(role_renderer: Callable[..., Rendered]) -> None:
    tags = set(json.loads(role_renderer("elasticsearch")("elasticsearch_metrics_tags")))
    for level in WITH_ALARM:
        indicator = level["indicator"]
        if indicator["source"] != "log":
            assert {*indicator.get("per", ()), *indicator.get("where", {})} <= tags, level["id"]


def counter(*values: float, step: float = 10) -> list[tuple[float, tuple[float, ...]]]:
    """A series' points, the last one now."""
    first = NOW - step * (len(values) - 1)
    return [(first + step * number, (value,)) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("series", "aggregation", "window", "value"),
    [
        # What a counter loses by beginning anew is no fall, and what it has then no leap.
        ([counter(0, 100, 200, 0, 100)], "rate", 60, 10),
        ([counter(0, 100, 200), counter(50, 60, 70)], "rate", 60, 11),
        ([counter(7)], "rate", 60, None),
        ([counter(1000, 0, 10)], "rate", 10, 1),
        ([counter(9, 1, 2, 3, step=1)], "median", 3, 2),
        ([counter(9, 1, 2, 6, step=1)], "mean", 3, 3),
        ([counter(9, 1, 2, 6, step=1)], "max", 60, 9),
        ([counter(9, 5), counter(7)], "max", 60, 9),
        ([counter(5, 3)], "last", 60, 3),
        ([], "mean", 60, None),
    ],
)
def test_points_have_the_figure_that_influxdb_would_tell(
    series: Any, aggregation: str, window: float, value: float | None
) -> None:
    assert of_points(series, aggregation, window)[0] == value


def test_fields_are_added_up() -> None:
    points = [(NOW - 10, (0.0, 10.0)), (NOW, (20.0, 40.0))]
    assert of_points([points], "rate", 60) == (5, NOW)
    assert of_points([points], "max", 60) == (60, NOW)


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ({"doc_count": 90, "meta": {"scale": 1 / 60}}, 1.5),
        ({"value": 2e9, "meta": {"scale": 1e-9}}, 2),
        ({"value": None, "meta": {"scale": 1}}, None),
        ({"values": {"50.0": 3.0}, "meta": {"scale": 1}}, 3),
        ({"buckets": {"all": {"doc_count": 50}, "bad": {"doc_count": 2}}, "meta": {"scale": 100}}, 4),
        ({"buckets": {"all": {"doc_count": 0}, "bad": {"doc_count": 0}}, "meta": {"scale": 100}}, None),
    ],
)
def test_lines_have_the_figure_that_the_board_shows(figure: dict[str, Any], value: float | None) -> None:
    assert of_lines(figure) == value


def answer(age: float = 0, **values: float) -> dict[str, Any]:
    """What Elasticsearch tells of instances with one point each."""
    return {
        "each": {
            "meta": {"name": "host"},
            "buckets": [
                {"key": name, "series": {"buckets": [{"points": {"buckets": [
                    {"key": (NOW - age) * 1000, "field0": {"value": value}}]}}]}}
                for name, value in values.items()
            ],
        }
    }  # fmt: skip


def words(**given: object) -> dict[str, object]:
    return {"aggregation": "last", "window": 60, "op": "lt", "threshold": 150, "instances": "any", **given}


def test_each_instance_on_the_bad_side_fires() -> None:
    assert firing(answer(a=100, b=200), words(), NOW) == [Figure({"host": "a"}, 100, NOW)]
    assert firing(answer(a=150), words(), NOW) == []
    assert len(firing(answer(a=150), words(op="lte"), NOW)) == 1


def test_where_every_instance_is_asked_for_one_that_is_well_is_enough() -> None:
    every = words(instances="every")
    assert firing(answer(a=100, b=149), every, NOW) == [Figure({}, 149, NOW)]
    assert firing(answer(a=100, b=150), every, NOW) == []
    assert firing({"each": {"meta": {"name": "host"}, "buckets": []}}, every, NOW) == [], (
        "silence is no idleness"
    )


def test_what_tells_nothing_any_more_counts_for_nothing() -> None:
    assert firing(answer(age=61, a=100), words(), NOW) == []


def test_silence_is_how_many_told_nothing_and_of_now() -> None:
    ages = {"a": 5, "b": 61, "c": 500}
    told = {
        "each": {
            "meta": {"name": "node"},
            "buckets": [{"key": name, "newest": {"value": (NOW - age) * 1000}} for name, age in ages.items()],
        }
    }
    found = firing(told, words(aggregation="silence", op="gt", threshold=0), NOW)
    assert found == [Figure({"node": "b"}, 2, NOW), Figure({"node": "c"}, 2, NOW)]


def elastalert_role(role_renderer: Callable[..., Rendered]) -> Rendered:
    return role_renderer(
        "elastalert",
        monitoring_address="192.0.2.14",
        service_levels=LEVELS,
        elasticsearch_alarms_password="password of the alarms",
        action_server_token_elastalert="token of elastalert",
    )


def test_only_files_of_one_user_hold_password_and_token(role_renderer: Callable[..., Rendered]) -> None:
    render = elastalert_role(role_renderer)
    settings = yaml.safe_load(render("config.yaml.j2"))
    assert settings["es_host"] == "192.0.2.14"
    assert settings["http_post2_url"] == "https://192.0.2.14:8443/events/elastalert"
    assert settings["http_post2_headers"] == {"Authorization": "Bearer token of elastalert"}
    assert settings["verify_certs"] is True
    for unit in ("elastalert.service.j2", "alarm_copier.service.j2"):
        assert " of " not in render(unit).partition("[Service]")[2], unit
    tasks = [
        task
        for path in (ROOT / "roles/elastalert/tasks").glob("*.yml")
        for task in yaml.safe_load(path.read_text())
    ]
    secret = [
        task
        for task in tasks
        if str(task.get("ansible.builtin.template", {}).get("src")) in ("config.yaml.j2", "telegraf.conf.j2")
    ]
    assert len(secret) == 2
    for task in secret:
        assert task["ansible.builtin.template"]["mode"] == "0640"
        assert task["no_log"]
        assert task["diff"] is False


def test_the_copier_takes_what_alarms_need_and_listens_to_its_own_machine(
    role_renderer: Callable[..., Rendered],
) -> None:
    settings = tomllib.loads(elastalert_role(role_renderer)("telegraf.conf.j2"))
    (listener,), (output,) = settings["inputs"]["influxdb_listener"], settings["outputs"]["elasticsearch"]
    assert listener["service_address"] == "127.0.0.1:8187"
    assert listener["namepass"] == list(copied_metrics(WITH_ALARM))
    assert output["index_name"] == "forum-metrics-%Y.%m.%d"
    assert settings["processors"]["template"] == [{"tag": "series", "template": "{{ .Tags }}"}]
    used = {f"{kind}.{name}" for kind in ("inputs", "processors", "outputs") for name in settings[kind]}
    built = (ROOT / "roles/telegraf/files/program/Dockerfile").read_text()
    assert [name for name in used if name not in built] == []


def test_influxdb_sends_to_where_the_copier_listens(role_renderer: Callable[..., Rendered]) -> None:
    product = yaml.safe_load((ROOT / "inventories/shared/product.yml").read_text())
    assert "http://127.0.0.1:' ~ elastalert_copier_port" in product["influxdb_subscriber"]
    for url, enabled in (("http://127.0.0.1:8187", "true"), ("", "false")):
        text = role_renderer("influxdb", influxdb_subscriber=url, influxdb_address="192.0.2.14")(
            "influxdb.conf.j2"
        )
        assert f"[subscriber]\n  enabled = {enabled}\n" in text
