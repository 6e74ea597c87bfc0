"""The status board's pages of the logs: what Elasticsearch is asked, what its answers mean, what the pages say."""

from __future__ import annotations

import json
import re
import ssl
import time
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from action_server import elastic, findings
from action_server.elastic import Elasticsearch, series
from action_server.findings import searched
from action_server.judge import State, judge
from action_server.lines import LogLine
from action_server.sources import RefusedError, Series, SourceError
from board_site import DATA, LEVELS, Ask, World, legends, level, read, row_of, sign_in, site

NOW = 1_800_000_000.0
OF_LOGS = [each["id"] for each in LEVELS if each["indicator"]["source"] == "log"]
TRACE = "0123456789abcdef" * 2
ANSWERED: dict[str, Any] = {
    "@timestamp": "2026-11-26T13:28:42.123Z",
    "event.dataset": "nginx.access",
    "service.name": "nginx",
    "host.name": "node-1",
    "event.duration": 1_250_000_000,
    "trace.id": TRACE,
    "http.request.method": "GET",
    "url.path": "/t/<b>/12/",
    "http.response.status_code": 502,
    "message": '{"url.path":"/t/"}',
}


def found(**aggregations: Any) -> dict[str, Any]:
    """An answer, as Elasticsearch gives it."""
    return {"timed_out": False, "_shards": {"failed": 0}, "hits": {"hits": []}, "aggregations": aggregations}


def test_a_count_is_multiplied_by_its_scale() -> None:
    (one,) = series(found(value={"meta": {"scale": 0.5}, "doc_count": 30}))
    assert (one.tags, one.newest) == ({}, 15.0)
    assert one.points[0][0] == pytest.approx(time.time(), abs=5)


def test_instances_become_series_and_one_without_a_name_is_none() -> None:
    buckets = [{"key": key, "doc_count": 3, "value": {"meta": {"scale": 1}, "value": 2}} for key in ("a", "")]
    (one,) = series(found(each={"meta": {"field": "container.id"}, "buckets": buckets}))
    assert (one.tags, one.instance, one.newest) == ({"container.id": "a"}, "a", 2.0)


def test_minutes_become_points_and_those_without_a_figure_none() -> None:
    minutes = [
        {"key": 60_000 * number, "doc_count": 0, "value": {"meta": {"scale": 1e-9}, "value": value}}
        for number, value in ((1, 2e9), (2, None), (3, 4e9))
    ]
    assert series(found(minutes={"buckets": minutes})) == [Series({}, ((60.0, 2.0), (180.0, 4.0)))]


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ({"meta": {"scale": 100}, "buckets": {"all": {"doc_count": 40}, "bad": {"doc_count": 1}}}, 2.5),
        ({"meta": {"scale": 100}, "buckets": {"all": {"doc_count": 0}, "bad": {"doc_count": 0}}}, None),
        ({"meta": {"scale": 1e-9}, "values": {"95.0": 246_000_000.0}}, 0.246),
        ({"meta": {"scale": 1e-9}, "values": {"95.0": None}}, None),
        ({"meta": {"scale": 1e-9}, "value": None}, None),
        ({"meta": {"scale": 1}, "value": 0}, 0.0),
    ],
)
def test_figures_of_each_kind(figure: dict[str, Any], value: float | None) -> None:
    (one,) = series(found(value=figure))
    assert one.newest == (value if value is None else pytest.approx(value))


def test_where_there_is_no_index_there_is_no_series() -> None:
    assert series({"timed_out": False, "_shards": {"failed": 0}, "hits": {"hits": []}}) == []


@pytest.fixture
def elasticsearch() -> Elasticsearch:
    context = create_autospec(ssl.SSLContext)
    return Elasticsearch("https://192.0.2.9:9200", "forum-logs", "reader", "", context)


