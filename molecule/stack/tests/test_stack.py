"""A stack is deployed and seen through."""

from __future__ import annotations

import json

from role_lab import Run, Swarm, words

SERVICE = "trial_parrot"
JOB = "trial_once"
OTHER = ["sh", "-c", "echo another; while sleep 1; do :; done"]
FAILING = ["sh", "-c", "echo no seeds left >&2; exit 3"]


def states(swarm: Swarm) -> list[str]:
    """States of the tasks that should run."""
    command = f"docker service ps --filter desired-state=running --format '{{{{.CurrentState}}}}' {SERVICE}"
    return [line.split()[0] for line in swarm.manager.check_output(command).splitlines()]


def specification(swarm: Swarm, service: str = SERVICE) -> str:
    """What a service runs with."""
    return json.dumps(swarm.inspect("service", service)[0]["Spec"]["TaskTemplate"]["ContainerSpec"])


def runs(swarm: Swarm) -> int:
    """How often the job was begun."""
    return int(
        swarm.inspect("service", JOB)[0]["Spec"]["TaskTemplate"]["ContainerSpec"]["Labels"]["forum.run"]
    )


def converge(ansible: Run, **variables: object) -> str:
    """Converge; it must succeed. Returns what was printed, without line breaks."""
    done = ansible("converge.yml", **variables)
    assert done.returncode == 0, done.stdout
    return words(done.stdout)


def trial(swarm: Swarm, kind: str) -> list[str]:
    return [name for name in swarm.names(kind) if name.startswith("trial_")]


def test_every_task_runs_when_the_role_is_done(swarm: Swarm) -> None:
    assert states(swarm) == ["Running", "Running"]


def test_only_the_edge_has_a_way_out(swarm: Swarm) -> None:
    networks = swarm.inspect("network", *trial(swarm, "network"))
    assert {network["Name"]: network["Internal"] for network in networks} == {
        "trial_redis": True,
        "trial_postgres": True,
        "trial_misago": True,
        "trial_edge": False,
    }
    assert {network["Driver"] for network in networks} == {"overlay"}
    assert {network["Scope"] for network in networks} == {"swarm"}


def test_a_rollout_that_fails_is_told_with_its_cause_and_rolled_back(ansible: Run, swarm: Swarm) -> None:
    before = specification(swarm)

    failed = ansible("converge.yml", trial_command=FAILING)

    assert failed.returncode != 0
    told = words(failed.stdout)
    assert f"The rollout of trial failed: {SERVICE}" in told
    assert "non-zero exit (3)" in told
    assert "no seeds left" in told
    assert specification(swarm) == before, "the swarm went back to what ran"


def test_the_reverted_version_is_brought_and_then_nothing_is_left_to_do(ansible: Run, swarm: Swarm) -> None:
    converge(ansible)
    assert states(swarm) == ["Running", "Running"]
    update = swarm.inspect("service", SERVICE)[0].get("UpdateStatus", {})
    assert "rollback" not in update.get("State", "")
    assert "changed=0" in converge(ansible)


def test_what_an_operator_rolled_back_is_brought_again(ansible: Run, swarm: Swarm) -> None:
    before = specification(swarm)
    converge(ansible, trial_command=OTHER)
    wanted = specification(swarm)
    assert wanted != before

    swarm.manager.check_output(f"docker service rollback --quiet {SERVICE}")
    assert specification(swarm) == before

    converge(ansible, trial_command=OTHER)
    assert specification(swarm) == wanted
    assert states(swarm) == ["Running", "Running"]


def test_a_job_runs_once_however_often_the_rest_is_deployed(ansible: Run, swarm: Swarm) -> None:
    before, rollback = runs(swarm), swarm.inspect("service", JOB)[0].get("PreviousSpec")
    converge(ansible, trial_command=OTHER)
    converge(ansible)
    assert runs(swarm) == before
    assert swarm.inspect("service", JOB)[0].get("PreviousSpec") == rollback


def test_a_job_that_fails_is_told_and_run_again(ansible: Run, swarm: Swarm) -> None:
    before = runs(swarm)
    for attempt in (1, 2):
        failed = ansible("converge.yml", trial_job_command=FAILING)
        assert failed.returncode != 0
        assert f"{JOB} 0/1: the job failed" in words(failed.stdout)
        assert "no seeds left" in failed.stdout
        assert runs(swarm) == before + attempt
    converge(ansible)
    assert runs(swarm) == before + 3
    assert "changed=0" in converge(ansible)


def test_the_second_member_is_spared_what_the_first_one_fails_with(ansible: Run, swarm: Swarm) -> None:
    before = [specification(swarm, f"trial_pair-{number}") for number in range(2)]
    index = swarm.inspect("service", "trial_pair-1")[0]["Version"]["Index"]

    failed = ansible("converge.yml", trial_pair_command=FAILING)

    assert failed.returncode != 0
    told = words(failed.stdout)
    assert "The rollout of trial failed: trial_pair-0" in told
    assert "trial_pair-1" not in told
    assert [specification(swarm, f"trial_pair-{number}") for number in range(2)] == before
    assert swarm.inspect("service", "trial_pair-1")[0]["Version"]["Index"] == index
    converge(ansible)


def test_what_belongs_to_the_stack_no_more_goes(ansible: Run, swarm: Swarm) -> None:
    fragment = swarm.manager.file("/etc/trial/stack.d/once.yml")
    dry = ansible("converge.yml", "--check", trial_fragments=["parrot", "pair"])
    assert "changed=1 " in words(dry.stdout), dry.stdout
    assert JOB in swarm.names("service")

    converge(ansible, trial_fragments=["parrot", "pair"])
    assert JOB not in swarm.names("service")
    assert not fragment.exists
    assert "changed=0" in converge(ansible, trial_fragments=["parrot", "pair"])
    converge(ansible)
    assert JOB in swarm.names("service")


def test_the_next_run_goes_on_and_what_nothing_uses_is_removed(ansible: Run, swarm: Swarm) -> None:
    assert trial(swarm, "secret") == ["trial_word_first"]

    second = ansible("converge.yml", trial_secret="second")  # noqa: S106
    assert second.returncode == 0, second.stdout
    assert trial(swarm, "secret") == ["trial_word_first", "trial_word_second"], "a rollback needs the first"

    third = ansible("converge.yml", trial_secret="third")  # noqa: S106
    assert third.returncode == 0, third.stdout
    assert trial(swarm, "secret") == ["trial_word_second", "trial_word_third"]
    assert states(swarm) == ["Running", "Running"]


def test_an_image_that_no_node_holds_is_named_and_the_stack_stays(ansible: Run, swarm: Swarm) -> None:
    before = specification(swarm)
    refused = ansible("converge.yml", trial_image="198.51.100.7:5000/forum/parrot:1", trial_secret="third")  # noqa: S106
    assert refused.returncode != 0
    assert "The nodes don't hold 198.51.100.7:5000/forum/parrot:1" in words(refused.stdout)
    assert specification(swarm) == before
