"""Makes the Python of the deployment importable, wherever it lives."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import ansible.module_utils
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

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


Rendered = Callable[[str], str]


@pytest.fixture(scope="session")
def role_renderer(collections: None) -> Callable[..., Rendered]:
    """Makes, for a role and variables, a function that renders a template (NAME.j2) of the role, or an expression.

    What isn't among the variables is as the product and the role's defaults say.
    """

    def renderer(role: str, **given: object) -> Rendered:
        room = ROOT / "roles" / role
        loader = DataLoader()
        variables: dict[str, object] = {"ansible_managed": "Ansible managed", "role_path": str(room)}
        for path in (
            ROOT / "inventories/shared/product.yml",
            room / "defaults/main.yml",
            room / "vars/main.yml",
        ):
            variables |= loader.load_from_file(str(path), trusted_as_template=True)
        # Where a template looks for what it includes.
        loader.set_basedir(str(room / "templates"))
        templar = Templar(loader=loader, variables=variables | given)

        def render(name: str) -> str:
            if not name.endswith(".j2"):
                return str(templar.template(trust_as_template(f"{{{{ ({name}) | to_json }}}}")))
            text = trust_as_template((room / "templates" / name).read_text())
            # As Ansible does it with files.
            return str(templar.template(text, escape_backslashes=False))

        return render

    return renderer
