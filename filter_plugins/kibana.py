"""Filters that judge the dashboards of the logs, and write them as Kibana's saved objects."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from jsonschema import Draft202012Validator

_ROOT = Path(__file__).parents[1]
# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(_ROOT / "module_utils"))

# Only now on the path.
from plain import plain  # noqa: E402

_SCHEMA = _ROOT / "module_utils" / "log_dashboards.schema.json"
_WORDS = _ROOT / "inventories" / "shared" / "sla.schema.json"

Object = dict[str, Any]

#: What these objects were written for. Kibana brings older ones up to date, and refuses newer ones.
_CORE = "8.8.0"
_VERSIONS = {"index-pattern": "8.0.0", "search": "8.0.0", "dashboard": "8.7.0"}
#: A dashboard's grid has 48 columns; a panel's width and height by its kind.
_COLUMNS = 48
_SIZES = {"value": (12, 6), "graph": (24, 12), "table": (24, 12), "lines": (48, 16)}
#: Values by which a graph, and rows by which a table is split; those that are found most often.
_MOST = {"graph": 8, "table": 15}
_TIME = "@timestamp"
#: The only layer of a panel; the name of the reference that leads it to its data view is Kibana's.
_LAYER = "lines"
_LAYER_REFERENCE = f"indexpattern-datasource-layer-{_LAYER}"
_SEARCH_REFERENCE = "kibanaSavedObjectMeta.searchSourceJSON.index"
#: What Kibana calls an aggregation, and the types of fields that it takes.
_NUMBERS = frozenset(("long", "double"))
_WHOLE = frozenset(("keyword", "ip", "long"))
_AGGREGATIONS: dict[str, tuple[str, frozenset[str]]] = {
    "count": ("count", _WHOLE | _NUMBERS | {"date"}),
    "distinct": ("unique_count", _WHOLE),
    "mean": ("average", _NUMBERS),
    "median": ("median", _NUMBERS),
    "p95": ("percentile", _NUMBERS),
    "max": ("max", _NUMBERS),
    "sum": ("sum", _NUMBERS),
}
_LINES = [{"name": "lines", "aggregation": "count"}]
#: Kibana's types of columns.
_KINDS = {"keyword": "string", "ip": "ip", "long": "number"}
#: The attributes by which it is seen whether an object is there as it is wanted.
_MARKED = ("title", "description", "timeFieldName", "fieldFormatMap")


@functools.cache
def _validator() -> Draft202012Validator:
    """The schema of a description; what it shares with sla.yml is defined there."""
    schema, words = json.loads(_SCHEMA.read_text()), json.loads(_WORDS.read_text())
    return Draft202012Validator({**schema, "$defs": {**words["$defs"], **schema["$defs"]}})


def log_dashboard_errors(descriptions: Iterable[object], fields: Mapping[str, str]) -> list[str]:
    """Everything that is wrong with the dashboards of the logs.

    descriptions: the contents of all kibana.yml. fields: name -> type, as log_fields returns them.
    Returns sentences: what violates log_dashboards.schema.json; if nothing does, names that two have, fields that no
    log.yml has, and such that aren't of a type that can be aggregated, split or compared so. Raises nothing.
    """
    given = plain(list(descriptions))
    errors = [
        f"{'/'.join(map(str, error.absolute_path)) or 'it'}: {error.message}"
        for one in given
        for error in _validator().iter_errors(one)
    ]
    if errors:
        return errors
    dashboards = [dashboard for one in given for dashboard in one]
    names = [dashboard["name"] for dashboard in dashboards]
    return [
        *(f"the dashboard {name} is there twice" for name in sorted(set(names)) if names.count(name) > 1),
        *(error for dashboard in dashboards for error in _field_errors(dashboard, fields)),
    ]


def _field_errors(dashboard: Mapping[str, Any], fields: Mapping[str, str]) -> Iterator[str]:
    for where, field, purpose, kinds in _uses(dashboard):
        if field not in fields:
            yield f"{where}: no log has the field {field}"
        elif kinds and fields[field] not in kinds:
            yield f"{where}: {field} is {fields[field]}, which can't be {purpose}"


def _uses(dashboard: Mapping[str, Any]) -> Iterator[tuple[str, str, str, frozenset[str]]]:
    """Where a field is named, the field, what for, and the types that this takes; none for any."""
    name = f"the dashboard {dashboard['name']}"
    yield from _compared(name, dashboard)
    for panel in dashboard["panels"]:
        where = f"{name}, {panel['title']}"
        yield from _compared(where, panel)
        for field in panel.get("per", ()):
            yield where, field, "split by", _WHOLE
        for field in panel.get("columns", ()):
            yield where, field, "shown", frozenset()
        for series in panel.get("series", ()):
            yield from _compared(where, series)
            if "field" in series:
                aggregation = series["aggregation"]
                yield where, series["field"], f"aggregated by {aggregation}", _AGGREGATIONS[aggregation][1]


def _compared(where: str, one: Mapping[str, Any]) -> Iterator[tuple[str, str, str, frozenset[str]]]:
    for field, condition in one.get("where", {}).items():
        ordered = isinstance(condition, dict)
        yield where, field, "compared", _NUMBERS if ordered else _WHOLE


def kibana_objects(
    descriptions: Iterable[object], fields: Mapping[str, str], index: str, stack: str
) -> list[Object]:
    """What Kibana imports: the data view of the lines, and the dashboards with what they need.

    descriptions: the contents of all kibana.yml. fields: name -> type, as log_fields returns them. index: what the
    names of the indices begin with. stack: the name of the whole, with which ids and titles begin.
    Returns saved objects, each for one line of the file; ids are made of names, so that an import overwrites. The
    description of each, which an operator reads, ends with a hash of all of them. Raises AnsibleFilterError for
    descriptions in which log_dashboard_errors finds something.
    Source of the format: what Kibana 8.8 exports, and its migrations of the types dashboard, lens, search and
    index-pattern. A panel asks in Lucene's words, which reach Elasticsearch as they are.
    """
    given = plain(list(descriptions))
    if errors := log_dashboard_errors(given, fields):
        raise AnsibleFilterError("; ".join(errors))
    maker = _Maker(dict(fields), str(index), str(stack))
    objects = [maker.data_view()]
    for dashboard in (dashboard for one in given for dashboard in one):
        objects += maker.dashboard(dashboard)
    mark = hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()[:12]
    for one in objects:
        if "description" in one["attributes"]:
            one["attributes"]["description"] = f"Made by the deployment, which overwrites changes. {mark}"
    return objects


def kibana_marks(objects: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By what it is seen whether objects are there as they are wanted.

    objects: saved objects, of kibana_objects or as Kibana exports them. Returns TYPE/ID -> texts, of which Kibana
    changes none by itself.
    """
    return {
        f"{one['type']}/{one['id']}": [str(one["attributes"].get(name, "")) for name in _MARKED]
        for one in objects
    }


