"""ElastAlert2's types of rules for the service levels.

What a rule finds has the same names in both: level, instance, value and @timestamp, as the action server wants them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from elastalert.ruletypes import FrequencyRule, RuleType
from elastalert.util import hashable, lookup_es_key

from .figures import firing


def _event(
    rule: Mapping[str, Any], instance: Mapping[str, str], value: float, time: datetime
) -> dict[str, Any]:
    text = time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"level": rule["name"], "instance": dict(instance), "value": value, "@timestamp": text}


class FigureRule(RuleType):  # type: ignore[misc]  # ElastAlert2 has no types
    """Fires for each instance whose figure is on the bad side of the threshold."""

    required_options = frozenset(["forum", "aggregation_query_element"])

    def add_aggregation_data(self, payload: Mapping[datetime, Any]) -> None:
        """payload: what Elasticsearch answered, by the time up to which it was asked."""
        for until, answer in payload.items():
            for figure in firing(answer, self.rules["forum"], until.timestamp()):
                newest = datetime.fromtimestamp(figure.newest, UTC)
                self.matches.append(_event(self.rules, figure.instance, figure.value, newest))


class CountRule(FrequencyRule):  # type: ignore[misc]  # ElastAlert2 has no types
    """ElastAlert2's own frequency, by the times of the lines themselves, however late they come."""

    required_options = FrequencyRule.required_options

    def add_match(self, event: Mapping[str, Any]) -> None:
        """event: the line that made them enough."""
        field = self.rules.get("query_key")
        value = lookup_es_key(event, field) if field else "all"
        count = self.occurrences[hashable(value)].count()
        instance = {field: str(value)} if field else {}
        self.matches.append(_event(self.rules, instance, count, lookup_es_key(event, self.ts_field)))
