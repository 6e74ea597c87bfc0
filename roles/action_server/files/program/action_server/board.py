"""What the pages show, made of what the sources said."""

from __future__ import annotations

import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import charts, judge, words
from .settings import Settings
from .sources import Answers, Figures, InfluxDB, Managers, Series, Source

_INFLUXDB, _MANAGERS = "InfluxDB", "the swarm's managers"


@dataclass(frozen=True)
class Health:
    """How far a page's figures can be trusted: told on it, so that nothing old passes for new."""

    taken: str
    problem: str


def _health(taken: float | None, errors: Mapping[str, str]) -> Health:
    """taken: when the page's figures were told. errors: source -> what is wrong with it; empty while all is well."""
    problems = [f"{source}: {error}" for source, error in errors.items() if error]
    return Health(words.clock(taken), "; ".join(problems))


@dataclass(frozen=True)
class Line:
    """One line of a panel: its figure of now, if it has one, and its last hour."""

    name: str
    value: float | None
    hour: Series


def _lines(name: str, asked: Mapping[str, str], answers: Answers, only: Mapping[str, str]) -> list[Line]:
    """The lines of a series. asked: its statements; only: tags that they must have."""
    found: dict[str, dict[str, Series]] = {}
    for kind, statement in asked.items():
        for series in answers.get(statement, ()):
            if only.items() <= series.tags.items():
                found.setdefault(series.instance, {})[kind] = series
    none = Series({}, ())
    return [
        Line(f"{name} {instance}".strip(), each.get("now", none).newest, each.get("hour", none))
        for instance, each in found.items()
    ]


class Board:
    """The pages' contents."""

    def __init__(self, settings: Settings) -> None:
        trust = ssl.create_default_context(cafile=str(settings.files / "ca.crt"))
        password = (settings.files / "influxdb_password").read_text(encoding="utf-8").strip()
        influxdb = InfluxDB(
            settings.influxdb_url, settings.influxdb_database, settings.influxdb_user, password, trust
        )
        self.stack = settings.stack
        self._levels = settings.levels
        self._dashboards = {board["name"]: board for board in settings.dashboards}
        self._overview = Figures(influxdb, [level["statements"] for level in self._levels])
        self._panels = {
            name: Figures(
                influxdb,
                [
                    series[view]
                    for panel in board["panels"]
                    for series in panel["series"]
                    for view in ("whole", "each")
                ],
            )
            for name, board in self._dashboards.items()
        }
        mutual = ssl.create_default_context(cafile=str(settings.files / "ca.crt"))
        mutual.load_cert_chain(settings.files / "client.crt", settings.files / "client.key")
        self._managers = Source(Managers(settings.managers, settings.stack, mutual).lists, patience=3)
        self._wanted: Mapping[str, int] | None = None

    @property
    def components(self) -> list[tuple[str, str]]:
        """Name and title of every page of graphs."""
        return [(name, board["title"]) for name, board in self._dashboards.items()]

    def overview(self) -> dict[str, Any]:
        """A row for every indicator, grouped by service, and how many are in which state."""
        reading, swarm = self._overview.read(), self._managers.read()
        if swarm.value is not None:
            # Kept while the managers are away: it seldom changes.
            self._wanted = {service["name"]: service["wanted"] for service in self._services(swarm.value)}
        now = time.time()
        rows = []
        for level in self._levels:
            answers: Answers | None = None
            if reading.value is not None:
                answers = {kind: reading.value.get(text, ()) for kind, text in level["statements"].items()}
            rows.append(judge.judge(level, answers, self._wanted, now))
        groups: dict[str, list[judge.Row]] = {}
        for row in rows:
            groups.setdefault(row.level["service"], []).append(row)
        counted = Counter(row.state for row in rows)
        return {
            "groups": groups,
            "counts": [(state, counted[state]) for state in judge.State if counted[state]],
            "health": _health(reading.taken, {_INFLUXDB: reading.error, _MANAGERS: swarm.error}),
            "now": now,
        }

    def component(self, name: str, instance: str) -> dict[str, Any]:
        """The graphs of a component, all or those of one instance. Raises KeyError for an unknown one."""
        board = self._dashboards[name]
        reading, now = self._panels[name].read(), time.time()
        view, only = ("each", {board["instance"]: instance}) if instance else ("whole", {})
        # Where InfluxDB told nothing, an empty graph would say that there was nothing.
        panels = [] if reading.value is None else [
            _panel(panel, view, only, reading.value, now) for panel in board["panels"]
        ]  # fmt: skip
        return {
            "name": name,
            "title": board["title"],
            "panels": panels,
            "instances": _instances(board, reading.value or {}),
            "instance": instance,
            "health": _health(reading.taken, {_INFLUXDB: reading.error}),
        }

    def swarm(self) -> dict[str, Any]:
        """The nodes and services of the swarm."""
        reading = self._managers.read()
        lists = reading.value or {"nodes": [], "services": []}
        return {
            "known": reading.value is not None,
            "nodes": _nodes(lists["nodes"]),
            "services": self._services(lists),
            "health": _health(reading.taken, {_MANAGERS: reading.error}),
        }

    def _services(self, lists: Mapping[str, Any]) -> list[dict[str, Any]]:
        services = [_service(service, self.stack) for service in lists["services"]]
        return sorted(services, key=lambda service: str(service["name"]))


