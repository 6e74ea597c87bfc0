"""The service levels: what is promised is what the list holds, and mistakes in it are told."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import load_file
from service_levels import service_level_errors

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / "inventories" / "shared"
LEVELS: list[dict[str, Any]] = yaml.safe_load((SHARED / "sla.yml").read_text())["service_levels"]
BY_ID = {level["id"]: level for level in LEVELS}
SERVICES = ["nginx", "redis", "haproxy", "postgres", "misago", "nodes", "forum"]
SCALABLE = ["nginx", "misago", "celery"]

#: What was agreed with the customer, written out once more: id, limit, alarm.
AGREED: dict[str, tuple[tuple[str, float] | None, tuple[str, float] | None]] = {
    "nginx-clients": (("lt", 1024), ("gt", 750)),
    "nginx-idle": (None, ("lt", 150)),
    "nginx-requests": (("lt", 100), ("gt", 50)),
    "nginx-errors": (("lt", 5), ("gt", 2.5)),
    "redis-errors": (("lt", 5), ("gt", 2.5)),
    "redis-time": (("lt", 10), ("gt", 5)),
    "haproxy-errors": (("lt", 5), ("gt", 2.5)),
    "haproxy-time": (("lt", 10), ("gt", 5)),
    "postgres-inserted": (("lt", 200), ("gt", 150)),
    "postgres-fetched": (("lt", 2000), ("gt", 1500)),
    "misago-post-time": (("lt", 50), ("gt", 30)),
    "misago-get-time": (("lt", 40), ("gt", 10)),
    "misago-clients": (("lt", 1500), ("gt", 1000)),
    "misago-errors": (("lt", 7.5), ("gt", 4)),
    "nodes-cpu": (("lt", 70), ("gt", 50)),
    "nodes-ram": (("lt", 70), ("gt", 55)),
    "nodes-disk": (("lt", 80), ("gt", 70)),
    "forum-get-time": (("lt", 40), None),
    "forum-post-time": (("lt", 50), None),
    "forum-errors": (("lt", 10), None),
    "forum-wrong-logins": (None, ("gte", 8)),
    "silent-components": (None, ("gt", 0)),
    "silent-nodes": (None, ("gt", 0)),
    "silent-shippers": (None, ("gt", 0)),
}
WATCHED = {
    *("nginx-reading", "nginx-writing", "nginx-waiting", "haproxy-servers"),
    *("postgres-commits", "postgres-rollbacks", "postgres-deadlocks", "postgres-conflicts"),
    *(
        "nodes-uptime",
        "nodes-vcpus",
        "nodes-memory",
        "nodes-disk-total",
        "nodes-packets-in",
        "nodes-packets-out",
    ),
}
ACTIONS = {
    "nginx-clients": {"scale_up": "nginx"},
    "nginx-idle": {"scale_down": "nginx"},
    "misago-get-time": {"scale_up": "misago"},
    "forum-wrong-logins": {"block": "source.ip"},
}


def test_every_agreed_level_is_there_and_no_other() -> None:
    assert set(BY_ID) == set(AGREED) | WATCHED
    assert len(LEVELS) == len(BY_ID)


@pytest.mark.parametrize("name", AGREED)
def test_limits_and_alarms_are_those_agreed(name: str) -> None:
    level = BY_ID[name]
    limit, alarm = AGREED[name]
    objective = {"op": limit[0], "value": limit[1]} if limit else None
    assert level.get("objective") == objective
    fires = level.get("alarm")
    assert ((fires["op"], fires["threshold"]) if fires else None) == alarm
    assert (fires or {}).get("action") == ACTIONS.get(name)
    assert "slack" in fires["notification_targets"] if fires else True


@pytest.mark.parametrize("name", sorted(WATCHED))
def test_what_is_watched_has_no_threshold(name: str) -> None:
    assert BY_ID[name]["watched"] is True
    assert not {"objective", "alarm"} & set(BY_ID[name])


def test_alarms_look_back_as_agreed() -> None:
    found = {
        name: (
            level["alarm"].get("aggregation", level["indicator"]["aggregation"]),
            level["indicator"]["lookback_window"],
            level["indicator"].get("per"),
        )
        for name, level in BY_ID.items()
        if name in ACTIONS
    }
    assert found == {
        "nginx-clients": ("median", "5s", ["host"]),
        "nginx-idle": ("median", "5m", ["host"]),
        "misago-get-time": ("mean", "3m", None),
        "forum-wrong-logins": ("count", "30s", ["source.ip"]),
    }
    assert BY_ID["nginx-idle"]["alarm"]["instances"] == "every"
    assert BY_ID["forum-wrong-logins"]["indicator"]["where"] == {
        "http.request.method": "POST",
        "url.path": "/api/auth/",
        "http.response.status_code": 400,
    }


def test_nginx_writes_the_fields_that_the_levels_read() -> None:
    template = (ROOT / "roles" / "nginx" / "templates" / "nginx.conf.j2").read_text()
    log_format = re.search(r"log_format edge (.*?);\n", template, re.DOTALL)
    assert log_format
    written = set(re.findall(r'"([\w.@]+)":', log_format[1]))
    for level in LEVELS:
        indicator = level["indicator"]
        if indicator.get("log") == "nginx":
            read = {*indicator.get("fields", []), *indicator.get("per", [])}
            read |= {*indicator.get("where", {}), *indicator.get("bad", {})}
            assert read <= written, level["id"]


@pytest.mark.parametrize("inventory", ["lab", "production"])
def test_inventories_have_the_shared_levels(inventory: str) -> None:
    link = ROOT / "inventories" / inventory / "group_vars" / "all" / "00-sla.yml"
    assert link.is_symlink()
    assert link.resolve() == SHARED / "sla.yml"


def test_the_shared_levels_are_sound() -> None:
    assert service_level_errors(LEVELS, SERVICES, SCALABLE) == []


def changed(name: str, **parts: Any) -> list[str]:
    """What is told of the shared list when parts of one entry are others; None removes one."""
    levels = copy.deepcopy(LEVELS)
    level = next(level for level in levels if level["id"] == name)
    for path, value in parts.items():
        *way, last = path.split("__")
        target = level
        for step in way:
            target = target[step]
        target[last] = value
        if value is None:
            del target[last]
    return service_level_errors(levels, SERVICES, SCALABLE)


@pytest.mark.parametrize(
    ("name", "parts", "told"),
    [
        (
            "nginx-clients",
            {"alarm__threshold": "750"},
            "nginx-clients: alarm.threshold is '750': make it a number",
        ),
        (
            "nginx-clients",
            {"alarm__treshold": 750},
            "nginx-clients: alarm holds treshold, which is unknown: use aggregation, instances or reminder",
        ),
        (
            "nginx-clients",
            {"alarm__agregation": "max"},
            "nginx-clients: alarm holds agregation, which is unknown: did you mean aggregation?",
        ),
        (
            "nginx-clients",
            {"alarm__op": "above"},
            "nginx-clients: alarm.op is 'above': use lt, lte, gt or gte",
        ),
        (
            "nginx-clients",
            {"indicator__lookback_window": "5 sec"},
            "nginx-clients: indicator.lookback_window is '5 sec': write a number with s, m or h, such as 30s",
        ),
        (
            "nginx-clients",
            {"indicator__measurement": None},
            "nginx-clients: indicator lacks measurement: add what is missing",
        ),
        (
            "nginx-clients",
            {"indicator__fields": None},
            "nginx-clients: indicator lacks fields: add what is missing",
        ),
        (
            "nginx-clients",
            {"objective": {}},
            "nginx-clients: objective lacks op, value: add what is missing",
        ),
        (
            "nginx-clients",
            {"indicator__aggregation": "count"},
            (
                "nginx-clients: indicator.aggregation is 'count': "
                "use last, mean, median, max, rate or silence, since only lines of a log can be counted"
            ),
        ),
        (
            "nginx-clients",
            {"indicator__aggregation": "avg"},
            (
                "nginx-clients: indicator.aggregation is 'avg': "
                "use last, mean, median, max, rate, count, distinct, ratio or silence"
            ),
        ),
        (
            "nginx-clients",
            {"indicator__worse": "lower"},
            "nginx-clients: indicator.worse is 'lower': use low or high",
        ),
        (
            "nginx-clients",
            {"indicator__log": "nginx"},
            "nginx-clients: indicator.log is 'nginx': remove it, it has no meaning with this source and aggregation",
        ),
        (
            "nginx-clients",
            {"indicator__fields": []},
            "nginx-clients: indicator.fields is []: name at least one",
        ),
        (
            "nginx-errors",
            {"indicator__where": {"status": {"lt": 500}}},
            (
                "nginx-errors: indicator.where.status is {'lt': 500}: "
                "write a value, a list of values that are all meant, or {gte: NUMBER}"
            ),
        ),
        (
            "misago-get-time",
            {"indicator__aggregation": "last"},
            (
                "misago-get-time: indicator.aggregation is 'last': "
                "use mean, median, max, rate, count, distinct, ratio or silence, since only a metric has a last value"
            ),
        ),
        (
            "misago-get-time",
            {"indicator__fields": ["event.duration", "process.pid"]},
            (
                "misago-get-time: indicator.fields is ['event.duration', 'process.pid']: "
                "name one field, since those of a line aren't added up"
            ),
        ),
        (
            "misago-errors",
            {"indicator__bad": None},
            "misago-errors: indicator lacks bad: add what is missing",
        ),
        (
            "nginx-clients",
            {"alarm__action": {"scale_up": "nginx", "scale_down": "nginx"}},
            (
                "nginx-clients: alarm.action is {'scale_up': 'nginx', 'scale_down': 'nginx'}: "
                "name exactly one of scale_up, scale_down and block"
            ),
        ),
        (
            "nginx-reading",
            {"watched": False},
            "nginx-reading: watched is False: write true, or leave it out",
        ),
        (
            "nginx-clients",
            {"id": "Nginx clients"},
            (
                "Nginx clients: id is 'Nginx clients': "
                "use small letters and digits, words joined by -, such as nginx-clients; at most 63"
            ),
        ),
        (
            "nginx-clients",
            {"id": None},
            "service_levels[0]: lacks id: add what is missing",
        ),
        (
            "nginx-clients",
            {"service": "ngnix"},
            "nginx-clients: service ngnix is unknown: did you mean nginx?",
        ),
        (
            "nginx-clients",
            {"service": "ldap"},
            (
                "nginx-clients: service ldap is unknown: "
                "use forum, haproxy, misago, nginx, nodes, postgres or redis"
            ),
        ),
        (
            "nginx-clients",
            {"id": "nginx-idle"},
            "nginx-idle: 2 entries have this id: give each its own",
        ),
        (
            "nginx-reading",
            {"watched": None},
            "nginx-reading: has no objective and no alarm: give it one, or watched: true if it has no threshold",
        ),
        (
            "nginx-clients",
            {"watched": True},
            (
                "nginx-clients: is watched, and has a threshold as well: "
                "remove watched, or the objective and the alarm"
            ),
        ),
        (
            "postgres-inserted",
            {"alarm__threshold": 1500},
            (
                "postgres-inserted: its alarm of 1500 doesn't come before its limit of 200: "
                "set alarm.threshold below 200, or move the limit above it"
            ),
        ),
        (
            "nginx-clients",
            {"objective__value": 750},
            (
                "nginx-clients: its alarm of 750 doesn't come before its limit of 750: "
                "set alarm.threshold below 750, or move the limit above it"
            ),
        ),
        (
            "nginx-idle",
            {"objective": {"op": "gte", "value": 200}},
            (
                "nginx-idle: its alarm of 150 doesn't come before its limit of 200: "
                "set alarm.threshold above 200, or move the limit below it"
            ),
        ),
        (
            "nginx-clients",
            {"alarm__op": "lt", "alarm__recovery": 800},
            "nginx-clients: its alarm (lt) fires where its objective (lt) is met: turn one of the two round",
        ),
        (
            "nginx-clients",
            {"alarm__recovery": 800},
            (
                "nginx-clients: its alarm of 750 ends at 800, where it still fires: "
                "set alarm.recovery to 750 or below"
            ),
        ),
        (
            "nginx-idle",
            {"alarm__recovery": 100},
            (
                "nginx-idle: its alarm of 150 ends at 100, where it still fires: "
                "set alarm.recovery to 150 or above"
            ),
        ),
        (
            "nginx-clients",
            {"alarm__action": {"scale_up": "redis"}},
            (
                "nginx-clients: alarm.action.scale_up names redis, which can't be scaled: "
                "use celery, misago or nginx"
            ),
        ),
        (
            "forum-wrong-logins",
            {"indicator__per": ["host"]},
            (
                "forum-wrong-logins: alarm.action.block names source.ip, by which nothing is told apart: "
                "add it to indicator.per"
            ),
        ),
    ],
)
def test_a_mistake_is_told_with_place_and_remedy(name: str, parts: dict[str, Any], told: str) -> None:
    assert changed(name, **parts) == [told]


def test_a_low_limit_may_have_an_alarm_above_it() -> None:
    assert changed("nginx-idle", objective={"op": "gt", "value": 100}) == []


def test_all_mistakes_are_told_at_once() -> None:
    assert len(changed("nginx-clients", service="ngnix", alarm__threshold=2000, alarm__severity="high")) == 3


@pytest.mark.parametrize("levels", [None, [], "nginx", {"nginx-clients": {}}])
def test_what_is_no_list_of_levels(levels: object) -> None:
    (told,) = service_level_errors(levels, SERVICES)
    assert told.startswith("service_levels is ")
    assert "link to inventories/shared/sla.yml" in told


def test_what_is_no_level() -> None:
    assert service_level_errors([*LEVELS, "nginx"], SERVICES, SCALABLE) == [
        f"service_levels[{len(LEVELS)}]: is 'nginx': make it a mapping"
    ]


def test_the_page_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "service_levels_page.py"), "--check"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr


def test_a_page_that_differs_is_told_and_written_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = load_file("scripts/service_levels_page.py")
    page = tmp_path / "page.md"
    current = (ROOT / "docs" / "service-levels.md").read_text()
    page.write_text(current.replace("> 750 clients", "> 350 clients"))
    assert script.main(["--check", str(page)]) == 1
    assert "run scripts/service_levels_page.py" in capsys.readouterr().err
    assert script.main([str(page)]) == 0
    assert page.read_text() == current


def test_a_page_without_a_place_for_a_table() -> None:
    script = load_file("scripts/service_levels_page.py")
    with pytest.raises(ValueError, match="<!-- limits -->"):
        script.page("# Service levels\n", LEVELS)
