"""A stack is deployed and seen through."""

from __future__ import annotations

import json

from role_lab import Run, Swarm, words

SERVICE = "trial_parrot"


def states(swarm: Swarm) -> list[str]:
    """States of the tasks that should run."""
    command = f"docker service ps --filter desired-state=running --format '{{{{.CurrentState}}}}' {SERVICE}"
    return [line.split()[0] for line in swarm.manager.check_output(command).splitlines()]


def specification(swarm: Swarm) -> str:
    """What the service runs with."""
    return json.dumps(swarm.inspect("service", SERVICE)[0]["Spec"]["TaskTemplate"]["ContainerSpec"])


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

    failed = ansible("converge.yml", trial_command=["sh", "-c", "echo no seeds left >&2; exit 3"])

    assert failed.returncode != 0
    told = words(failed.stdout)
    assert f"The rollout of trial failed: {SERVICE}" in told
    assert "non-zero exit (3)" in told
    assert "no seeds left" in told
    assert specification(swarm) == before, "the swarm went back to what ran"


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
