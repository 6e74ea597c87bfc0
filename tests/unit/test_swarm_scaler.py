"""A step is judged by what the swarm says, and taken under the version that was judged."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import docker
import pytest
import requests
from swarm_scaler import __main__ as program
from swarm_scaler.judge import Step, Swarm, changed, judge
from swarm_scaler.manager import Manager, UnknownServiceError

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
GB = 1 << 30


def step(by: int = 1, action: str = "a1") -> Step:
    return Step(by, action, NOW, timedelta(seconds=300))


def service(replicas: int = 2, **told: str) -> dict[str, Any]:
    """An nginx that may have 1 to 3 replicas, one per node with the label edge; told: more labels forum.scale.NAME."""
    labels = {"forum.definition": "0123", "forum.scale.min": "1", "forum.scale.max": "3"}
    labels |= {f"forum.scale.{name}": value for name, value in told.items()}
    return {
        "ID": "s1",
        "Version": {"Index": 7},
        "Spec": {
            "Name": "forum_nginx",
            "Labels": labels,
            "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "nginx:1"},
                "Placement": {"MaxReplicas": 1, "Constraints": ["node.labels.edge == true"]},
                "Resources": {"Reservations": {"NanoCPUs": 500_000_000, "MemoryBytes": GB}},
            },
        },
    }


def node(number: int, **other: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ID": f"n{number}",
        "Status": {"State": "ready"},
        "Spec": {"Availability": "active", "Role": "manager", "Labels": {"edge": "true"}},
        "Description": {
            "Hostname": f"node-{number}",
            "Resources": {"NanoCPUs": 2_000_000_000, "MemoryBytes": 4 * GB},
        },
    }
    return found | other


def task(number: int, state: str = "running", of: str = "s1", memory: int = GB) -> dict[str, Any]:
    """A task on the node of that number."""
    return {
        "ServiceID": of,
        "NodeID": f"n{number}",
        "DesiredState": "running",
        "Status": {"State": state},
        "Spec": {"Resources": {"Reservations": {"NanoCPUs": 500_000_000, "MemoryBytes": memory}}},
    }


def swarm(found: dict[str, Any] | None = None, **parts: list[dict[str, Any]]) -> Swarm:
    """Three nodes; the service's replicas run on the first ones, unless given."""
    found = found or service()
    running = [task(number) for number in range(found["Spec"]["Mode"]["Replicated"]["Replicas"])]
    return Swarm(found, parts.get("nodes", [node(n) for n in range(3)]), parts.get("tasks", running))


def test_one_up_and_one_down() -> None:
    assert judge(swarm(), step(1)).wanted == 3
    assert judge(swarm(), step(-1)).wanted == 1


@pytest.mark.parametrize(
    ("found", "by", "reason"),
    [
        (swarm(service(3)), 1, "it has 3 replicas and may have 1 to 3"),
        (swarm(service(1)), -1, "it has 1 replicas and may have 1 to 3"),
        (swarm(service() | {"UpdateStatus": {"State": "updating"}}), 1, "a rollout of it is under way"),
        (
            swarm(service() | {"UpdateStatus": {"State": "rollback_started"}}),
            -1,
            "a rollout of it is under way",
        ),
        (
            swarm(service() | {"UpdateStatus": {"State": "rollback_paused"}}),
            1,
            "its rollout is rollback paused: deploy it anew, or roll it back",
        ),
        (
            swarm(tasks=[task(0), task(1, "starting")]),
            1,
            "1 of its 2 replicas run: the step before isn't finished",
        ),
        (
            swarm(tasks=[task(0), task(1), task(2)]),
            1,
            "3 of its tasks are there where 2 are wanted: the step before isn't finished",
        ),
        (
            swarm(service(at="2026-01-31T11:58:00+00:00", by="1")),
            1,
            "it was changed 120 s ago, at 2026-01-31T11:58:00+00:00: the next step may come in 180 s",
        ),
        (
            swarm(service(at="2026-01-31T11:58:00+00:00", by="-1")),
            -1,
            "it was changed 120 s ago, at 2026-01-31T11:58:00+00:00: the next step may come in 180 s",
        ),
        (
            # Another manager's clock is ahead.
            swarm(service(at="2026-01-31T12:00:30+00:00", by="1")),
            1,
            "it was changed 0 s ago, at 2026-01-31T12:00:30+00:00: the next step may come in 300 s",
        ),
        (
            swarm(nodes=[node(0), node(1), node(2, Status={"State": "down"})]),
            1,
            "2 nodes may run it, 1 each: 3 replicas have no place",
        ),
        (
            swarm(nodes=[node(0), node(1), node(2, Spec={"Availability": "drain", "Role": "worker"})]),
            1,
            "2 nodes may run it, 1 each: 3 replicas have no place",
        ),
        (
            swarm(nodes=[node(0), node(1), node(2, Spec={"Availability": "active", "Role": "worker"})]),
            1,
            "2 nodes may run it, 1 each: 3 replicas have no place",
        ),
        (
            # The only free place is taken by another service.
            swarm(tasks=[task(0), task(1), task(2, of="s2", memory=4 * GB)]),
            1,
            "no node has 0.5 processors and 1024 MB left that it reserves",
        ),
    ],
)
def test_what_is_refused_and_why(found: Swarm, by: int, reason: str) -> None:
    verdict = judge(found, step(by))
    assert (verdict.refused, verdict.wanted) == (reason, verdict.before)


