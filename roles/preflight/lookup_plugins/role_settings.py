"""A lookup that tells what the roles will see, before any of them runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.template import trust_as_template

DOCUMENTATION = """
name: role_settings
author: Misago on a swarm
version_added: "1.0.0"
short_description: What the roles will see, before any of them runs
description:
  - Lays the roles' defaults below the host's variables, as Ansible does when a role runs, and renders what is
    asked for.
  - What can't be rendered doesn't stop it, but is listed.
options:
  _terms:
    description: Regular expressions; every option of the roles whose whole name matches is rendered.
    type: list
    elements: str
  roles_path:
    description: Directory of the roles.
    type: path
    required: true
  services:
    description:
      - Whether to render the roles' services (C(templates/service*.yml.j2)) and to tell their specifications, too.
    type: bool
    default: false
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('role_settings', '.*_source', roles_path='roles').settings }}"
"""

RETURN = """
_raw:
  description: One dictionary.
  type: list
  elements: dict
  contains:
    names:
      description: The host's own variables, without Ansible's and such that begin with an underscore.
      type: list
      elements: str
    given:
      description: Those of the host's own variables that a role knows, rendered.
      type: dict
    settings:
      description: The options asked for, rendered, from the host's variables or the role's defaults.
      type: dict
    services:
      description: The roles' services by name.
      type: dict
    specifications:
      description: Role to the content of its argument_specs; empty unless O(services).
      type: dict
    problems:
      description: One sentence for each value or template that can't be rendered.
      type: list
      elements: str
"""

_PLACEHOLDER = "x" * 32


class LookupModule(LookupBase):  # type: ignore[misc]
    """The lookup role_settings."""

    def run(
        self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Look at the roles with the variables of one host.

        terms: regular expressions for the names of options. Returns one dictionary as described in RETURN.
        Raises AnsibleLookupError when there is no role, and for YAML that can't be read.
        """
        self.set_options(var_options=variables, direct=kwargs)
        own = dict(variables or {})
        roles = sorted(
            path for path in Path(self.get_option("roles_path")).resolve().iterdir() if path.is_dir()
        )
        if not roles:
            raise AnsibleLookupError(f"there is no role in {self.get_option('roles_path')}")
        specifications: dict[str, Any] = {}
        defaults: dict[str, Any] = {}
        for role in roles:
            specifications[role.name] = _specification(role)
            defaults.update(self._defaults(role))
        options = {
            name: option or {}
            for entries in specifications.values()
            for entry in entries.values()
            for name, option in ((entry or {}).get("options") or {}).items()
        }
        # What is missing is judged elsewhere, and must not break what depends on it.
        placeholders = {name: _PLACEHOLDER for name, option in options.items() if option.get("required")}
        everything = {**placeholders, **defaults, **own}
        problems: list[str] = []
        wanted = [name for name in options if any(re.fullmatch(term, name) for term in terms)]
        given = self._render(
            {name: own[name] for name in sorted(options) if name in own}, everything, problems
        )
        settings = self._render(
            {name: everything[name] for name in wanted if name in {**defaults, **own}}, everything, problems
        )
        services: dict[str, Any] = {}
        if self.get_option("services"):
            for role in roles:
                services.update(self._services(role, everything, problems))
        return [
            {
                "names": sorted(name for name in own if not name.startswith(("_", "ansible_"))),
                "given": given,
                "settings": settings,
                "services": services,
                "specifications": specifications if self.get_option("services") else {},
                "problems": list(dict.fromkeys(problems)),
            }
        ]

    def _defaults(self, role: Path) -> dict[str, Any]:
        """A role's defaults, as templates."""
        path = role / "defaults" / "main.yml"
        if not path.is_file():
            return {}
        # unsafe: as it is, not a copy, which takes twice as long as to read it.
        loaded = self._loader.load_from_file(str(path), cache="none", unsafe=True, trusted_as_template=True)
        return dict(loaded or {})

    def _template(self, text: Any, variables: Mapping[str, Any]) -> Any:
        """A text or a structure of texts, rendered with other variables than the current ones."""
        return self._templar.copy_with_new_env(available_variables=dict(variables)).template(text)

    def _render(
        self, values: Mapping[str, Any], variables: Mapping[str, Any], problems: list[str]
    ) -> dict[str, Any]:
        """The values rendered; those that can't be become problems."""
        rendered = {}
        for name, value in values.items():
            try:
                rendered[name] = self._template(value, variables)
            except AnsibleError as error:
                problems.append(f"{name} can't be rendered: {_reason(error)}: correct it in the inventory")
        return rendered

    def _services(
        self, role: Path, variables: Mapping[str, Any], problems: list[str]
    ) -> Iterator[tuple[str, Any]]:
        """The services of a role, by name, without what only a deployment can know."""
        known = {
            **variables,
            "role_name": role.name,
            "role_path": str(role),
            "component_name": role.name,
            "component_image": "image",
            "component_secret_names": {},
            "component_config_names": {},
        }
        for template in sorted((role / "templates").glob("*service*.yml.j2")):
            expression = trust_as_template(
                f"{{{{ lookup('ansible.builtin.template', '{template}') | from_yaml }}}}"
            )
            try:
                services = self._template(expression, known)
            except AnsibleError as error:
                problems.append(
                    f"the services of {role.name} can't be rendered: {_reason(error)}: correct its variables"
                )
                continue
            yield from (services or {}).items()


def _specification(role: Path) -> dict[str, Any]:
    """A role's argument_specs, empty where it has none."""
    path = role / "meta" / "argument_specs.yml"
    if not path.is_file():
        return {}
    # They are no templates, and Ansible's own reader takes fifteen times as long.
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise AnsibleLookupError(f"{path} can't be read: {error}") from error
    return dict((content or {}).get("argument_specs") or {})


def _reason(error: AnsibleError) -> str:
    """The innermost cause, on one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split()).rstrip(".")
