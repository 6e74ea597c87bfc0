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
    and for the managers client.crt and client.key.
    elasticsearch_index: what the names of the indices of log lines begin with.
    managers: addresses with port at which the swarm's managers are read.
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
    levels: tuple[Mapping[str, Any], ...]
    dashboards: tuple[Mapping[str, Any], ...]
    requests: tuple[Mapping[str, Any], ...]


def load(path: Path) -> Settings:
    """Settings from the TOML file at path and board.json beside it.

    Raises OSError, ValueError (also of TOML and JSON), KeyError or TypeError (unknown key).
    """
    values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    board = json.loads((path.parent / "board.json").read_text(encoding="utf-8"))
    values["allowed_networks"] = tuple(map(ip_network, values["allowed_networks"]))
    values["managers"] = tuple(values["managers"])
    values |= {name: tuple(board[name]) for name in ("levels", "dashboards", "requests")}
    return Settings(**values, files=path.parent)
