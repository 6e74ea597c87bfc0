"""What the lab's Elasticsearch holds, asked as its reader."""

from collections.abc import Iterator, Mapping
from typing import Any

import requests

from drills.forum import Account
from drills.lab import Lab


class ElasticError(Exception):
    """Elasticsearch didn't answer a question; the text says which and why."""


def ask(
    lab: Lab, path: str, account: Account | None, body: Mapping[str, Any] | None = None, method: str = "POST"
) -> requests.Response:
    """The answer; None asks without an account. Raises requests.RequestException."""
    return requests.request(
        method,
        f"{lab.logs.url}/{path}",
        json=body,
        verify=lab.ca_file,
        timeout=60,
        auth=(account.username, account.password) if account else None,
    )


class Elastic:
    """The lab's log lines, asked by their reader, in the names of the Elastic Common Schema."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a search over all log lines. Raises ElasticError or requests.RequestException."""
        answer = ask(self._lab, f"{self._lab.logs.index}/_search", self._lab.logs.reader, body)
        if not answer.ok:
            raise ElasticError(f"{body}: {answer.text}")
        found: dict[str, Any] = answer.json()
        if found["timed_out"] or found["_shards"]["failed"]:
            raise ElasticError(f"{body}: only a part of the lines was searched: {found['_shards']}")
        return found

    def every(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """All hits of a search, page by page. Raises as search does.

        body: with a size, and an order that no two lines share.
        """
        wanted = dict(body)
        while hits := self.search(wanted)["hits"]["hits"]:
            yield from hits
            wanted["search_after"] = hits[-1]["sort"]

    def count(self, query: str) -> int:
        """How many lines match a query of Lucene's kind. Raises as search does."""
        wanted = {"size": 0, "track_total_hits": True, "query": {"query_string": {"query": query}}}
        total: int = self.search(wanted)["hits"]["total"]["value"]
        return total

    def counts(self, query: str, field: str, most: int) -> dict[str, int]:
        """How many matching lines have each value of a field, for at most so many values. Raises as search does."""
        wanted = {
            "size": 0,
            "query": {"query_string": {"query": query}},
            "aggs": {"values": {"terms": {"field": field, "size": most}}},
        }
        buckets = self.search(wanted)["aggregations"]["values"]["buckets"]
        return {str(bucket["key"]): int(bucket["doc_count"]) for bucket in buckets}

    def lines(self, query: str, *fields: str, most: int = 100) -> list[dict[str, Any]]:
        """The newest lines that match a query of Lucene's kind, with these of their fields. Raises as search does."""
        wanted = {
            "size": most,
            "_source": False,
            "sort": [{"@timestamp": "desc"}],
            "query": {"query_string": {"query": query}},
            "fields": list(fields),
        }
        hits = self.search(wanted)["hits"]["hits"]
        return [{name: value for name, (value, *_) in hit.get("fields", {}).items()} for hit in hits]
