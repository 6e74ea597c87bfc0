"""Every filter is documented where ansible-doc finds it, and its documentation tells its true arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import load_file

PLUGINS = Path(__file__).resolve().parents[2] / "filter_plugins"


def filters() -> list[tuple[str, Callable[..., object]]]:
    """Name and function of every filter of the repository."""
    found = []
    for path in sorted(PLUGINS.glob("*.py")):
        found += sorted(load_file(path).FilterModule().filters().items())
    return found


@pytest.mark.parametrize(("name", "function"), filters(), ids=[name for name, _ in filters()])
def test_documentation_tells_the_arguments(name: str, function: Callable[..., object]) -> None:
    sidecar = PLUGINS / f"{name}.yml"
    assert sidecar.is_file(), f"filter_plugins/{name}.yml is missing (ansible-doc -t filter {name})"
    content = yaml.safe_load(sidecar.read_text())
    documentation = content["DOCUMENTATION"]
    assert documentation["name"] == name
    assert name in content["EXAMPLES"]
    assert content["RETURN"]["_value"]["description"]
    assert documentation["short_description"]
    parameters = list(inspect.signature(function).parameters.values())
    wanted = [parameter for parameter in parameters[1:] if parameter.kind is not parameter.VAR_POSITIONAL]
    documented = [option for option in documentation["options"] if option != "_input"]
    variable = [parameter.name for parameter in parameters if parameter.kind is parameter.VAR_POSITIONAL]
    assert [option for option in documented if option not in variable] == [
        parameter.name for parameter in wanted
    ]
    for parameter in wanted:
        option = documentation["options"][parameter.name]
        assert bool(option.get("required")) is (parameter.default is parameter.empty), parameter.name


def test_no_documentation_is_left_over() -> None:
    assert {path.stem for path in PLUGINS.glob("*.yml")} <= {name for name, _ in filters()}
