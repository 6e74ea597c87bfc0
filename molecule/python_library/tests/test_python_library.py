"""Python packages in a virtual environment of their own, on a machine without a way to where they come from."""

from __future__ import annotations

import pytest
from role_lab import Run
from testinfra.host import Host

VERSION = "/opt/trial-library/venv/bin/python -c 'import toolz; print(toolz.__version__)'"
INSTALLED = "/opt/trial-library/venv/requirements.txt"
COMPARED = "changed: [monitor]"


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


def test_the_wanted_release_is_there_beside_debian_s_packages(monitor: Host) -> None:
    assert monitor.check_output(VERSION) == "1.0.0"
    assert monitor.run("/opt/trial-library/venv/bin/python -c 'import packaging'").rc == 0


def test_another_release_takes_its_place_and_is_told_of_before(ansible: Run, monitor: Host) -> None:
    try:
        dry = ansible("converge.yml", "--check", trial_requirements="older.txt")
        assert dry.returncode == 0, dry.stdout
        assert COMPARED in dry.stdout
        assert monitor.check_output(VERSION) == "1.0.0"
        assert ansible("converge.yml", trial_requirements="older.txt").returncode == 0
        assert monitor.check_output(VERSION) == "0.12.1"
        assert COMPARED not in ansible("converge.yml", trial_requirements="older.txt").stdout
    finally:
        assert ansible("converge.yml").returncode == 0
    assert monitor.check_output(VERSION) == "1.0.0"


@pytest.mark.parametrize("lost", [INSTALLED, "/opt/trial-library/venv"])
def test_an_interrupted_or_lost_installation_is_made_again(ansible: Run, monitor: Host, lost: str) -> None:
    monitor.check_output(f"rm -r {lost}")
    again = ansible("converge.yml")
    assert again.returncode == 0, again.stdout
    assert COMPARED in again.stdout
    assert monitor.check_output(VERSION) == "1.0.0"


def test_another_file_than_the_one_that_was_judged_is_refused(ansible: Run, monitor: Host) -> None:
    refused = ansible("converge.yml", trial_requirements="forged.txt")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stdout
    assert monitor.check_output(VERSION) == "1.0.0"
