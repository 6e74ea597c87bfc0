"""A directory holds exactly what it is given, whatever was there before."""

from __future__ import annotations

import pytest
from role_lab import Run
from testinfra.host import Host

HOME = "/opt/trial-directory"
COMPARED = "changed: [monitor]"
LIST = f"cd {HOME} && find . -printf '%M %u:%g %p\\n' | sort -k 3"
WHOLE = """\
drwxr-xr-x root:root .
drwxr-xr-x root:root ./program
-rw-r--r-- root:root ./program/module.py
drwxr-xr-x root:root ./program/parts
-rw-r--r-- root:root ./program/parts/text.txt
-rw-r--r-- root:root ./program/settings.json
drwxr-x--- root:games ./rules
-rw-r----- root:games ./rules/one.yaml"""


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


def test_it_holds_what_it_is_given_word_by_word(monitor: Host) -> None:
    assert monitor.check_output(LIST) == WHOLE
    assert monitor.file(f"{HOME}/program/parts/text.txt").content_string == "A text with {{ braces }}.\n"
    assert monitor.file(f"{HOME}/program/settings.json").content_string == '{"a": "b"}\n'


@pytest.mark.parametrize(
    "damage",
    [
        "echo x >> program/module.py",
        "rm program/parts/text.txt",
        "rm -r program/parts",
        "rm -r program",
        "chmod 777 program/parts",
        "chown games rules/one.yaml",
        "chmod 644 rules/one.yaml",
        "echo x > program/.hidden",
        "mkdir -p program/old/er && echo x > program/old/er/module.py",
        "ln -s /etc/shadow program/link",
        "mv program/module.py rules/ && ln -s ../rules/module.py program/module.py",
    ],
)
def test_whatever_differs_is_told_of_and_mended(ansible: Run, monitor: Host, damage: str) -> None:
    monitor.check_output(f"cd {HOME} && {damage}")
    damaged = monitor.check_output(LIST)
    dry = ansible("converge.yml", "--check", "--diff")
    assert dry.returncode == 0, dry.stdout
    assert COMPARED in dry.stdout
    assert monitor.check_output(LIST) == damaged
    mended = ansible("converge.yml")
    assert mended.returncode == 0, mended.stdout
    assert COMPARED in mended.stdout
    assert monitor.check_output(LIST) == WHOLE
    assert COMPARED not in ansible("converge.yml").stdout


def test_what_is_somebody_else_s_stays(ansible: Run, monitor: Host) -> None:
    monitor.check_output(f"echo x > {HOME}/program/cache")
    same = ansible("converge.yml")
    assert same.returncode == 0, same.stdout
    assert COMPARED not in same.stdout
    assert monitor.file(f"{HOME}/program/cache").exists
    monitor.check_output(f"rm {HOME}/program/cache")


def test_another_text_is_written(ansible: Run, monitor: Host) -> None:
    try:
        assert ansible("converge.yml", trial_setting="c").returncode == 0
        assert monitor.file(f"{HOME}/program/settings.json").content_string == '{"a": "c"}\n'
    finally:
        assert ansible("converge.yml").returncode == 0


def test_nothing_at_all_is_taken_for_a_mistake(ansible: Run, monitor: Host) -> None:
    refused = ansible(
        "converge.yml", '--extra-vars={"trial_patterns": ["*.nothing"], "exact_directory_contents": {}}'
    )
    assert refused.returncode != 0
    assert "Nothing is wanted in" in refused.stdout
    assert monitor.check_output(LIST) == WHOLE
