"""A stack is deployed on a swarm of this test's own making, which does what Docker's does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import swarm_stack
import yaml
from ansible.module_utils.stack_definitions import MARK
from ansible.module_utils.swarm_services import run_of

JOB = {"restart_policy": {"condition": "none"}}


class EngineError(Exception):
    """What the engine answers instead."""


class Swarm:
    """Services, secrets and configs. bad: images whose tasks fail; deploys: the services of each deploy, in order."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Any]] = {}
        self.stored: dict[str, list[str]] = {"Secrets": [], "Configs": []}
        self.bad: set[str] = set()
        self.deploys: list[list[str]] = []
        self.away = ""

    def services(self, filters: object = None) -> list[dict[str, Any]]:
        if self.away:
            raise EngineError(self.away)
        return list(self.held.values())

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Status": {"State": "ready"}, "Spec": {"Availability": "active"}}] * 3

    def images(self) -> list[dict[str, Any]]:
        return [{"RepoTags": [f"r:{number}" for number in range(9)]}]

    def tasks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        service = self.held[filters["service"]]
        container = service["Spec"]["TaskTemplate"]["ContainerSpec"]
        now = "failed" if container["Image"] in self.bad else "running"
        state = service.get("ended", now)
        return [
            {
                "Status": {"State": state, "Err": "task: non-zero exit (1)"},
                "Spec": {"ContainerSpec": container},
            }
        ]

    def secrets(self) -> list[dict[str, Any]]:
        return [
            {"Spec": {"Name": name, "Labels": {"forum.stack": "forum"}}} for name in self.stored["Secrets"]
        ]

    def configs(self) -> list[dict[str, Any]]:
        return [
            {"Spec": {"Name": name, "Labels": {"forum.stack": "forum"}}} for name in self.stored["Configs"]
        ]

    def remove_secret(self, name: str) -> None:
        self.stored["Secrets"].remove(name)

    def remove_config(self, name: str) -> None:
        self.stored["Configs"].remove(name)

    def remove_service(self, name: str) -> None:
        del self.held[name]

    def deploy(self, composed: dict[str, Any]) -> None:
        self.deploys.append(list(composed["services"]))
        for short, given in composed["services"].items():
            self._update(f"forum_{short}", given)

    def _update(self, name: str, given: dict[str, Any]) -> None:
        restart = given["deploy"].get("restart_policy", {}).get("condition", "any")
        before = self.held.get(name, {})
        spec = {
            "Name": name,
            "Labels": given["deploy"]["labels"],
            "Mode": {"Replicated": {"Replicas": 1}},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": given["image"],
                    "Secrets": [{"SecretName": secret} for secret in given.get("secrets", [])],
                    "Labels": given.get("labels", {}),
                },
                "RestartPolicy": {"Condition": restart},
            },
        }
        self.held[name] = {"ID": name, "Spec": spec}
        if before:
            self.held[name]["PreviousSpec"] = before["Spec"]
        if restart == "none":
            self.held[name]["ended"] = "failed" if given["image"] in self.bad else "complete"
        elif before and given["image"] in self.bad:
            self.roll_back(name)

    def roll_back(self, name: str) -> None:
        service = self.held[name]
        service["Spec"], service["PreviousSpec"] = service["PreviousSpec"], service["Spec"]
        service["UpdateStatus"] = {"State": "rollback_completed", "Message": "rolled back"}

    def image(self, name: str) -> str:
        return str(self.held[f"forum_{name}"]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])

    def runs(self, name: str) -> int:
        return int(run_of(self.held[f"forum_{name}"]))


class EndedError(Exception):
    """How the module ended."""

    def __init__(self, **result: Any) -> None:
        super().__init__(result.get("msg", ""))
        self.result = result


class Module:
    """As much of AnsibleModule as the module uses."""

    def __init__(self, swarm: Swarm, directory: Path, check_mode: bool = False, **params: Any) -> None:
        self.swarm = swarm
        self.check_mode = check_mode
        given = {
            "name": "forum",
            "fragments_dir": str(directory),
            "fragments": [],
            "expected": [],
            "timeout": 2,
        }
        self.params = {**given, **params}
        self.warnings: list[str] = []

    def run_command(self, command: list[str], data: str = "") -> tuple[int, str, str]:
        if command[1] == "stack":
            self.swarm.deploy(json.loads(data))
        return 0, "", ""

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def exit_json(self, **result: Any) -> None:
        raise EndedError(**result, warnings=self.warnings)

    def fail_json(self, **result: Any) -> None:
        raise EndedError(**result, failed=True)


