"""What the server is told."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Settings of the server.

    files: the directory with tls.crt, tls.key, ca.crt, password (scrypt), influxdb_password, elasticsearch_password,
    tokens.json (caller -> SHA-256 of its token), slack_webhook, and for the managers client.crt and client.key.
    elasticsearch_index: what the names of the indices of log lines begin with.
    managers: addresses with port at which the swarm's managers are read.
    caller_networks: from where engines and Telegraf call, beside the operators' allowed_networks.
    engines: level -> the engine that carries its alarm.
    project, inventory: of the playbooks that actions run. state: where the journal is. runner: what runs one.
    reminder: a duration such as 1h. runbook_url: what a level's name is put behind; empty for none.
    slack: whether slack_webhook, among the files, holds an address.
    """

    address: str
    port: int
    user: str
    allowed_networks: tuple[IPv4Network | IPv6Network, ...]
    files: Path
    influxdb_url: str
    influxdb_database: str
    influxdb_user: str
    elasticsearch_url: str
    elasticsearch_index: str
    elasticsearch_user: str
    managers: tuple[str, ...]
    stack: str
    caller_networks: tuple[IPv4Network | IPv6Network, ...]
    engines: Mapping[str, str]
    project: Path
    inventory: Path
    state: Path
    runner: tuple[str, ...]
    run_seconds: float
    cooldown_seconds: float
    reminder: str
    board_url: str
    runbook_url: str
    slack: bool
    levels: tuple[Mapping[str, Any], ...]
    dashboards: tuple[Mapping[str, Any], ...]
    requests: tuple[Mapping[str, Any], ...]


def load(path: Path) -> Settings:
    """Settings from the TOML file at path and board.json beside it.

    Raises OSError, ValueError (also of TOML and JSON), KeyError or TypeError (unknown key).
    """
    values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    board = json.loads((path.parent / "board.json").read_text(encoding="utf-8"))
    for name in ("allowed_networks", "caller_networks"):
        values[name] = tuple(map(ip_network, values[name]))
    for name in ("managers", "runner"):
        values[name] = tuple(values[name])
    for name in ("project", "inventory", "state"):
        values[name] = Path(values[name])
    values["slack"] = bool((path.parent / "slack_webhook").read_text(encoding="utf-8").strip())
    values |= {name: tuple(board[name]) for name in ("levels", "dashboards", "requests")}
    return Settings(**values, files=path.parent)