def _panel(
    panel: Mapping[str, Any], view: str, only: Mapping[str, str], answers: Answers, now: float
) -> dict[str, Any]:
    """A panel with its lines. view: whole, or each to tell instances apart; only: tags that a line must have."""
    asked = [(series["name"], series[view]) for series in panel["series"]]
    lines = [line for name, statements in asked for line in _lines(name, statements, answers, only)]
    graph = None
    # The hour may be unknown while the figures are there.
    if all(statements.get("hour") in answers for _, statements in asked):
        drawn = [(line.name, line.hour) for line in lines]
        graph = charts.graph(drawn, panel["thresholds"], panel["unit"], now, panel["title"])
    return {**panel, "lines": lines, "graph": graph}


def _instances(board: Mapping[str, Any], answers: Answers) -> list[str]:
    """The instances that a page can be narrowed to."""
    found = {
        series.tags.get(board["instance"], "")
        for panel in board["panels"]
        for asked in panel["series"]
        for statement in asked["each"].values()
        for series in answers.get(statement, ())
    }
    return sorted(found - {""})


def _nodes(nodes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each machine; one that joined anew is in the list a second time, under its old id."""
    rows = [_node(node) for node in nodes]
    ready = {row["name"] for row in rows if row["state"] == "ready"}
    return sorted(
        (row for row in rows if row["state"] == "ready" or row["name"] not in ready),
        key=lambda row: str(row["name"]),
    )


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    status, spec = node.get("Status", {}), node.get("Spec", {})
    manager = node.get("ManagerStatus", {})
    return {
        "name": node.get("Description", {}).get("Hostname", node.get("ID", "")),
        # The leader may see itself as 0.0.0.0.
        "address": manager.get("Addr", "").rpartition(":")[0] or status.get("Addr", ""),
        "role": "leader" if manager.get("Leader") else spec.get("Role", ""),
        "state": status.get("State", "unknown"),
        "availability": spec.get("Availability", ""),
        "well": status.get("State") == "ready" and spec.get("Availability") == "active",
    }


def _service(service: Mapping[str, Any], stack: str) -> dict[str, Any]:
    spec, status = service.get("Spec", {}), service.get("ServiceStatus", {})
    wanted, running = int(status.get("DesiredTasks", 0)), int(status.get("RunningTasks", 0))
    # What has come to its end runs no task, and that is as it should be.
    job = "forum.job" in spec.get("Labels", {})
    return {
        "name": str(spec.get("Name", "")).removeprefix(f"{stack}_"),
        "wanted": wanted,
        "running": running,
        "job": job,
        "well": job or running == wanted,
        "rollout": service.get("UpdateStatus", {}).get("State", ""),
    }
