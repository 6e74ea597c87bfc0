"""A daemon takes up its configuration, whenever it was written, one machine after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from role_lab import MANAGERS, Run, process, words
from testinfra.host import Host

UNIT = "trial-daemon.service"
CONFIGURATION = "/etc/trial-daemon.conf"


def processes(machines: dict[str, Host]) -> dict[str, str]:
    """Machine -> the daemon's process there."""
    return {name: process(machines[name], UNIT) for name in MANAGERS}


def test_it_runs_and_starts_with_the_machine(machines: dict[str, Host]) -> None:
    for name in MANAGERS:
        assert machines[name].service(UNIT).is_running
        assert machines[name].service(UNIT).is_enabled


def test_a_restart_that_an_earlier_run_left_out_is_made_up_for_once(
    ansible: Run, machines: dict[str, Host]
) -> None:
    before = processes(machines)
    machines["node-2"].check_output("touch %s", CONFIGURATION)

    dry = ansible("converge.yml", "--check")
    assert dry.returncode == 0, dry.stdout
    assert dry.stdout.count("changed=1") == 1, dry.stdout
    assert processes(machines) == before, "a dry run restarts nothing"

    made_up = ansible("converge.yml")
    assert made_up.returncode == 0, made_up.stdout
    now = processes(machines)
    assert [name for name in MANAGERS if now[name] != before[name]] == ["node-2"]

    again = ansible("converge.yml")
    assert again.stdout.count("changed=0") == len(MANAGERS), again.stdout
    assert processes(machines) == now


def test_a_dry_run_tells_what_a_change_of_this_run_would_do(ansible: Run, machines: dict[str, Host]) -> None:
    before = processes(machines)
    dry = ansible("converge.yml", "--check", daemon_configured=True)
    assert dry.returncode == 0, dry.stdout
    assert dry.stdout.count("changed=1") == len(MANAGERS), dry.stdout
    assert processes(machines) == before


def test_a_reload_keeps_the_process_and_happens_once(ansible: Run, machines: dict[str, Host]) -> None:
    before = processes(machines)
    machines["node-3"].check_output("touch %s", CONFIGURATION)
    reloaded = ansible("converge.yml", daemon_change="reloaded")
    assert reloaded.returncode == 0, reloaded.stdout
    assert reloaded.stdout.count("changed=1") == 1, reloaded.stdout
    assert processes(machines) == before
    again = ansible("converge.yml", daemon_change="reloaded")
    assert again.stdout.count("changed=0") == len(MANAGERS), again.stdout


@pytest.mark.parametrize("state", ["start", "stop"])
def test_a_unit_that_systemd_has_not_read_yet_is_read(
    ansible: Run, machines: dict[str, Host], state: str
) -> None:
    # What was reloaded before may run with less than what is on the disk.
    assert ansible("converge.yml").returncode == 0
    node = machines["node-1"]
    unit, needed = f"/etc/systemd/system/{UNIT}", f"systemctl show --value -p NeedDaemonReload {UNIT}"
    node.check_output(f"systemctl {state} {UNIT} && sed -i '/^Environment=TRIAL/d' {unit}")
    node.check_output(f"sed -i 's/^\\[Service\\]/&\\nEnvironment=TRIAL={state}/' {unit}")
    assert node.check_output(needed) == "yes"

    made = ansible("converge.yml", daemon_files=[CONFIGURATION, unit])
    assert made.returncode == 0, made.stdout
    assert made.stdout.count("changed=1") == 1, made.stdout
    assert node.check_output(needed) == "no"
    environment = node.check_output(f"tr '\\0' '\\n' </proc/{process(node, UNIT)}/environ")
    assert f"TRIAL={state}" in environment.splitlines()
    assert ansible("converge.yml", daemon_files=[CONFIGURATION, unit]).stdout.count("changed=0") == len(
        MANAGERS
    )


@pytest.mark.parametrize("command", ["stop", "disable", "disable --now"])
def test_one_that_was_stopped_or_would_not_start_with_the_machine_is_brought_back(
    ansible: Run, machines: dict[str, Host], command: str
) -> None:
    before = processes(machines)
    machines["node-2"].check_output(f"systemctl {command} {UNIT}")
    dry = ansible("converge.yml", "--check")
    assert dry.stdout.count("changed=1") == 1, dry.stdout
    made = ansible("converge.yml")
    assert made.stdout.count("changed=1") == 1, made.stdout
    assert machines["node-2"].service(UNIT).is_running
    assert machines["node-2"].service(UNIT).is_enabled
    now = processes(machines)
    assert (now["node-2"] == before["node-2"]) == (command == "disable")
    assert [now[name] for name in ("node-1", "node-3")] == [before[name] for name in ("node-1", "node-3")]


@pytest.fixture
def never_ready(tmp_path: Path) -> Path:
    script = tmp_path / "ready.sh"
    script.write_text("#!/bin/sh\necho it is not ready yet\nexit 1\n")
    return script


def test_a_machine_that_does_not_come_back_ends_the_run_and_the_others_go_on(
    ansible: Run, machines: dict[str, Host], never_ready: Path
) -> None:
    before = processes(machines)
    for name in MANAGERS:
        machines[name].check_output("touch %s", CONFIGURATION)

    refused = ansible("converge.yml", daemon_ready=str(never_ready), daemon_ready_seconds=5)

    assert refused.returncode != 0
    assert "it is not ready yet" in words(refused.stdout)
    now = processes(machines)
    (restarted,) = [name for name in MANAGERS if now[name] != before[name]]

    rest = ansible("converge.yml")
    assert rest.returncode == 0, rest.stdout
    last = processes(machines)
    assert [name for name in MANAGERS if last[name] == before[name]] == []
    assert last[restarted] == now[restarted], "it has its configuration already"


def test_a_dry_run_on_a_new_system_tells_what_would_start(ansible: Run) -> None:
    new = {"daemon_unit": "new-daemon.service", "daemon_files": ["/etc/new-daemon.conf"]}
    dry = ansible("converge.yml", "--check", daemon_configured=True, **new)
    assert dry.returncode == 0, dry.stdout
    assert dry.stdout.count("changed=1") == len(MANAGERS), dry.stdout
    missing = ansible("converge.yml", **new)
    assert missing.returncode != 0
    assert "Could not find the requested service new-daemon.service" in missing.stdout
