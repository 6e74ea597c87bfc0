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
from .sources import InfluxDB, Managers, Reading, Series, Source

Answers = Mapping[str, Sequence[Series]]


@dataclass(frozen=True)
class Health:
    """How far a page's figures can be trusted: told on it, so that nothing old passes for new."""

    taken: str
    problem: str


def _health(reading: Reading[Any], source: str) -> Health:
    problem = f"{source}: {reading.error}" if reading.error else ""
    return Health(words.clock(reading.taken), problem)


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
        statements = [text for level in self._levels for text in level["statements"].values()]
        self._overview = Source(lambda: influxdb.query(statements))
        self._panels = {
            name: Source(
                lambda board=board: influxdb.query(  # type: ignore[misc]
                    [each["statement"] for panel in board["panels"] for each in panel["series"]]
                )
            )
            for name, board in self._dashboards.items()
        }
        mutual = ssl.create_default_context(cafile=str(settings.files / "ca.crt"))
        mutual.load_cert_chain(settings.files / "client.crt", settings.files / "client.key")
        self._managers = Source(Managers(settings.managers, settings.stack, mutual).lists, patience=3)

    @property
    def components(self) -> list[tuple[str, str]]:
        """Name and title of every page of graphs."""
        return [(name, board["title"]) for name, board in self._dashboards.items()]

    def overview(self) -> dict[str, Any]:
        """A row for every indicator, grouped by service, and how many are in which state."""
        reading, now = self._overview.read(), time.time()
        answers = iter(reading.value or [])
        rows = []
        for level in self._levels:
            found: Answers | None = None
            if reading.value is not None:
                found = {name: next(answers) for name in level["statements"]}
            rows.append(judge.judge(level, found, now))
        groups: dict[str, list[judge.Row]] = {}
        for row in rows:
            groups.setdefault(row.level["service"], []).append(row)
        counted = Counter(row.state for row in rows)
        return {
            "groups": groups,
            "counts": [(state, counted[state]) for state in judge.State if counted[state]],
            "health": _health(reading, "InfluxDB"),
            "now": now,
        }

    def component(self, name: str, instance: str) -> dict[str, Any]:
        """The graphs of a component, all or those of one instance. Raises KeyError for an unknown one."""
        board = self._dashboards[name]
        reading, now = self._panels[name].read(), time.time()
        answers = iter(reading.value or [])
        panels, instances = [], set()
        for panel in board["panels"]:
            lines: list[tuple[str, Series]] = []
            for each in panel["series"]:
                for series in next(answers, []):
                    instances.add(series.tags.get(board["instance"], ""))
                    if not instance or series.tags.get(board["instance"], instance) == instance:
                        lines.append((f"{each['name']} {series.instance}".strip(), series))
            panels.append(
                {
                    **panel,
                    "lines": lines,
                    "graph": charts.graph(lines, panel["thresholds"], panel["unit"], now, panel["title"]),
                }
            )
        return {
            "name": name,
            "title": board["title"],
            "panels": panels,
            "instances": sorted(filter(None, instances)),
            "instance": instance,
            "health": _health(reading, "InfluxDB"),
        }

    def swarm(self) -> dict[str, Any]:
        """The nodes and services of the swarm."""
        reading = self._managers.read()
        lists = reading.value or {"nodes": [], "services": []}
        return {
            "known": reading.value is not None,
            "nodes": sorted((_node(node) for node in lists["nodes"]), key=lambda node: str(node["name"])),
            "services": sorted(
                (_service(service, self.stack) for service in lists["services"]),
                key=lambda service: str(service["name"]),
            ),
            "health": _health(reading, "the swarm's managers"),
        }


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    status, spec = node.get("Status", {}), node.get("Spec", {})
    manager = node.get("ManagerStatus", {})
    return {
        "name": node.get("Description", {}).get("Hostname", node.get("ID", "")),
        "address": status.get("Addr", ""),
        "role": "leader" if manager.get("Leader") else spec.get("Role", ""),
        "state": status.get("State", "unknown"),
        "availability": spec.get("Availability", ""),
        "well": status.get("State") == "ready" and spec.get("Availability") == "active",
    }


def _service(service: Mapping[str, Any], stack: str) -> dict[str, Any]:
    spec, status = service.get("Spec", {}), service.get("ServiceStatus", {})
    wanted, running = int(status.get("DesiredTasks", 0)), int(status.get("RunningTasks", 0))
    job = any(kind in spec.get("Mode", {}) for kind in ("ReplicatedJob", "GlobalJob"))
    return {
        "name": str(spec.get("Name", "")).removeprefix(f"{stack}_"),
        "wanted": wanted,
        "running": running,
        "job": job,
        "well": job or running == wanted,
        "rollout": service.get("UpdateStatus", {}).get("State", ""),
    }