class _Maker:
    """Makes the objects of one data view."""

    def __init__(self, fields: dict[str, str], index: str, stack: str) -> None:
        self._fields, self._index, self._stack = fields, index, stack

    def _object(self, kind: str, name: str, attributes: Object, references: list[Object]) -> Object:
        return {
            "type": kind,
            "id": name,
            "attributes": attributes,
            "references": references,
            "coreMigrationVersion": _CORE,
            "typeMigrationVersion": _VERSIONS[kind],
        }

    def _view(self, name: str) -> Object:
        """A reference to the data view."""
        return {"type": "index-pattern", "id": self._index, "name": name}

    def data_view(self) -> Object:
        """The indices as Kibana knows them."""
        formats = {name: found for name in sorted(self._fields) if (found := _format(name))}
        attributes = {
            "title": f"{self._index}-*",
            "name": f"{self._stack}: log lines",
            "timeFieldName": _TIME,
            "fieldFormatMap": json.dumps(formats),
        }
        return self._object("index-pattern", self._index, attributes, [])

    def dashboard(self, dashboard: Mapping[str, Any]) -> Iterator[Object]:
        """A dashboard, after the searches that it shows."""
        name = f"{self._stack}-{dashboard['name']}"
        panels: list[Object] = []
        references: list[Object] = []
        for place, (panel, grid) in enumerate(
            zip(dashboard["panels"], _grid(dashboard["panels"]), strict=True)
        ):
            number = str(place)
            query = _lucene(dashboard["where"], panel.get("where", {}))
            shown = {
                "panelIndex": number,
                "gridData": {**grid, "i": number},
                "version": _CORE,
                "title": panel["title"],
            }
            if panel["kind"] == "lines":
                search = self._search(
                    f"{name}-{number}", f"{self._stack}: {panel['title']}", panel["columns"], query
                )
                yield search
                shown |= {
                    "type": "search",
                    "panelRefName": f"panel_{number}",
                    "embeddableConfig": {"enhancements": {}},
                }
                references.append({"type": "search", "id": search["id"], "name": f"{number}:panel_{number}"})
            else:
                lens = self._lens(panel, query)
                shown |= {"type": "lens", "embeddableConfig": {"attributes": lens, "enhancements": {}}}
                references.append(self._view(f"{number}:{_LAYER_REFERENCE}"))
            panels.append(shown)
        attributes = {
            "title": f"{self._stack}: {dashboard['title']}",
            "description": "",
            "panelsJSON": json.dumps(panels),
            "optionsJSON": json.dumps({"useMargins": True, "syncColors": False, "hidePanelTitles": False}),
            "kibanaSavedObjectMeta": _source({"query": {"query": "", "language": "lucene"}, "filter": []}),
            "timeRestore": False,
            "version": 1,
        }
        yield self._object("dashboard", name, attributes, references)

    def _search(self, name: str, title: str, columns: list[str], query: str) -> Object:
        """The newest lines, in columns."""
        source = {
            "query": {"query": query, "language": "lucene"},
            "filter": [],
            "indexRefName": _SEARCH_REFERENCE,
        }
        attributes = {
            "title": title,
            "description": "",
            "columns": columns,
            "sort": [[_TIME, "desc"]],
            "grid": {},
            "hideChart": True,
            "kibanaSavedObjectMeta": _source(source),
        }
        return self._object("search", name, attributes, [self._view(_SEARCH_REFERENCE)])

    def _lens(self, panel: Mapping[str, Any], query: str) -> Object:
        """A graph, a table or a figure."""
        series = panel.get("series", _LINES)
        measures = {f"measure-{place}": _measure(one) for place, one in enumerate(series)}
        buckets = {
            f"per-{place}": self._split(field, _MOST[panel["kind"]], "measure-0")
            for place, field in enumerate(panel.get("per", ()))
        }
        if panel["kind"] == "graph":
            # Behind what splits it, which then is the same in each interval.
            buckets["time"] = _over_time()
        columns = buckets | measures
        kind, visualization = _VISUALIZATIONS[panel["kind"]](list(buckets), list(measures), series)
        return {
            "title": panel["title"],
            "description": "",
            "type": "lens",
            "visualizationType": kind,
            "references": [self._view(_LAYER_REFERENCE)],
            "state": {
                "query": {"query": query, "language": "lucene"},
                "filters": [],
                "datasourceStates": {
                    "formBased": {
                        "layers": {
                            _LAYER: {
                                "columnOrder": list(columns),
                                "columns": columns,
                                "incompleteColumns": {},
                            }
                        }
                    }
                },
                "visualization": visualization,
                "internalReferences": [],
                "adHocDataViews": {},
            },
        }

    def _split(self, field: str, most: int, by: str) -> Object:
        return {
            "label": field,
            "customLabel": True,
            "dataType": _KINDS[self._fields[field]],
            "operationType": "terms",
            "scale": "ordinal",
            "sourceField": field,
            "isBucketed": True,
            "params": {
                "size": most,
                "orderBy": {"type": "column", "columnId": by},
                "orderDirection": "desc",
                "otherBucket": False,
                "missingBucket": False,
                "parentFormat": {"id": "terms"},
            },
        }


