"""Makes the Python of the deployment importable, wherever it lives."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import ansible.module_utils
import pytest
from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[2]

for folder in (ROOT, ROOT / "filter_plugins", ROOT / "library"):
    sys.path.insert(0, str(folder))


# Ansible puts our module_utils beside its own at run time; a unit test does the same.
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))


@pytest.fixture(scope="session")
def collections() -> None:
    """Ansible's own collection, for tests that render as Ansible does; it can be loaded once."""
    init_plugin_loader()


def load_file(path: str | Path) -> ModuleType:
    """The module in a file of the repository that isn't on the path, such as code inside an image.

    path: from the repository's root. Raises FileNotFoundError when there is no such file.
    """
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(file.stem.replace("-", "_"), file)
    if spec is None or spec.loader is None or not file.is_file():
        raise FileNotFoundError(file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