@pytest.mark.parametrize("missing", ["forum.scale.min", "forum.scale.max"])
def test_what_has_no_bounds_is_not_scaled(missing: str) -> None:
    found = service()
    del found["Spec"]["Labels"][missing]
    assert judge(swarm(found), step()).refused.startswith("it has no bounds")


def test_what_runs_on_every_node_is_not_scaled() -> None:
    found = service()
    other = swarm(found)
    found["Spec"]["Mode"] = {"Global": {}}
    assert judge(other, step()).refused.startswith("it has no bounds")


@pytest.mark.parametrize(
    "told",
    [
        {"at": "2026-01-31T11:55:00+00:00", "by": "1"},
        # Up wins over down.
        {"at": "2026-01-31T11:59:59+00:00", "by": "-1"},
        {"at": "who knows", "by": "1"},
    ],
    ids=["late enough", "up after down", "no time"],
)
def test_what_is_not_too_soon(told: dict[str, str]) -> None:
    assert judge(swarm(service(2, **told)), step(1)).wanted == 3


@pytest.mark.parametrize(("replicas", "by"), [(5, -1), (0, 1)])
def test_what_is_out_of_its_bounds_may_come_back(replicas: int, by: int) -> None:
    found = swarm(service(replicas))
    assert judge(found, step(by)).wanted == replicas + by


def test_tasks_that_ended_count_for_nothing() -> None:
    found = swarm(tasks=[task(0), task(1), task(2, "shutdown"), task(2, "failed", memory=9 * GB)])
    assert judge(found, step()).wanted == 3


def test_the_same_action_again_changes_nothing() -> None:
    found = swarm(service(at="2026-01-31T11:58:00+00:00", by="1", action="a1"))
    verdict = judge(found, step(1, "a1"))
    assert (verdict.repeated, verdict.refused, verdict.wanted) == (True, "", 2)
    # Of what has no name nothing is known again.
    assert judge(swarm(service(action="")), step(1, "")).wanted == 3


def test_nothing_else_of_the_service_changes() -> None:
    found = service(at="2026-01-01T00:00:00+00:00", by="-1", action="a0")
    before = copy.deepcopy(found)
    spec = changed(found, judge(swarm(found), step()), step())
    assert found == before
    assert spec["Mode"] == {"Replicated": {"Replicas": 3}}
    assert spec["Labels"] == {
        "forum.definition": "0123",
        "forum.scale.min": "1",
        "forum.scale.max": "3",
        "forum.scale.at": "2026-01-31T12:00:00+00:00",
        "forum.scale.by": "1",
        "forum.scale.action": "a1",
    }
    untouched = spec.keys() - {"Mode", "Labels"}
    assert {name: spec[name] for name in untouched} == {name: before["Spec"][name] for name in untouched}