def test_each_search_is_a_line_and_its_answer_its_own(
    elasticsearch: Elasticsearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[str, Any] = {}

    def ask(url: str, _: object, __: float, body: str, **headers: str) -> Any:
        sent.update(url=url, body=body, headers=headers)
        return {"responses": [found(value={"meta": {"scale": 1}, "doc_count": n}) for n in (1, 2)]}

    monkeypatch.setattr(elastic, "ask", ask)
    answers = elasticsearch.query(['{"a": "ü"}', '{"b": 1}'])
    assert {statement: each.newest for statement, (each,) in answers.items()} == {
        '{"a": "ü"}': 1.0,
        '{"b": 1}': 2.0,
    }
    assert sent["url"] == "https://192.0.2.9:9200/forum-logs-*/_msearch"
    assert sent["body"] == '{}\n{"a": "ü"}\n{}\n{"b": 1}\n'
    assert sent["headers"]["Content-Type"] == "application/x-ndjson"
    assert elasticsearch.query([]) == {}


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ({"error": {"type": "x", "reason": "bad words"}, "status": 400}, RefusedError, "bad words"),
        ({"error": {"type": "x_y", "reason": None}, "status": 503}, SourceError, "x_y"),
        ({**found(), "timed_out": True}, SourceError, "only a part"),
        ({**found(), "_shards": {"failed": 1}}, SourceError, "only a part"),
    ],
)
def test_what_isn_t_a_whole_answer_is_an_error(
    answer: dict[str, Any],
    kind: type[SourceError],
    told: str,
    elasticsearch: Elasticsearch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elastic, "ask", lambda *_, **__: {"responses": [answer]})
    with pytest.raises(SourceError, match=told) as raised:
        elasticsearch.search({})
    assert type(raised.value) is kind


def figures(**values: float) -> list[Series]:
    return [Series({"host.name": name} if name else {}, ((NOW, value),)) for name, value in values.items()]


def whole(value: float) -> list[Series]:
    return [Series({}, ((NOW, value),))]


def answers(now: list[Series], lines: float = 10, **others: list[Series]) -> dict[str, list[Series]]:
    """What is told of an indicator whose log has some lines within its window."""
    return {"now": now, "each": now, "hour": now, "seen": whole(lines), **others}


@pytest.mark.parametrize(
    ("name", "now", "state"),
    [
        ("nginx-errors", 0, State.OK),
        ("nginx-errors", 2.6, State.ALARM),
        ("nginx-errors", 5, State.LIMIT),
        ("misago-errors", 3.9, State.OK),
        ("forum-errors", 9.9, State.OK),
        ("forum-post-time", 50, State.LIMIT),
        ("forum-wrong-logins", 7, State.OK),
        ("forum-wrong-logins", 8, State.ALARM),
    ],
)
def test_a_figure_of_a_log_is_judged_as_one_of_a_metric(name: str, now: float, state: State) -> None:
    row = judge(level(name), answers(whole(now)), None, NOW)
    assert (row.state, row.value) == (state, now)


def test_the_worst_instance_is_told_unless_none_is_bad() -> None:
    told = answers(whole(3), each=figures(n1=1, n2=2))
    assert judge(level("nginx-errors"), told, None, NOW).worst == "n2"
    told = answers(whole(0), each=figures(n1=0, n2=0))
    assert judge(level("nginx-errors"), told, None, NOW).worst == ""


def test_an_alarm_that_aggregates_otherwise_has_its_own_figure() -> None:
    assert set(level("misago-get-time")["statements"]) == {"now", "each", "hour", "seen", "alarm"}
    slow = answers(whole(39), alarm=whole(9))
    assert judge(level("misago-get-time"), slow, None, NOW).state is State.OK
    assert judge(level("misago-get-time"), {**slow, "alarm": whole(11)}, None, NOW).state is State.ALARM


def test_without_a_line_nothing_is_known_and_nothing_is_well() -> None:
    row = judge(level("nginx-errors"), answers(whole(0), lines=0), None, NOW)
    assert (row.state, row.value, row.note) == (State.QUIET, None, "no line within 1 min")
    assert judge(level("nginx-errors"), {**answers([]), "seen": []}, None, NOW).state is State.QUIET


def test_lines_of_which_none_is_meant_are_well() -> None:
    row = judge(level("forum-wrong-logins"), answers([]), None, NOW)
    assert (row.state, row.value, row.note) == (State.OK, None, "none within 30 s")


