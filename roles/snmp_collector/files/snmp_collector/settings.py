"""What the collector is told."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings of the collector; times are seconds.

    managers: URLs of the docker_reader of each manager. certificates: a directory with client.crt, client.key, ca.crt.
    patience_seconds: as long as a node may take to answer; a manager and InfluxDB may take five times as long.
    keep_rounds: rounds of points that are kept while InfluxDB is away; the oldest goes first.
    """

    stack: str
    managers: tuple[str, ...]
    influxdb_url: str
    influxdb_database: str
    influxdb_writer: str
    influxdb_reader: str
    snmp_user: str
    snmp_port: int
    snmp_auth_password: str = field(repr=False)
    snmp_privacy_password: str = field(repr=False)
    influxdb_writer_password: str = field(repr=False)
    influxdb_reader_password: str = field(repr=False)
    certificates: Path = Path("/etc/snmp_collector")
    poll_seconds: float = 15
    discover_seconds: float = 180
    patience_seconds: float = 2
    keep_rounds: int = 5760


def load(path: Path) -> Settings:
    """Settings from the TOML file at path: fields of Settings by name.

    Raises OSError, tomllib.TOMLDecodeError, TypeError (missing or unknown key) or ValueError.
    """
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    values["managers"] = tuple(values.get("managers", ()))
    if not values["managers"]:
        raise ValueError("managers must name at least one")
    if "certificates" in values:
        values["certificates"] = Path(values["certificates"])
    return Settings(**values)
