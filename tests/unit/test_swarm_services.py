"""How far a rollout is, judged from what the swarm says."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.swarm_services import (
    progress,
    reason_to_deploy,
    remedy,
    run_of,
    used_names,
    wanted_tasks,
)


def service(
    mode: dict[str, Any] | None = None,
    update: dict[str, str] | None = None,
    restart: str = "any",
    **extra: Any,
) -> dict[str, Any]:
    made = {
        "Spec": {
            "Name": "forum_nginx",
            "Mode": mode or {"Replicated": {"Replicas": 2}},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "r/nginx:2"},
                "RestartPolicy": {"Condition": restart},
            },
        },
        **extra,
    }
    if update:
        made["UpdateStatus"] = update
    return made


def task(state: str, image: str = "r/nginx:2", **extra: Any) -> dict[str, Any]:
    status = {"State": state, "Timestamp": "2026-01-01T00:00:00Z", **extra.pop("status", {})}
    return {"Status": status, "Spec": {"ContainerSpec": {"Image": image}}, **extra}


def test_all_wanted_tasks_of_the_newest_version_run() -> None:
    state = progress(service(), [task("running"), task("running"), task("shutdown", "r/nginx:1")], 3)
    assert state.done
    assert str(state) == "forum_nginx 2/2"


def test_tasks_of_the_old_version_do_not_count() -> None:
    state = progress(service(), [task("running"), task("running", "r/nginx:1")], 3)
    assert (state.running, state.wanted, state.done) == (1, 2, False)


def test_an_image_pinned_by_digest_is_the_same_image() -> None:
    assert progress(service(), [task("running", "r/nginx:2@sha256:ab")] * 2, 3).done


def test_a_rollout_under_way_is_not_done() -> None:
    assert not progress(service(update={"State": "updating"}), [task("running"), task("running")], 3).done


def test_a_rollback_tells_what_became_of_the_version_that_is_gone() -> None:
    update = {"State": "rollback_started", "Message": "rolled back", "StartedAt": "2026-01-01T00:00:00Z"}
    before = {"Err": "task: non-zero exit (9)", "Timestamp": "2025-12-31T00:00:00Z"}
    tasks = [
        task("running"),
        task("failed", "r/nginx:3", status={"Err": "task: non-zero exit (1)"}),
        task("failed", "r/nginx:1", status=before),
    ]
    told = str(progress(service(update=update), tasks, 3))
    assert "non-zero exit (1)" in told
    assert "non-zero exit (9)" not in told


def test_a_rollback_is_a_fault_and_says_why() -> None:
    state = progress(
        service(update={"State": "rollback_completed", "Message": "update rolled back"}),
        [task("failed", status={"Err": "task: non-zero exit (1)"})],
        3,
    )
    assert not state.done
    assert "rollback completed: update rolled back" in str(state)
    assert "non-zero exit (1)" in str(state)


def test_a_task_that_finds_no_node_says_so() -> None:
    state = progress(service(), [task("pending", status={"Err": "no suitable node"})], 3)
    assert "no suitable node" in str(state)


def job(run: int = 7) -> dict[str, Any]:
    """A service of one task that is never restarted, in its run of that number."""
    made = labelled("new", mode={"Replicated": {"Replicas": 1}}, restart="none")
    made["Spec"]["TaskTemplate"]["ContainerSpec"]["Labels"] = {"forum.run": str(run)}
    return made


def job_task(state: str, run: int = 7, **extra: Any) -> dict[str, Any]:
    made = task(state, **extra)
    made["Spec"]["ContainerSpec"]["Labels"] = {"forum.run": str(run)}
    return made


def test_a_job_is_done_when_it_ended_well() -> None:
    assert progress(job(), [job_task("complete", DesiredState="shutdown")], 3).done
    assert not progress(job(), [job_task("running", DesiredState="running")], 3).done
    assert not progress(job(), [job_task("complete", run=6)], 3).done, "that was the run before"


def test_a_job_that_failed_is_a_fault() -> None:
    failed = job_task("failed", status={"Err": "task: non-zero exit (1)"})
    assert progress(job(), [failed], 3).fault == "the job failed"


def test_a_job_whose_node_is_gone_is_a_fault() -> None:
    assert progress(job(), [job_task("running", DesiredState="shutdown")], 3).fault == "the job failed"


def test_the_runs_of_a_job_are_counted() -> None:
    assert (run_of(None), run_of(service()), run_of(job(3))) == (0, 0, 3)


def test_a_global_service_wants_a_task_per_node() -> None:
    assert wanted_tasks(service({"Global": {}}), 3) == 3


def test_what_a_rollback_would_need_is_in_use() -> None:
    now = service()
    now["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"] = [{"SecretName": "new"}]
    before = {"TaskTemplate": {"ContainerSpec": {"Secrets": [{"SecretName": "old"}]}}}
    assert used_names([{**now, "PreviousSpec": before}], "Secrets") == {"new", "old"}
    assert used_names([now], "Configs") == set()


def labelled(value: str, **extra: Any) -> dict[str, Any]:
    made = service(**extra)
    made["Spec"]["Labels"] = {"forum.definition": value}
    return made


def reason(held: dict[str, Any] | None, *tasks: dict[str, Any]) -> str:
    return str(reason_to_deploy(held, tasks, "forum.definition", "new"))


def test_what_the_swarm_holds_as_wanted_is_left_alone() -> None:
    assert reason(labelled("new")) == ""
    assert reason(labelled("new", update={"State": "updating"})) == "", "it is on its way"
    assert reason(labelled("new", update={"State": "completed"})) == ""


def test_what_is_missing_or_unlike_is_deployed() -> None:
    assert reason(None) == "is missing"
    assert reason(service()) == "has another definition", "deployed by hand"
    assert reason(labelled("old")) == "has another definition"


@pytest.mark.parametrize("state", ["paused", "rollback_started", "rollback_paused", "rollback_completed"])
def test_a_rollout_that_ended_badly_is_done_again(state: str) -> None:
    assert reason(labelled("new", update={"State": state})) == state.replace("_", " ")


def test_a_job_is_run_again_only_when_its_last_run_failed() -> None:
    assert reason(job(), job_task("failed")) == "the job failed"
    assert reason(job(), job_task("complete")) == ""
    assert reason(job(), job_task("running")) == "", "it is on its way"
    assert reason(job(), job_task("failed", run=6), job_task("complete")) == ""
    assert reason(job(), job_task("complete", run=6)) == "has no run to show"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            "rpc error: code = Unknown desc = The swarm does not have a leader.",
            "more than half of the managers",
        ),
        ("This node is not a swarm manager. Use docker swarm init", "on a manager"),
        ("('Connection aborted.', PermissionError(13, 'Permission denied'))", "as root"),
        (
            "('Connection aborted.', FileNotFoundError(2, 'No such file or directory'))",
            "systemctl status docker",
        ),
        ("Error response from daemon: something new", "journalctl -u docker"),
    ],
)
def test_an_error_comes_with_its_remedy(error: str, advice: str) -> None:
    assert advice in remedy(error)
