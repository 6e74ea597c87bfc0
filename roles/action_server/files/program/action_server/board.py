"""What the pages show, made of what the sources said."""

from __future__ import annotations

import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from . import judge, panels
from .elastic import Elasticsearch
from .logs import ELASTICSEARCH, Logs
from .records import Alarm
from .settings import Settings
from .sources import Answers, Figures, InfluxDB, Managers, Reading, Source

_INFLUXDB, _MANAGERS = "InfluxDB", "the swarm's managers"


class Board:
    """The pages' contents."""

    def __init__(self, settings: Settings) -> None:
        trust = ssl.create_default_context(cafile=str(settings.files / "ca.crt"))
        influxdb = InfluxDB(
            settings.influxdb_url, settings.influxdb_database, settings.influxdb_user,
            _password(settings, "influxdb"), trust,
        )  # fmt: skip
        elasticsearch = Elasticsearch(
            settings.elasticsearch_url, settings.elasticsearch_index, settings.elasticsearch_user,
            _password(settings, "elasticsearch"), trust,
        )  # fmt: skip
        self.logs = Logs(elasticsearch, settings.requests)
        self.stack = settings.stack
        self._levels = settings.levels
        self._dashboards = {board["name"]: board for board in settings.dashboards}
        self._metrics = Figures(influxdb, self._statements(logs=False))
        # A line takes some seconds from its container to Elasticsearch.
        self._lines = Figures(elasticsearch, self._statements(logs=True), fresh=10)
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

    def _statements(self, *, logs: bool) -> list[Mapping[str, str]]:
        """What is asked for the overview: of the logs' database, or of the metrics'."""
        return [level["statements"] for level in self._levels if (level["source"] == "log") is logs]

    @property
    def components(self) -> list[tuple[str, str]]:
        """Name and title of every page of graphs."""
        return [(name, board["title"]) for name, board in self._dashboards.items()]

    def overview(self) -> dict[str, Any]:
        """A row for every indicator, grouped by service, and how many are in which state."""
        for source in (self._metrics, self._lines, self._managers):
            source.begin()
        metrics, lines, swarm = self._metrics.read(), self._lines.read(), self._managers.read()
        self._learn(swarm.value)
        now = time.time()
        rows = [
            judge.judge(level, _answers(level, metrics, lines), self._wanted, now) for level in self._levels
        ]
        groups: dict[str, list[judge.Row]] = {}
        for row in rows:
            groups.setdefault(row.level["service"], []).append(row)
        counted = Counter(row.state for row in rows)
        return {
            "groups": groups,
            "counts": [(state, counted[state]) for state in judge.State if counted[state]],
            "health": panels.health(
                metrics.taken,
                {_INFLUXDB: metrics.error, ELASTICSEARCH: lines.error, _MANAGERS: swarm.error},
            ),
            "now": now,
        }

    def _learn(self, lists: Mapping[str, Any] | None) -> None:
        """Note what the swarm wants. It is kept while the managers are away: it seldom changes."""
        if lists is not None:
            self._wanted = {
                **{service["name"]: service["wanted"] for service in self._services(lists)},
                **dict.fromkeys((judge.SHIPPERS, judge.NODES), len(_nodes(lists["nodes"]))),
            }

    def recovered(self, alarm: Alarm, level: Mapping[str, Any]) -> bool | None:
        """Whether an alarm's figures are good again; None where nobody knows."""
        self._learn(self._managers.read().value)
        answers = _answers(level, self._metrics.read(), self._lines.read())
        return judge.recovered(level, answers, alarm.instance, self._wanted, time.time())

    def tasks(self) -> dict[str, tuple[int, int]]:
        """Wanted and running tasks of each service that is no job; empty where no manager answers."""
        lists = self._managers.read().value
        return {
            service["name"]: (service["wanted"], service["running"])
            for service in (self._services(lists) if lists else ())
            if not service["job"]
        }

    def component(self, name: str, instance: str) -> dict[str, Any]:
        """The graphs of a component, all or those of one instance. Raises KeyError for an unknown one."""
        board = self._dashboards[name]
        reading, now = self._panels[name].read(), time.time()
        view, only = ("each", {board["instance"]: instance}) if instance else ("whole", {})
        # Where InfluxDB told nothing, an empty graph would say that there was nothing.
        drawn = [] if reading.value is None else [
            panels.panel(panel, view, only, reading.value, now) for panel in board["panels"]
        ]  # fmt: skip
        return {
            "name": name,
            "title": board["title"],
            "panels": drawn,
            "instances": _instances(board, reading.value or {}),
            "instance": instance,
            "health": panels.health(reading.taken, {_INFLUXDB: reading.error}),
        }

    def swarm(self) -> dict[str, Any]:
        """The nodes and services of the swarm."""
        reading = self._managers.read()
        lists = reading.value or {"nodes": [], "services": []}
        return {
            "known": reading.value is not None,
            "nodes": _nodes(lists["nodes"]),
            "services": self._services(lists),
            "health": panels.health(reading.taken, {_MANAGERS: reading.error}),
        }

    def _services(self, lists: Mapping[str, Any]) -> list[dict[str, Any]]:
        services = [_service(service, self.stack) for service in lists["services"]]
        return sorted(services, key=lambda service: str(service["name"]))


def _answers(level: Mapping[str, Any], metrics: Reading[Answers], lines: Reading[Answers]) -> Answers | None:
    """What a level's statements answered, by their kind; None where nobody answered."""
    found = (lines if level["source"] == "log" else metrics).value
    return (
        None if found is None else {kind: found.get(text, ()) for kind, text in level["statements"].items()}
    )


def _password(settings: Settings, database: str) -> str:
    return (settings.files / f"{database}_password").read_text(encoding="utf-8").strip()


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
