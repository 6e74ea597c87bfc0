"""The alarms that ElastAlert2 carries: what it reads arrives, and what it finds is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from drills import influx
from drills.forum import Account
from drills.lab import Lab

#: No service of the stack, so that nobody misses it afterwards.
_HOST = "e2e-alarm"


@pytest.fixture
def search(lab: Lab) -> Callable[[str, dict[str, Any]], list[dict[str, Any]]]:
    """Asks Elasticsearch as the alarms do."""
    account = Account("alarms", (lab.secrets_dir / "elasticsearch_alarms_password").read_text().strip())

    def ask(index: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        answer = requests.post(
            f"{lab.logs.url}/{index}/_search?ignore_unavailable=true",
            json={"size": 100, "query": query, "sort": [{"@timestamp": {"order": "desc", "unmapped_type": "date"}}]},
            auth=(account.username, account.password), verify=lab.ca_file, timeout=30,
        )  # fmt: skip
        answer.raise_for_status()
        return [hit["_source"] for hit in answer.json()["hits"]["hits"]]

    return ask


def test_every_node_s_figures_are_copied(
    lab: Lab, search: Callable[[str, dict[str, Any]], list[dict[str, Any]]]
) -> None:
    fresh = {"range": {"@timestamp": {"gte": "now-40s"}}}
    for measurement, tag in (("nginx", "host"), ("snmp", "node")):
        query = {"bool": {"filter": [fresh, {"term": {"measurement_name": measurement}}]}}
        found = {point["tag"][tag] for point in search("forum-metrics-*", query)}
        assert len(found) == len(lab.swarm), measurement


def test_every_shipper_tells_that_it_lives(
    lab: Lab, search: Callable[[str, dict[str, Any]], list[dict[str, Any]]]
) -> None:
    fresh = [{"range": {"@timestamp": {"gte": "now-45s"}}}, {"term": {"event.dataset": "shipper"}}]
    found = search("forum-logs-*", {"bool": {"filter": fresh}})
    assert {line["tag"]["host.name"] for line in found} == {node.name for node in lab.swarm}


def test_a_figure_above_its_threshold_is_found_and_the_action_server_hears_of_it(
    lab: Lab, search: Callable[[str, dict[str, Any]], list[dict[str, Any]]]
) -> None:
    began = time.time()
    influx.write(lab, [f"redis_response,host={_HOST},service=e2e response_time=6"])
    query = {
        "bool": {
            "filter": [{"term": {"rule_name": "redis-time"}}, {"range": {"@timestamp": {"gte": "now-60s"}}}]
        }
    }
    while True:
        told = [one for one in search("forum-alarms-elastalert", query) if one["alert_sent"]]
        if told := [one for one in told if one["match_body"]["instance"] == {"host": _HOST}]:
            break
        assert time.time() - began < 45
        time.sleep(1)
    print(f"from the point to the alarm: {time.time() - began:.1f} s")
    assert told[0]["match_body"]["value"] == 6