def _format(name: str) -> Object | None:
    """How a field's figures are shown, by its name's end; None as they are."""
    if name.endswith("bytes"):
        return {"id": "bytes", "params": {}}
    units = {"event.duration": "nanoseconds", "_ms": "milliseconds", "seconds": "seconds"}
    unit = next((unit for end, unit in units.items() if name.endswith(end)), None)
    if unit is None:
        return None
    short = {"outputFormat": "humanizePrecise", "outputPrecision": 1, "useShortSuffix": True}
    return {"id": "duration", "params": {"inputFormat": unit, **short}}


def _source(content: Object) -> Object:
    return {"searchSourceJSON": json.dumps(content)}


def _grid(panels: Iterable[Mapping[str, Any]]) -> Iterator[Object]:
    """Places from left to right, in a new row where one is full."""
    x = y = height = 0
    for panel in panels:
        width, high = _SIZES[panel["kind"]]
        if x + width > _COLUMNS:
            x, y, height = 0, y + height, 0
        yield {"x": x, "y": y, "w": width, "h": high}
        x, height = x + width, max(height, high)


def _lucene(*conditions: Mapping[str, Any]) -> str:
    """All conditions in Lucene's words."""
    return " AND ".join(_condition(field, meant) for one in conditions for field, meant in one.items())