class Engine:
    """Docker's API of one service. others: how many other changes come between reading and changing."""

    base_url, api_version = "http+docker://localhost", "1.44"

    def __init__(self, others: int = 0, refusal: str = "") -> None:
        self.held, self.others, self.refusal = service(), others, refusal
        self.posted: list[dict[str, Any]] = []

    def services(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        # As Docker's: names that begin with it are found as well.
        others = [{"Spec": {"Name": f"{filters['name']}-exporter"}}]
        return [*others, copy.deepcopy(self.held)] if filters["name"] == "forum_nginx" else others

    def nodes(self) -> list[dict[str, Any]]:
        return [node(n) for n in range(3)]

    def tasks(self) -> list[dict[str, Any]]:
        return [task(n) for n in range(self.held["Spec"]["Mode"]["Replicated"]["Replicas"])]

    def post(
        self, url: str, params: dict[str, int], json: dict[str, Any], timeout: float
    ) -> requests.Response:
        assert url == "http+docker://localhost/v1.44/services/s1/update"
        if self.others:
            self.others -= 1
            self.held["Version"]["Index"] += 1
        answer = requests.Response()
        answer.status_code = 200
        if params["version"] != self.held["Version"]["Index"]:
            answer.status_code, answer._content = 500, b"rpc error: update out of sequence"
        elif self.refusal:
            answer.status_code, answer._content = 500, self.refusal.encode()
        else:
            self.posted.append(json)
            self.held["Spec"] = json
            self.held["Version"]["Index"] += 1
        return answer


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    def make(**given: Any) -> Engine:
        engine = Engine(**given)
        monkeypatch.setattr(docker, "APIClient", lambda **_: engine)
        return engine

    return make


def test_a_step_is_taken(engine: Callable[..., Engine]) -> None:
    known = engine()
    assert Manager("forum").take("nginx", step(), dry=False).wanted == 3
    (posted,) = known.posted
    assert posted["Mode"] == {"Replicated": {"Replicas": 3}}


def test_a_dry_run_changes_nothing(engine: Callable[..., Engine]) -> None:
    known = engine()
    assert Manager("forum").take("nginx", step(), dry=True).wanted == 3
    assert known.posted == []


def test_another_change_first_is_judged_anew(engine: Callable[..., Engine]) -> None:
    known = engine(others=2)
    assert Manager("forum").take("nginx", step(), dry=False).wanted == 3
    assert len(known.posted) == 1


def test_of_two_steps_at_once_one_is_taken(engine: Callable[..., Engine]) -> None:
    known = engine()
    first, second = (Manager("forum").take("nginx", step(1, name), dry=False) for name in ("a1", "a2"))
    assert (first.wanted, second.wanted) == (3, 3)
    assert second.refused
    assert len(known.posted) == 1


def test_it_does_not_try_for_ever(engine: Callable[..., Engine]) -> None:
    known = engine(others=99)
    assert "others changed it" in Manager("forum").take("nginx", step(), dry=False).refused
    assert known.posted == []


def test_what_the_swarm_refuses_is_an_error(engine: Callable[..., Engine]) -> None:
    engine(refusal="rpc error: no leader")
    with pytest.raises(docker.errors.APIError, match="no leader"):
        Manager("forum").take("nginx", step(), dry=False)


def test_a_service_that_is_not_there(engine: Callable[..., Engine]) -> None:
    engine()
    with pytest.raises(UnknownServiceError, match="the stack forum has no service redis"):
        Manager("forum").take("redis", step(), dry=False)


Call = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the program; its exit status, and what it told."""
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"stack": "forum", "cooldown": 300}))
    monkeypatch.setattr(program, "SETTINGS", settings)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        try:
            code = program.main(list(arguments))
        except SystemExit as ended:
            code = int(str(ended.code))
        return code, json.loads(capsys.readouterr().out)

    return run


def test_the_program_tells_what_it_did(engine: Callable[..., Engine], call: Call) -> None:
    engine()
    told = {"service": "nginx", "before": 2, "wanted": 1, "changed": True, "repeated": False, "refused": ""}
    assert call("nginx", "-1", "--action", "e-12") == (0, told)
    code, again = call("nginx", "-1", "--action", "e-12")
    assert (code, again["changed"], again["repeated"]) == (0, False, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nginx", "2"],
        ["nginx", "0"],
        ["nginx"],
        ["nginx; reboot", "1"],
        ["--help-me", "1"],
        ["nginx", "1", "--action", "$(reboot)"],
        ["nginx", "1", "--action", "a" * 65],
    ],
)
def test_what_it_does_not_understand_it_refuses(
    engine: Callable[..., Engine], call: Call, arguments: list[str]
) -> None:
    known = engine()
    code, told = call(*arguments)
    assert code == 2
    assert set(told) == {"error"}
    assert known.posted == []


def test_a_machine_without_a_swarm(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    def refuse(**_: Any) -> None:
        raise docker.errors.DockerException("this node is not a swarm manager")

    monkeypatch.setattr(docker, "APIClient", refuse)
    assert call("nginx", "1") == (1, {"error": "this node is not a swarm manager"})
