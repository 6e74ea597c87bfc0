"""ElastAlert2, which asks to the second and keeps no note of each question.

Usage: python -m forum_alarms --config FILE
"""

from __future__ import annotations

import json
import signal
import sys
import types
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

#: What ElastAlert2 imports at its start for ways to tell that no rule of ours uses. They are half a gigabyte.
_UNUSED = frozenset(
    (
        "aws_requests_auth", "boto3", "exotel", "jira", "jsonpointer", "pyzabbix", "stomp", "tencentcloud", "twilio",
    )
)  # fmt: skip


class Unused(MetaPathFinder, Loader):
    """Lets an import of such a library succeed, in which every name is an empty class."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """What is known of a module; None of all others."""
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in _UNUSED else None

    def exec_module(self, module: types.ModuleType) -> None:
        """Have every name. Some of them are caught as exceptions."""
        vars(module)["__getattr__"] = lambda name: type(name, (Exception,), {})


sys.meta_path.insert(0, Unused())

from apscheduler.triggers.interval import IntervalTrigger  # noqa: E402 - not before what it lacks
from elastalert.elastalert import ElastAlerter  # noqa: E402


class Alarms(ElastAlerter):  # type: ignore[misc]  # ElastAlert2 has no types
    """ElastAlert2 as the alarms need it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(arguments)
        # What wasn't found yet, or was deleted for its age, has no index.
        self.writeback_es.search = partial(self.writeback_es.search, ignore_unavailable=True)

    def init_rule(self, new_rule: dict[str, Any], new: bool = True) -> Any:
        """Ask at each rule's own pace: ElastAlert2 itself adds up to five seconds to each."""
        rule = super().init_rule(new_rule, new)
        if rule:
            every = rule["run_every"].total_seconds()
            # Not all at the same moment.
            first = datetime.now(UTC) + timedelta(
                seconds=zlib.crc32(rule["name"].encode()) % 1000 / 1000 * every
            )
            trigger = IntervalTrigger(seconds=every, start_date=first, timezone=UTC)
            self.scheduler.modify_job(rule["name"], trigger=trigger, next_run_time=first)
        return rule

    def get_query_key_value(self, rule: Mapping[str, Any], match: Mapping[str, Any]) -> str | None:
        """What is told apart when the same is found again."""
        return json.dumps(match["instance"], sort_keys=True) if match["instance"] else None

    def get_starttime(self, rule: Mapping[str, Any]) -> None:
        """Nowhere: every start looks back as far as any run does."""
        return

    def writeback(self, doc_type: str, body: Any, rule: Any = None, match_body: Any = None) -> Any:
        """Keep what was found and told, and not that a rule has run: once a second, that would be all of it."""
        return (
            None if doc_type == "elastalert_status" else super().writeback(doc_type, body, rule, match_body)
        )


def main(arguments: Sequence[str]) -> None:
    """Run until told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Alarms([*arguments, "--pin_rules"]).start()


if __name__ == "__main__":
    main(sys.argv[1:])