def _condition(field: str, meant: Any) -> str:
    if isinstance(meant, dict):
        return f"{field}:>={meant['gte']}"
    values = [json.dumps(value) for value in (meant if isinstance(meant, list) else [meant])]
    return f"{field}:{values[0]}" if len(values) == 1 else f"{field}:({' OR '.join(values)})"


def _over_time() -> Object:
    return {
        "label": _TIME,
        "dataType": "date",
        "operationType": "date_histogram",
        "scale": "interval",
        "sourceField": _TIME,
        "isBucketed": True,
        "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
    }


def _measure(series: Mapping[str, Any]) -> Object:
    operation = _AGGREGATIONS[series["aggregation"]][0]
    params = {"percentile": 95} if operation == "percentile" else {"emptyAsNull": operation != "count"}
    column = {
        "label": series["name"],
        "customLabel": True,
        "dataType": "number",
        "operationType": operation,
        "scale": "ratio",
        "sourceField": series.get("field", "___records___"),
        "isBucketed": False,
        "params": params,
    }
    if "where" in series:
        column["filter"] = {"query": _lucene(series["where"]), "language": "lucene"}
    return column


Visualization = tuple[str, Object]


def _graph(buckets: list[str], measures: list[str], series: list[Mapping[str, Any]]) -> Visualization:
    adds_up = all(one["aggregation"] in ("count", "sum") for one in series)
    kind = "bar_stacked" if adds_up else "line"
    *split, time = buckets
    layer: Object = {
        "layerId": _LAYER,
        "layerType": "data",
        "seriesType": kind,
        "xAccessor": time,
        "accessors": measures,
        **({"splitAccessor": split[0]} if split else {}),
    }
    return "lnsXY", {
        "layers": [layer],
        "preferredSeriesType": kind,
        "legend": {"isVisible": True, "showSingleSeries": True, "position": "right"},
        "valueLabels": "hide",
        "axisTitlesVisibilitySettings": {"x": False, "yLeft": False, "yRight": False},
    }


def _table(buckets: list[str], measures: list[str], series: list[Mapping[str, Any]]) -> Visualization:
    return "lnsDatatable", {
        "layerId": _LAYER,
        "layerType": "data",
        "columns": [{"columnId": column} for column in (*buckets, *measures)],
    }


def _value(buckets: list[str], measures: list[str], series: list[Mapping[str, Any]]) -> Visualization:
    return "lnsMetric", {"layerId": _LAYER, "layerType": "data", "metricAccessor": measures[0]}


_VISUALIZATIONS = {"graph": _graph, "table": _table, "value": _value}


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {
            "kibana_marks": kibana_marks,
            "kibana_objects": kibana_objects,
            "log_dashboard_errors": log_dashboard_errors,
        }
