"""Every statement of the dashboards, as Chronograf would send it, is answered with data by the lab's InfluxDB."""

import re
from typing import Any

import pytest
import yaml
from chronograf import chronograf_dashboard

from drills.influx import Influx
from drills.lab import ROOT, Lab

LEVELS = yaml.safe_load((ROOT / "inventories/shared/sla.yml").read_text())["service_levels"]
DESCRIPTIONS = [
    yaml.safe_load(path.read_text()) for path in sorted((ROOT / "roles").glob("*/files/dashboard.yml"))
]
STACK = "forum"
#: What Chronograf puts in the place of its words when an hour is shown.
WORDS = {":dashboardTime:": "now() - 1h", ":upperDashboardTime:": "now()", ":interval:": "1m"}


def statements(dashboard: dict[str, Any], chosen: str) -> list[str]:
    """The statements of all cells, with a value chosen in the template variable."""
    (template,) = dashboard["templates"]
    words = {**WORDS, template["tempVar"]: chosen}
    pattern = re.compile("|".join(map(re.escape, words)))
    return [
        pattern.sub(lambda word: words[word[0]], query["query"])
        for cell in dashboard["cells"]
        for query in cell["queries"]
    ]


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=lambda description: description["name"])
def test_every_statement_has_data(description: dict[str, Any], lab: Lab) -> None:
    influx = Influx(lab)
    dashboard = chronograf_dashboard(description, LEVELS, lab.metrics.database, STACK)
    assert [statement for statement in statements(dashboard, STACK) if not influx.ask(statement)] == []


@pytest.mark.parametrize("description", DESCRIPTIONS, ids=lambda description: description["name"])
def test_the_choice_narrows_to_one_instance(description: dict[str, Any], lab: Lab) -> None:
    influx = Influx(lab)
    dashboard = chronograf_dashboard(description, LEVELS, lab.metrics.database, STACK)
    (template,) = dashboard["templates"]
    instance = description["narrowed_by"][-1]
    choices = {
        str(row[1])
        for series in influx.ask(template["query"]["influxql"])
        for row in series.rows
        if row[0] == instance
    }
    whole = statements(dashboard, STACK)
    for place, statement in enumerate(whole):
        newest = {
            series.tags[instance]: float(series.rows[-1][0] or 0)
            for series in influx.ask(statement)
            if instance in series.tags
        }
        if not newest:
            continue
        # Not one that departed meanwhile.
        chosen = max(newest, key=lambda name: newest[name])
        assert chosen in choices
        told = {series.tags[instance] for series in influx.ask(statements(dashboard, chosen)[place])}
        assert told == {chosen}, statement
