"""What each panel of Kibana's dashboards asks is answered with data by the lab's Elasticsearch.

The requests are made of the saved objects as Kibana makes them of its columns; Kibana itself isn't there.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from elasticsearch import log_fields
from kibana import kibana_objects

from drills.elastic import Elastic
from drills.forum import Account, Visitor
from drills.lab import ROOT, Lab, until

Columns = dict[str, dict[str, Any]]

LOGS = [yaml.safe_load(path.read_text())["fields"] for path in ROOT.glob("roles/*/files/log/log.yml")]
DESCRIPTIONS = [
    yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob("roles/*/files/log/kibana.yml"))
]
OBJECTS = kibana_objects(DESCRIPTIONS, log_fields(LOGS), "forum-logs", "forum")
#: A healthy forum may have no such lines.
NOT_ALWAYS = {
    "forum-nginx": {"answers of 500 or more", "lines of the error log", "the error log of nginx"},
    "forum-nginx-access": {"paths that failed"},
    "forum-misago": {
        "errors",
        "requests that were tried again",
        "kinds of errors",
        "warnings and errors of Misago",
    },
    "forum-postgres": {
        "slow statements",
        "time of slow statements",
        "statements that took longest",
        "longest wait for a lock",
        "warnings and errors of PostgreSQL",
    },
    "forum-redis": set(),
}
#: How Elasticsearch calls what Kibana calls otherwise.
METRICS = {"unique_count": "cardinality", "average": "avg", "max": "max", "sum": "sum"}


@dataclass(frozen=True)
class Panel:
    """What a panel asks."""

    dashboard: str
    title: str
    body: dict[str, Any]

    @property
    def always(self) -> bool:
        """Whether a healthy forum has such lines."""
        return self.title not in NOT_ALWAYS[self.dashboard]


def metric(column: dict[str, Any]) -> dict[str, Any]:
    """The aggregation of a column that measures."""
    operation, field = column["operationType"], column["sourceField"]
    if operation == "count":
        # Every line has its time.
        one = {"value_count": {"field": "@timestamp" if field == "___records___" else field}}
    elif operation in ("percentile", "median"):
        one = {"percentiles": {"field": field, "percents": [column["params"].get("percentile", 50)]}}
    else:
        one = {METRICS[operation]: {"field": field}}
    if "filter" not in column:
        return one
    return {"filter": {"query_string": {"query": column["filter"]["query"]}}, "aggs": {"filtered": one}}


def nested(columns: Columns, buckets: list[str], measures: list[str]) -> dict[str, Any]:
    """The aggregations of a layer: one in the other, and what is measured inside of all."""
    inner = {measure: metric(columns[measure]) for measure in measures}
    for name in reversed(buckets):
        column = columns[name]
        if column["operationType"] == "terms":
            # By its frequency, since a percentile has another name there.
            one = {"terms": {"field": column["sourceField"], "size": column["params"]["size"]}}
        else:
            one = {
                "date_histogram": {"field": column["sourceField"], "fixed_interval": "1m", "min_doc_count": 1}
            }
        inner = {name: {**one, "aggs": inner}}
    return inner


def searched(query: str) -> dict[str, Any]:
    """A query of Lucene's kind, in the words in which Kibana sends it."""
    return {"query": {"query_string": {"query": query, "analyze_wildcard": True}}}


def drawn(attributes: dict[str, Any]) -> dict[str, Any]:
    """The request of a graph, a table or a figure."""
    (layer,) = attributes["state"]["datasourceStates"]["formBased"]["layers"].values()
    columns: Columns = layer["columns"]
    buckets = [name for name in layer["columnOrder"] if columns[name]["isBucketed"]]
    measures = [name for name in layer["columnOrder"] if not columns[name]["isBucketed"]]
    return {
        "size": 0,
        "aggs": nested(columns, buckets, measures),
        **searched(attributes["state"]["query"]["query"]),
    }


def listed(attributes: dict[str, Any]) -> dict[str, Any]:
    """The request of the newest lines."""
    source = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])
    return {
        "size": 10,
        "_source": False,
        "sort": [{field: direction} for field, direction in attributes["sort"]],
        "fields": attributes["columns"],
        **searched(source["query"]["query"]),
    }


def panels() -> Iterator[Panel]:
    """Those of all dashboards."""
    there = {(one["type"], one["id"]): one for one in OBJECTS}
    for dashboard in (one for one in OBJECTS if one["type"] == "dashboard"):
        references = {one["name"]: (one["type"], one["id"]) for one in dashboard["references"]}
        for panel in json.loads(dashboard["attributes"]["panelsJSON"]):
            if panel["type"] == "search":
                search = there[references[f"{panel['panelIndex']}:{panel['panelRefName']}"]]
                body = listed(search["attributes"])
            else:
                body = drawn(panel["embeddableConfig"]["attributes"])
            yield Panel(dashboard["id"], panel["title"], body)


def measured(answer: dict[str, Any]) -> Iterator[float]:
    """Every figure in the answer's aggregations."""
    for name, value in answer.items():
        if name in ("value", "values"):
            yield from (
                one for one in (value.values() if isinstance(value, dict) else [value]) if one is not None
            )
        elif isinstance(value, dict):
            yield from measured(value)
        elif name == "buckets":
            yield from (figure for bucket in value for figure in measured(bucket))


def told(panel: Panel, answer: dict[str, Any]) -> bool:
    """Whether there is anything to see in the panel."""
    if "aggs" in panel.body:
        return any(figure != 0 for figure in measured(answer["aggregations"]))
    shown = {name for hit in answer["hits"]["hits"] for name in hit.get("fields", {})}
    return bool(shown)


PANELS = list(panels())


def test_what_may_be_missing_is_there() -> None:
    titles = {name: {panel.title for panel in PANELS if panel.dashboard == name} for name in NOT_ALWAYS}
    assert {
        name: NOT_ALWAYS[name] - titles[name] for name in NOT_ALWAYS if NOT_ALWAYS[name] - titles[name]
    } == {}


@pytest.fixture(scope="module", autouse=True)
def visited(lab: Lab, member: Callable[..., tuple[Visitor, Account]]) -> None:
    """Somebody was there, so that there is something to see of users."""
    visitor, account = member()
    visitor.start_thread(3, "Which figures do I leave?", "Those of a user.")
    until(60, lambda: Elastic(lab).count(f"event.dataset:misago.access AND user.name:{account.username}") > 0)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel.dashboard}: {panel.title}")
def test_a_panel_is_answered(panel: Panel, lab: Lab) -> None:
    answer = Elastic(lab).search(panel.body)
    assert told(panel, answer) or not panel.always
