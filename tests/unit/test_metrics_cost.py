"""What the metrics cost, as scripts/metrics_cost.py adds it up."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "metrics_cost.py"


@pytest.fixture(scope="module")
def cost() -> ModuleType:
    specification = importlib.util.spec_from_file_location("metrics_cost", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["metrics_cost"] = module
    specification.loader.exec_module(module)
    return module


def test_what_was_used_between_two_looks_is_told_per_program_and_per_machine(cost: ModuleType) -> None:
    def program(seconds: float, node: str = "node-1") -> object:
        return cost.Program("telegraf beside redis-0", node, seconds, 20480)

    before = {("node-1", "7"): program(10), ("node-2", "8"): program(0, "node-2")}
    after = {
        ("node-1", "7"): program(10.4),
        ("node-2", "8"): program(0.8, "node-2"),
        # One that was started in between has nothing to be compared with.
        ("node-2", "9"): program(5, "node-2"),
    }
    rows = [row.split() for row in cost.costs(before, after, 40)]
    assert ["telegraf", "beside", "redis-0", "2", "1.50", "20.0"] in rows
    assert ["node-1", "1.00", "20.0"] in rows
    assert ["node-2", "2.00", "20.0"] in rows


def test_a_distribution_is_told_by_its_steps(cost: ModuleType) -> None:
    assert cost.told("with", [float(value) for value in range(1, 101)]).split() == [
        "with", "100", "50.5", "75.8", "96.0", "100.0"
    ]  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], str]:
    """A machine of this one's processes, on which only pgrep and systemctl pretend."""
    (tmp_path / "pgrep").write_text(f"#!/bin/sh\n[ $1 != -x ] || echo {os.getpid()} 4194304\n")
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho 0\n")
    for program in tmp_path.iterdir():
        program.chmod(0o755)

    def run(script: str) -> str:
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=path, check=False)
        return done.stdout + done.stderr

    return run


def test_a_program_that_ended_meanwhile_is_not_told(cost: ModuleType, machine: Callable[[str], str]) -> None:
    node = SimpleNamespace(name="node-1", run=machine)
    ((key, program),) = cost.look([node]).items()
    assert key == ("node-1", str(os.getpid()))
    assert program.name == "telegraf beside "
    assert program.kilobytes > 1000


def test_what_was_stopped_goes_on_also_when_stopping_fails(
    cost: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []

    def signal(_: object, name: str) -> None:
        sent.append(name)
        if name == "STOP":
            raise TimeoutError

    for name in ("read_lab", "Browser", "Visitor", "new_account", "look", "read", "costs"):
        monkeypatch.setattr(cost, name, MagicMock(return_value=MagicMock()))
    monkeypatch.setattr(cost, "signal", signal)
    monkeypatch.setattr(sys, "argv", ["metrics_cost.py"])
    with pytest.raises(TimeoutError):
        cost.main()
    assert sent == ["STOP", "CONT"]
