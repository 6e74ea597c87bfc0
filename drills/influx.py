"""What the lab's InfluxDB holds, asked as its reader."""

from collections.abc import Iterable
from dataclasses import dataclass

import requests

from drills.forum import Account
from drills.lab import Lab


@dataclass(frozen=True)
class Series:
    """One series of an answer: its tags and rows; a point's row begins with its time, in seconds since the epoch."""

    tags: dict[str, str]
    rows: list[list[float | str | None]]


class InfluxError(Exception):
    """InfluxDB didn't take a statement; the text says which and why."""


def ask(lab: Lab, statement: str, account: Account | None) -> requests.Response:
    """The answer to a statement; None asks without an account. Raises requests.RequestException."""
    return requests.post(
        f"{lab.metrics.url}/query",
        data={"q": statement, "db": lab.metrics.database, "epoch": "s"},
        verify=lab.ca_file,
        timeout=60,
        auth=(account.username, account.password) if account else None,
    )


def write(lab: Lab, points: Iterable[str]) -> None:
    """Write points in InfluxDB's line protocol, as who may write anything. Raises requests.RequestException."""
    requests.post(
        f"{lab.metrics.url}/write",
        params={"db": lab.metrics.database},
        data="\n".join(points),
        verify=lab.ca_file,
        timeout=60,
        auth=("admin", (lab.secrets_dir / "influxdb_admin_password").read_text().strip()),
    ).raise_for_status()


class Influx:
    """The database of the lab's figures, asked by its reader."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def ask(self, statement: str) -> list[Series]:
        """The series that a statement answers with. Raises InfluxError or requests.RequestException."""
        answer = ask(self._lab, statement, self._lab.metrics.reader)
        if not answer.ok:
            raise InfluxError(f"{statement}: {answer.text}")
        (result,) = answer.json()["results"]
        if "error" in result:
            raise InfluxError(f"{statement}: {result['error']}")
        return [Series(series.get("tags", {}), series["values"]) for series in result.get("series", [])]

    def kinds(self, measurement: str) -> dict[str, str]:
        """The types of a measurement's fields. Raises as ask does."""
        found = self.ask(f'SHOW FIELD KEYS FROM "{measurement}"')
        return {str(name): str(kind) for series in found for name, kind in series.rows}

    def told(
        self, measurement: str, field: str, tags: Iterable[str], window: str = "30s"
    ) -> set[tuple[str, ...]]:
        """The values of these tags, in their order, under which the field has a point in the time before now."""
        names = list(tags)
        grouped = ", ".join(f'"{name}"' for name in names)
        found = self.ask(
            # Names of our own.
            f'SELECT last("{field}") FROM "{measurement}" WHERE time > now() - {window} GROUP BY {grouped}'  # noqa: S608
        )
        return {tuple(series.tags[name] for name in names) for series in found}