Deploy = Callable[..., dict[str, Any]]


@pytest.fixture
def swarm() -> Swarm:
    return Swarm()


@pytest.fixture
def deploy(swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deploy:
    """Runs the module as Ansible does, and gives back its result."""
    errors = SimpleNamespace(DockerException=EngineError)
    fake = SimpleNamespace(APIClient=lambda version: swarm, errors=errors)
    monkeypatch.setattr(swarm_stack, "docker", fake)
    clock = iter(range(10**6))
    monkeypatch.setattr(
        swarm_stack, "time", SimpleNamespace(sleep=lambda _: None, monotonic=lambda: next(clock))
    )

    def run(**params: Any) -> dict[str, Any]:
        monkeypatch.setattr(swarm_stack, "AnsibleModule", lambda **_: Module(swarm, tmp_path, **params))
        with pytest.raises(EndedError) as ended:
            swarm_stack.main()
        return ended.value.result

    return run


def write(directory: Path, fragment: str, **services: dict[str, Any]) -> None:
    """A fragment of services, given as name=settings, with - written as _ in names."""
    content: dict[str, Any] = {
        "services": {name.replace("_", "-"): given for name, given in services.items()}
    }
    named: dict[str, dict[str, Any]] = {
        name: {} for given in services.values() for name in given.get("secrets", [])
    }
    (directory / f"{fragment}.yml").write_text(yaml.safe_dump({**content, "secrets": named}))


def test_what_runs_as_wanted_is_left_alone(swarm: Swarm, deploy: Deploy, tmp_path: Path) -> None:
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    write(tmp_path, "misago", misago={"image": "r:1"})
    first = deploy()
    assert first["changed"]
    assert first["services"] == {"forum_misago": "1/1", "forum_nginx": "1/1"}
    assert not deploy()["changed"]
    write(tmp_path, "nginx", nginx={"image": "r:2"})
    second = deploy()
    assert second["deployed"] == {"forum_nginx": "has another definition"}
    assert swarm.deploys == [["misago", "nginx"], ["nginx"]]
    assert "PreviousSpec" not in swarm.held["forum_misago"], "a rollback has what it had"


def test_a_dry_run_tells_and_changes_nothing(swarm: Swarm, deploy: Deploy, tmp_path: Path) -> None:
    assert deploy(check_mode=True)["changed"], "of a new system nothing is written yet"
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    told = deploy(check_mode=True)
    assert (told["changed"], told["deployed"]) == (True, {"forum_nginx": "is missing"})
    assert told["diff"]["before"] == "forum_nginx is missing\n"
    assert not swarm.deploys
    assert [path.name for path in tmp_path.iterdir()] == ["nginx.yml"]


def test_after_a_rollback_of_the_swarm_the_reverted_version_is_brought(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    deploy()
    swarm.bad = {"r:2"}
    write(tmp_path, "nginx", nginx={"image": "r:2"})
    assert "rollback completed" in deploy()["msg"]
    assert "rollback completed" in deploy()["msg"], "not taken for done the second time"
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    assert deploy()["deployed"] == {"forum_nginx": "rollback completed"}
    assert swarm.image("nginx") == "r:1"
    assert not deploy()["changed"]


def test_after_a_rollback_by_hand_the_wanted_version_is_brought(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    for number in (1, 2):
        write(tmp_path, "nginx", nginx={"image": f"r:{number}"})
        deploy()
    swarm.roll_back("forum_nginx")
    assert swarm.image("nginx") == "r:1"
    assert deploy()["changed"]
    assert swarm.image("nginx") == "r:2"


def test_a_job_runs_once_per_definition_and_again_if_it_failed(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    write(tmp_path, "release", release={"image": "r:1", "deploy": JOB})
    deploy()
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    deploy()
    assert swarm.runs("release") == 1
    swarm.bad = {"r:2"}
    write(tmp_path, "release", release={"image": "r:2", "deploy": JOB})
    assert "the job failed" in deploy(fragments=["release"])["msg"]
    swarm.bad = set()
    assert deploy(fragments=["release"])["deployed"] == {"forum_release": "the job failed"}
    assert not deploy()["changed"]
    assert swarm.runs("release") == 3


def test_members_follow_one_after_the_other_and_stop_at_the_first_that_fails(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    write(tmp_path, "postgres", postgres_0={"image": "r:1"}, postgres_1={"image": "r:1"})
    deploy()
    write(tmp_path, "postgres", postgres_0={"image": "r:2"}, postgres_1={"image": "r:2"})
    swarm.bad = {"r:2"}
    message = deploy()["msg"]
    assert "forum_postgres-0" in message
    assert "forum_postgres-1" not in message
    assert swarm.image("postgres-1") == "r:1"
    swarm.bad = set()
    deploy()
    assert swarm.deploys == [["postgres-0", "postgres-1"], ["postgres-0"], ["postgres-0"], ["postgres-1"]]


def test_what_was_left_under_way_is_waited_for(swarm: Swarm, deploy: Deploy, tmp_path: Path) -> None:
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    swarm.bad = {"r:1"}
    assert "not done after 2 s" in deploy()["msg"]
    assert "not done after 2 s" in deploy()["msg"]
    swarm.bad = set()
    done = deploy()
    assert (done["changed"], done["services"]) == (False, {"forum_nginx": "1/1"})
    assert len(swarm.deploys) == 1


def test_a_service_that_nobody_declares_goes_with_its_fragment(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    write(tmp_path, "haproxy", haproxy={"image": "r:1", "secrets": ["word"]})
    swarm.stored["Secrets"] = ["word"]
    deploy()
    told = deploy(expected=["nginx"], check_mode=True)
    assert (told["changed"], told["removed"]) == (True, ["haproxy", "forum_haproxy"])
    assert deploy(expected=["nginx"])["removed"] == ["haproxy", "forum_haproxy", "word"]
    assert list(swarm.held) == ["forum_nginx"]
    assert not (tmp_path / "haproxy.yml").exists()
    assert not deploy(expected=["nginx"])["changed"]


def test_nothing_is_removed_from_a_manager_that_lacks_fragments(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    write(tmp_path, "postgres", postgres={"image": "r:1"})
    deploy()
    (tmp_path / "postgres.yml").unlink()
    done = deploy(expected=["nginx", "postgres"])
    assert not done["changed"]
    assert "lacks the fragments postgres" in done["warnings"][0]
    assert "forum_postgres" in swarm.held


def test_chosen_fragments_leave_the_other_services_alone(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    write(tmp_path, "misago", misago={"image": "r:1"})
    deploy()
    write(tmp_path, "nginx", nginx={"image": "r:2"})
    write(tmp_path, "misago", misago={"image": "r:2"})
    deploy(fragments=["nginx"], expected=["nginx"])
    assert (swarm.image("nginx"), swarm.image("misago")) == ("r:2", "r:1")


def test_secrets_go_when_nothing_needs_them_also_with_chosen_fragments(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    swarm.stored["Secrets"] = ["coming"]
    write(tmp_path, "misago", misago={"image": "r:1", "secrets": ["coming"]})
    removed = []
    for number in (1, 2, 3):
        swarm.stored["Secrets"].append(f"word_{number}")
        write(tmp_path, "nginx", nginx={"image": "r:1", "secrets": [f"word_{number}"]})
        removed.append(deploy(fragments=["nginx"])["removed"])
    assert removed == [[], [], ["word_1"]], "a rollback needs the one before"


def test_an_image_that_no_node_holds_changes_nothing(swarm: Swarm, deploy: Deploy, tmp_path: Path) -> None:
    write(tmp_path, "nginx", nginx={"image": "elsewhere:1"})
    assert "The nodes don't hold elsewhere:1" in deploy()["msg"]
    assert not swarm.deploys


def test_a_swarm_without_a_leader_is_told_with_its_remedy(
    swarm: Swarm, deploy: Deploy, tmp_path: Path
) -> None:
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    swarm.away = "The swarm does not have a leader."
    failed = deploy()
    assert failed["failed"]
    assert "does not have a leader" in failed["msg"]
    assert "more than half of the managers" in failed["msg"]


def test_every_deployed_service_carries_its_mark(swarm: Swarm, deploy: Deploy, tmp_path: Path) -> None:
    write(tmp_path, "nginx", nginx={"image": "r:1"})
    deploy()
    assert set(swarm.held["forum_nginx"]["Spec"]["Labels"]) == {MARK}
