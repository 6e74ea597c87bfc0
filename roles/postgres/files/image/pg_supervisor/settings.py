"""What a member knows before it has talked to anyone."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Settings of one member; all times are seconds.

    name: its service name, one of members. members: service names, in the order of their repmgr ids.
    volume: the directory that outlives the container. run: a directory in memory.
    """

    name: str
    members: tuple[str, ...]
    password: str = field(repr=False)
    app_password: str = field(repr=False)
    app_role: str = "misago"
    app_database: str = "misago"
    volume: Path = Path("/var/lib/postgresql/data")
    run: Path = Path("/tmp")  # noqa: S108  # a tmpfs: secrets may lie here
    etc: Path = Path("/etc/postgres")
    bindir: Path = Path("/usr/lib/postgresql/17/bin")
    port: int = 8008
    fence_seconds: float = 6
    grace_seconds: float = 20
    settle_seconds: float = 5
    silence_seconds: float = 3
    follow_seconds: float = 15
    cascading: bool = False
    clone_timeout_seconds: float = 7200

    def __post_init__(self) -> None:
        """Raises ValueError if the member isn't in its own list."""
        if self.name not in self.members:
            raise ValueError(
                f"{self.name} is none of the members {', '.join(self.members)}: check the hostname"
            )

    @property
    def node_id(self) -> int:
        """The number of this member in repmgr, from 1."""
        return self.members.index(self.name) + 1

    @property
    def others(self) -> tuple[str, ...]:
        """The other members."""
        return tuple(member for member in self.members if member != self.name)

    @property
    def majority(self) -> int:
        """Votes, one's own included, that make a primary."""
        return len(self.members) // 2 + 1

    @property
    def pgdata(self) -> Path:
        """The data directory."""
        return self.volume / "pg"

    @property
    def journal(self) -> Path:
        """The pipe that the server's log goes to."""
        return self.run / "journal"

    @property
    def passfile(self) -> Path:
        """The password file of libpq, in memory."""
        return self.run / "pgpass"

    @property
    def repmgr_conf(self) -> Path:
        """The member's own repmgr.conf: its identity and the shared settings."""
        return self.run / "repmgr.conf"

    def conninfo(self, host: str, database: str = "repmgr") -> str:
        """The connection string to a member; the password comes from the password file."""
        return (
            f"host={host} port=5432 user=repmgr dbname={database} passfile={self.passfile} connect_timeout=2"
            " keepalives_idle=2 keepalives_interval=1 keepalives_count=3 tcp_user_timeout=4000"
        )


def read_secret(path: Path) -> str:
    """The secret in a file, without the line end.

    Raises ValueError for an empty or multi-line secret: libpq's password file could not hold it.
    """
    secret = path.read_text(encoding="utf-8").rstrip("\n")
    if not secret or "\n" in secret:
        raise ValueError(f"{path} must hold exactly one line")
    return secret


def load(path: Path, name: str) -> Settings:
    """Settings from the TOML file at path for the member called name.

    The file gives the fields of Settings by name, and password_file and app_password_file for the secrets.
    Raises OSError, tomllib.TOMLDecodeError, TypeError (unknown key) or ValueError.
    """
    values: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    plain = {key: value for key, value in values.items() if not key.endswith("_file")}
    plain["members"] = tuple(plain["members"])
    for key in ("volume", "run", "etc", "bindir"):
        if key in plain:
            plain[key] = Path(plain[key])
    return Settings(
        name=name,
        password=read_secret(Path(values["password_file"])),
        app_password=read_secret(Path(values["app_password_file"])),
        **plain,
    )
