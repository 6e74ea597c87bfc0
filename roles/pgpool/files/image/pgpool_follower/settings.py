"""What the follower is told."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Settings of one Pgpool; times are seconds.

    members: PostgreSQL's service names, in the order of Pgpool's backends. state_port: where they say who they are.
    run: a directory in memory, where everything lies that holds a secret. figures: a file for Telegraf.
    obey_seconds: as long as Pgpool may take to obey an order; looking for the primary takes it up to 3 s.
    """

    members: tuple[str, ...]
    app_role: str
    app_password: str = field(repr=False)
    pcp_password: str = field(repr=False)
    state_port: int = 8008
    pcp_port: int = 9898
    etc: Path = Path("/etc/pgpool")
    run: Path = Path("/tmp/pgpool")  # noqa: S108  # a tmpfs: secrets may lie here
    figures: Path = Path("/tmp/figures")  # noqa: S108  # outside of run, for another user
    ask_seconds: float = 0.3
    check_seconds: float = 10.0
    obey_seconds: float = 15.0


def read_secret(path: Path) -> str:
    """The secret in a file, without the line end. Raises ValueError for an empty or multi-line secret."""
    secret = path.read_text(encoding="utf-8").rstrip("\n")
    if not secret or "\n" in secret:
        raise ValueError(f"{path} must hold exactly one line")
    return secret


def load(path: Path) -> Settings:
    """Settings from the TOML file at path: fields of Settings by name, and the two password files.

    Raises OSError, tomllib.TOMLDecodeError, KeyError, TypeError (unknown key) or ValueError.
    """
    values: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    plain = {key: value for key, value in values.items() if not key.endswith("_file")}
    plain["members"] = tuple(plain["members"])
    for key in ("etc", "run", "figures"):
        if key in plain:
            plain[key] = Path(plain[key])
    return Settings(
        app_password=read_secret(Path(values["app_password_file"])),
        pcp_password=read_secret(Path(values["pcp_password_file"])),
        **plain,
    )
