"""A real service takes steps on a real swarm."""

from __future__ import annotations

import json
import time
from typing import Any

from role_lab import MANAGERS, Swarm

SERVICE = "trial_parrot"


def step(swarm: Swarm, by: int, *options: str, manager: str = MANAGERS[0]) -> dict[str, Any]:
    """What the program tells."""
    words = ("forum-scale", "parrot", str(by), *options)
    told = swarm.machines[manager].check_output(" ".join(["%s"] * len(words)), *words)
    return dict(json.loads(told))


def service(swarm: Swarm) -> dict[str, Any]:
    return swarm.inspect("service", SERVICE)[0]


def tasks(swarm: Swarm) -> list[str]:
    """The tasks that should run, with their states."""
    form = "'{{.ID}} {{.CurrentState}}'"
    shown = swarm.manager.check_output(
        f"docker service ps --filter desired-state=running --format {form} {SERVICE}"
    )
    return sorted(str(shown).splitlines())


def until_they_run(swarm: Swarm, count: int) -> None:
    for _ in range(60):
        if len(told := tasks(swarm)) == count and all("Running" in line for line in told):
            # What is to go is gone.
            time.sleep(3)
            return
        time.sleep(1)
    raise AssertionError(told)


def test_a_step_up_leaves_what_runs_alone_and_the_next_is_too_soon(swarm: Swarm) -> None:
    until_they_run(swarm, 1)
    (first,) = (line.split()[0] for line in tasks(swarm))
    before = service(swarm)
    told = step(swarm, 1, "--action", "a1")
    assert told == {
        "service": "parrot", "before": 1, "wanted": 2, "changed": True, "repeated": False, "refused": "",
    }  # fmt: skip
    until_they_run(swarm, 2)
    assert first in {line.split()[0] for line in tasks(swarm)}
    after = service(swarm)
    assert after["Spec"]["TaskTemplate"] == before["Spec"]["TaskTemplate"]
    assert after["Spec"]["Mode"]["Replicated"]["Replicas"] == 2
    # Of another manager, which knows the step by its name.
    assert step(swarm, 1, "--action", "a1", manager=MANAGERS[1])["repeated"]
    assert "may have 1 to 2" in step(swarm, 1)["refused"]
    assert "it was changed" in step(swarm, -1)["refused"]


def test_an_old_step_lets_the_next_be_taken(swarm: Swarm) -> None:
    # A settings file with no pause, as if it were long ago; the role brings its own back.
    swarm.manager.check_output('sed -i.bak \'s/"cooldown": [0-9]*/"cooldown": 0/\' /etc/swarm-scaler.json')
    try:
        assert step(swarm, -1, "--dry")["changed"]
        assert service(swarm)["Spec"]["Mode"]["Replicated"]["Replicas"] == 2
        assert step(swarm, -1)["wanted"] == 1
    finally:
        swarm.manager.check_output("mv /etc/swarm-scaler.json.bak /etc/swarm-scaler.json")
    until_they_run(swarm, 1)
    # Up wins over down.
    assert step(swarm, 1)["wanted"] == 2


def test_what_can_not_be_asked_is_told(swarm: Swarm) -> None:
    gone = swarm.manager.run("forum-scale nothing 1")
    assert gone.rc == 1
    assert json.loads(gone.stdout) == {"error": "the stack trial has no service nothing"}
    wrong = swarm.manager.run("forum-scale %s 1", "parrot; reboot")
    assert wrong.rc == 2
    assert "is no name of a service" in json.loads(wrong.stdout)["error"]
