"""Filters that judge the dashboards' descriptions, and write them in Chronograf's words."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

_ROOT = Path(__file__).parents[1]
# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(_ROOT / "module_utils"))

from dashboards import level_errors  # noqa: E402 - only now on the path

_SCHEMA = _ROOT / "module_utils" / "dashboards.schema.json"
_WORDS = _ROOT / "inventories" / "shared" / "sla.schema.json"


@functools.cache
def _validator() -> Draft202012Validator:
    """The schema of a description; what it shares with sla.yml is defined there."""
    schema, words = json.loads(_SCHEMA.read_text()), json.loads(_WORDS.read_text())
    return Draft202012Validator({**schema, "$defs": {**words["$defs"], **schema["$defs"]}})


def _plain(value: object) -> Any:
    """The value without what Ansible hangs onto it: a copy of that is a copy of all variables."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def dashboard_errors(description: object, levels: list[dict[str, Any]]) -> list[str]:
    """Everything that is wrong with a dashboard's description.

    description: the content of a dashboard.yml. levels: the list of sla.yml, which service_level_errors judges.
    Returns sentences, each with the dashboard's name: what violates dashboards.schema.json; if nothing does,
    indicators that sla.yml hasn't or that are read from a log, and panels of several units. Raises nothing.
    """
    given = _plain(description)
    named = isinstance(given, dict) and isinstance(given.get("name"), str)
    where = f"the dashboard {given['name']}" if named else "a dashboard"
    errors = [
        f"{'/'.join(map(str, error.absolute_path)) or 'it'}: {error.message}"
        for error in _validator().iter_errors(given)
    ]
    return [f"{where}: {error}" for error in errors or level_errors(given, _plain(levels))]


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"dashboard_errors": dashboard_errors}