@pytest.mark.parametrize("name", OF_LOGS)
def test_every_indicator_of_a_log_is_asked_for_in_one_line_each(name: str) -> None:
    statements = level(name)["statements"]
    for statement in statements.values():
        assert "\n" not in statement
        assert json.loads(statement)["size"] == 0
    if level(name)["aggregation"] == "silence":
        assert set(statements) == {"seen"}
        return
    assert '"each"' in statements["each"]
    assert '"minutes"' in statements["hour"]


def test_the_page_of_requests_draws_rate_classes_and_percentiles() -> None:
    named = {panel["title"]: [each["name"] for each in panel["series"]] for panel in DATA["requests"]}
    assert named == {
        "request rate": ["requests"],
        "answers by status": ["2xx", "3xx", "4xx", "5xx"],
        "response time": ["50 %", "95 %", "99 %"],
    }


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"http.request.method": "GET", "url.path": "/x", "http.response.status_code": 200}, "GET /x"),
        ({"http.response.status_code": 400}, ""),
        ({"message": "[error] 7#7: no room", "error.message": "no room"}, "no room"),
        (
            {"message": "Error: /x", "error.type": "ValueError", "error.message": "no room"},
            "Error: /x: ValueError: no room",
        ),
        ({"message": "as it came"}, "as it came"),
        ({}, ""),
    ],
)
def test_what_a_line_says(fields: dict[str, Any], said: str) -> None:
    assert LogLine(fields).said == said


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"http.response.status_code": 499}, False),
        ({"http.response.status_code": 500}, True),
        ({"log.level": "warning"}, False),
        ({"log.level": "error"}, True),
        ({"log.level": "emergency"}, True),
        ({}, False),
    ],
)
def test_what_an_error_is(fields: dict[str, Any], failed: bool) -> None:
    assert LogLine(fields).failed is failed


@pytest.fixture
def world() -> World:
    told = World()
    told.lines = [dict(ANSWERED)]
    return told


