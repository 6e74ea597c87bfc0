"""One line for each thing that happens, and none while it goes on."""

from __future__ import annotations

import json
import logging
import re

log = logging.getLogger("snmp_collector")

_PLAIN = re.compile(r"[\w.:/-]+")


def line(event: str, **facts: object) -> str:
    """An event as key=value; what isn't one plain word is quoted as in JSON."""
    told = {key: str(value) for key, value in facts.items()}
    words = [
        f"{key}={text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)}"
        for key, text in told.items()
    ]
    return " ".join([f"event={event}", *words])


class Troubles:
    """What is wrong at the moment: told when it begins, when its reason changes, and when it is over."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, str], str] = {}

    def begin(self, kind: str, name: str, reason: str) -> None:
        """Something of a kind (node, manager, influxdb) doesn't work."""
        if self._reasons.get((kind, name)) != reason:
            self._reasons[kind, name] = reason
            log.warning("%s", line(f"{kind}-fails", **{kind: name}, reason=reason))

    def over(self, kind: str, name: str) -> None:
        """It works."""
        if self._reasons.pop((kind, name), None) is not None:
            log.info("%s", line(f"{kind}-works", **{kind: name}))

    def forget(self, kind: str, name: str) -> None:
        """It is no longer of interest."""
        self._reasons.pop((kind, name), None)
