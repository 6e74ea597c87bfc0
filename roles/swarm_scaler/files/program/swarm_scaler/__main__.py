"""forum-scale: one step up or down for a service. Prints one JSON object, whatever comes of it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import requests
from docker.errors import DockerException

from .judge import Step
from .manager import Manager, UnknownServiceError

SETTINGS = Path("/etc/swarm-scaler.json")
_ACTION = re.compile(r"[A-Za-z0-9._:-]{0,64}")
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Also what can't be read is told as JSON."""
        tell({"error": message})
        sys.exit(2)


def _text(pattern: re.Pattern[str], kind: str, text: str) -> str:
    if not pattern.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no {kind}")
    return text


def tell(result: dict[str, Any]) -> None:
    """Print the result."""
    print(json.dumps(result))


def main(arguments: list[str] | None = None) -> int:
    """Run it. Returns the exit status: 0 also where the step is refused, 1 where the swarm can't be asked."""
    parser = _Parser(prog="forum-scale", description=__doc__)
    parser.add_argument("service", type=lambda text: _text(_SERVICE, "name of a service", text))
    parser.add_argument("by", type=int, choices=(1, -1))
    parser.add_argument("--action", default="", type=lambda text: _text(_ACTION, "name of an action", text))
    parser.add_argument("--dry", action="store_true", help="only judge")
    chosen = parser.parse_args(arguments)
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    step = Step(chosen.by, chosen.action, datetime.now(UTC), timedelta(seconds=settings["cooldown"]))
    try:
        verdict = Manager(settings["stack"]).take(chosen.service, step, dry=chosen.dry)
    except (DockerException, requests.RequestException, UnknownServiceError) as error:
        tell({"error": str(error)})
        return 1
    tell(
        {
            "service": chosen.service,
            "before": verdict.before,
            "wanted": verdict.wanted,
            "changed": verdict.wanted != verdict.before,
            "repeated": verdict.repeated,
            "refused": verdict.refused,
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