@pytest.fixture
def ask(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Ask:
    return site(tmp_path, world, monkeypatch)


def shown(ask: Ask, page: str) -> str:
    status, _, content = ask(page, cookie=sign_in(ask))
    assert status == 200
    return content


def rows(content: str, table: str) -> list[str]:
    """The rows of a table that has this caption."""
    found_ = re.search(rf"<caption>{table}.*?<tbody>(.*?)</tbody>", content, re.DOTALL)
    assert found_ is not None, f"no table {table}"
    return [read(row) for row in re.findall(r"<tr>(.*?)</tr>", found_[1], re.DOTALL)]


def test_the_overview_has_values_of_the_logs(ask: Ask) -> None:
    content = shown(ask, "/")
    assert row_of(content, "nginx-errors").startswith("✔ ok errors 0.12 errors/s n1 > 2.50")
    assert row_of(content, "misago-errors").startswith("▲ alarm error rate 5 % n1 > 4")
    assert row_of(content, "forum-get-time").startswith("✔ ok GET response time 3 s n1 < 40")
    assert row_of(content, "misago-clients").startswith("✔ ok clients per instance 4 clients n1 > 1,000")


def test_the_page_of_requests_tells_figures_times_and_the_latest_lines(ask: Ask) -> None:
    content = shown(ask, "/requests")
    drawn = legends(content)
    assert drawn["request rate requests/s"] == ["requests 0.12"]
    assert drawn["answers by status answers/s"] == ["2xx 0.12", "3xx 0.12", "4xx 0.12", "5xx 0.12"]
    assert drawn["response time s"] == ["50 % 2", "95 % 2", "99 % 2"]
    assert content.count('<svg class="graph"') == 3
    assert "no data in the last hour" not in content
    times = ["n1 7 2 s 2 s 2 s 3 s", "<b> 7 2 s 2 s 2 s 3 s"]
    for table in ("As nginx measures them", "Of the forum alone", "The slowest paths"):
        assert rows(content, table) == times
    assert rows(content, "The newest 1") == [
        "26 Nov 13:28:42.123 nginx node-1 ✖ 502 1.25 s GET /t/<b>/12/ 01234567"
    ]
    assert f'href="/request?id={TRACE}"' in content


def test_the_tables_are_of_one_hour_and_compute_only_what_they_show(
    elasticsearch: Elasticsearch, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elastic, "ask", world.answer)
    findings.tables(elasticsearch)
    nginx, gunicorn = world.searches
    assert nginx["query"]["bool"]["filter"] == [
        {"term": {"event.dataset": "nginx.access"}},
        {"range": {"@timestamp": {"gte": "now-1h"}}},
    ]
    assert gunicorn["query"]["bool"]["filter"][0] == {"term": {"event.dataset": "misago.access"}}
    assert nginx["aggs"]["paths"] == {
        "terms": {
            "field": "url.path",
            "size": 15,
            "order": {"slowest": "desc"},
            "collect_mode": "breadth_first",
        },
        "aggs": {
            "slowest": {"max": {"field": "event.duration"}},
            "times": {"percentiles": {"field": "event.duration", "percents": [50, 95, 99]}},
        },
    }
    assert gunicorn["aggs"]["operations"]["terms"]["field"] == "forum.operation"


def test_how_whole_the_logs_are_is_told(ask: Ask) -> None:
    told = read(shown(ask, "/requests"))
    assert "newest line 3 s old" in told
    assert "▲ 14 unparsed (n1 7, <b> 7) within a day" in told
    # What each node's shipper lost, and the collector.
    assert "✖ 12 lost (n1 4, <b> 4, collector 4) within a day" in told


def test_what_was_lost_is_added_up_since_each_line_tells_of_its_own(
    elasticsearch: Elasticsearch, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elastic, "ask", world.answer)
    findings.whole(elasticsearch)
    (of_day,) = [search["aggs"] for search in world.searches if "collector" in search["aggs"]]
    for counted in (of_day["collector"], of_day["shippers"]["aggs"]["nodes"]):
        assert counted["aggs"] == {"lost": {"sum": {"field": "forum.lost"}}}


def test_before_the_first_line_nothing_is_counted(ask: Ask, world: World) -> None:
    world.empty, world.lines = True, []
    content = shown(ask, "/errors")
    told = read(content)
    assert "no line yet ✔ 0 unparsed within a day ✔ 0 lost within a day" in told
    assert "None within a day." in told
    assert 'role="alert" hidden>' in content
    assert row_of(shown(ask, "/"), "nginx-errors").startswith("· no lines errors - no line within 1 min")


def test_errors_are_levels_and_answers_the_newest_first_and_bounded(ask: Ask, world: World) -> None:
    world.lines = [{**ANSWERED, "log.level": "error", "trace.id": ""}] * 120
    content = shown(ask, "/errors")
    assert len(rows(content, "The newest 100, and no more of the last day")) == 100
    assert "/request?id=" not in content
    (listed,) = [search for search in world.searches if search["size"] == 100]
    assert listed["sort"] == [{"@timestamp": "desc"}]
    assert listed["query"]["bool"]["filter"] == [
        {
            "bool": {
                "should": [
                    {"terms": {"log.level": ["error", "critical", "alert", "emergency"]}},
                    {"range": {"http.response.status_code": {"gte": 500}}},
                ]
            }
        },
        {"range": {"@timestamp": {"gte": "now-1d"}}},
    ]


def test_a_search_keeps_its_words_and_its_service(ask: Ask, world: World) -> None:
    content = shown(ask, "/errors?search=no++r%22oom&service=nginx")
    assert 'value="no r&#34;oom"' in content
    assert 'href="/errors?kind=errors&amp;search=no%20r%22oom&amp;service=n1"' in content
    (listed,) = [search for search in world.searches if search["size"] == 100]
    assert searched('no r"oom') in listed["query"]["bool"]["filter"]
    assert listed["post_filter"]["bool"]["filter"] == [{"term": {"service.name": "nginx"}}]


def test_a_search_has_no_way_to_say_anything_but_words() -> None:
    (kind,) = searched("x")
    assert kind == "simple_query_string"
    assert set(searched("x")[kind]["flags"].split("|")).isdisjoint({"ALL", "FUZZY", "NEAR", "SLOP"})


@pytest.mark.parametrize(
    ("search", "why"),
    [("((", "it holds no word"), ("x" * 201, "it is longer than 200 characters")],
)
def test_a_search_that_isn_t_understood_is_told_and_not_asked(
    ask: Ask, world: World, search: str, why: str
) -> None:
    content = shown(ask, f"/errors?search={search}")
    assert f"This search isn't understood: {why}." in read(content)
    assert "<table" not in content
    assert all(each["size"] == 0 for each in world.searches)


def test_a_search_that_elasticsearch_refuses_is_told(ask: Ask, world: World) -> None:
    world.refused = True
    content = shown(ask, "/errors?search=a*")
    assert "This search isn't understood: Elasticsearch wants plain words." in read(content)


def test_unparsed_lines_are_listed_as_errors_are(ask: Ask, world: World) -> None:
    content = shown(ask, "/errors?kind=unparsed")
    assert "<h1>Unparsed lines</h1>" in content
    (listed,) = [search for search in world.searches if search["size"] == 100]
    assert listed["query"]["bool"]["filter"][0] == {"term": {"event.dataset": "unparsed"}}
    assert ask("/errors?kind=other", cookie=sign_in(ask))[0] == 404


def test_what_is_said_twice_in_an_address_counts_once(ask: Ask) -> None:
    assert 'value="b"' in shown(ask, "/errors?search=a&search=b")


def test_a_request_is_followed_in_the_order_of_time(ask: Ask, world: World) -> None:
    world.lines = [
        {**ANSWERED, "event.dataset": "misago.access", "service.name": "misago", "host.name": "node-2",
         "http.response.status_code": 500, "user.name": "bob", "forum.operation": "GET /t/:slug/:pk/"},
        {"@timestamp": "2026-11-26T13:28:42.130Z", "service.name": "misago", "log.level": "error",
         "message": "Internal Server Error", "error.stack_trace": "Traceback: <b>"},
        dict(ANSWERED),
    ]  # fmt: skip
    content = shown(ask, f"/request?id=+{TRACE}")
    assert rows(content, "Its lines in the order of time") == [
        "26 Nov 13:28:42.123 misago node-2 ✖ 500 1.25 s GET /t/<b>/12/ GET /t/:slug/:pk/, bob 01234567",
        "26 Nov 13:28:42.130 misago ✖ error Internal Server Error Traceback: <b>",
        "26 Nov 13:28:42.123 nginx node-1 ✖ 502 1.25 s GET /t/<b>/12/ 01234567",
    ]
    (search,) = world.searches
    assert search["query"] == {"bool": {"filter": [{"term": {"trace.id": TRACE}}]}}
    assert search["sort"] == [{"@timestamp": "asc"}]


def test_a_request_that_nobody_knows_is_told(ask: Ask, world: World) -> None:
    world.lines = []
    assert "No line has this id, or not yet" in shown(ask, f"/request?id={TRACE}")
    world.searches.clear()
    assert "This is no request's id" in read(shown(ask, "/request?id=*"))
    assert world.searches == []


@pytest.mark.parametrize("page", ["/requests", "/errors", f"/request?id={TRACE}"])
def test_while_elasticsearch_is_away_the_pages_say_so_and_show_nothing(
    ask: Ask, world: World, page: str
) -> None:
    world.logs_away = True
    head, _, main = shown(ask, page).partition("<main")
    assert "Elasticsearch: 192.0.2.9:9200 doesn&#39;t answer" in head
    assert not re.search("<table|<section|<svg|None within|No line has", main)


def test_while_elasticsearch_is_away_the_other_figures_are_there(ask: Ask, world: World) -> None:
    world.logs_away = True
    content = shown(ask, "/")
    assert "Elasticsearch: 192.0.2.9:9200 doesn&#39;t answer" in content
    assert row_of(content, "nginx-errors").startswith("? unknown")
    assert row_of(content, "postgres-inserted").startswith("✖ limit broken")
    assert "Elasticsearch" not in shown(ask, "/components/nginx")
