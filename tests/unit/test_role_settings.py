"""The lookup that tells what the roles will see."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar, trust_as_template
from capacity import connection_problems, resource_problems, with_telegraf

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "roles" / "preflight" / "lookup_plugins"
SPECIFICATION = """---
argument_specs:
  main:
    options:
      redis_password: {type: str, required: true}
      redis_hosts: {type: list, elements: str}
      redis_memory: {type: str}
      redis_source: {type: str, choices: [debian, vendor]}
"""
DEFAULTS = """---
redis_hosts: [redis-0, redis-1]
redis_memory: "{{ redis_hosts | length * 64 }}m"
redis_source: debian
"""
SERVICES = """{% for host in redis_hosts %}
{{ host }}:
  image: "{{ component_image }}"
  labels: {place: "{{ role_name }}", secret: "{{ redis_password }}"}
  deploy: {replicas: 1, resources: {limits: {memory: {{ redis_memory }}}}}
{% endfor %}
"""


pytestmark = pytest.mark.usefixtures("collections")


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    """One role with a specification, defaults and services, and one with nothing."""
    redis = tmp_path / "roles" / "redis"
    for name, content in (
        ("meta/argument_specs.yml", SPECIFICATION),
        ("defaults/main.yml", DEFAULTS),
        ("templates/service.yml.j2", SERVICES),
    ):
        path = redis / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
    (tmp_path / "roles" / "empty").mkdir()
    return tmp_path / "roles"


def look(roles: Path, *terms: str, services: bool = False, **variables: object) -> dict[str, Any]:
    """What the lookup returns for a host with these variables."""
    loader = DataLoader()
    trusted = {
        name: trust_as_template(value) if isinstance(value, str) else value
        for name, value in variables.items()
    }
    lookup_loader.add_directory(str(PLUGINS))
    lookup = lookup_loader.get(
        "role_settings", loader=loader, templar=Templar(loader=loader, variables=trusted)
    )
    (result,) = lookup.run(list(terms), variables=trusted, roles_path=str(roles), services=services)
    assert isinstance(result, dict)
    return result


def test_defaults_lie_below_the_hosts_variables(roles: Path) -> None:
    result = look(roles, "redis_.*", redis_hosts=["a", "b", "c"])
    assert result["settings"] == {
        "redis_hosts": ["a", "b", "c"],
        "redis_memory": "192m",
        "redis_source": "debian",
    }
    assert result["given"] == {"redis_hosts": ["a", "b", "c"]}
    assert result["problems"] == []


def test_only_what_is_asked_for_is_rendered(roles: Path) -> None:
    assert look(roles, ".*_source")["settings"] == {"redis_source": "debian"}
    assert look(roles)["settings"] == {}


def test_names_leave_out_what_is_ansibles(roles: Path) -> None:
    result = look(roles, redis_pasword="x", ansible_host="192.0.2.1", __redis_internal="y")
    assert result["names"] == ["redis_pasword"]


def test_what_cannot_be_rendered_is_a_problem(roles: Path) -> None:
    result = look(roles, redis_memory="{{ nowhere }}", redis_source="{{ 1 + }}", redis_hosts=["ok"])
    assert set(result["given"]) == {"redis_hosts"}
    assert len(result["problems"]) == 2
    assert result["problems"][0].startswith("redis_memory can't be rendered: 'nowhere' is undefined")


def test_services_are_rendered_also_without_the_secrets(roles: Path) -> None:
    services = look(roles, services=True)["services"]
    assert list(services) == ["redis-0", "redis-1"]
    assert services["redis-1"]["deploy"]["resources"]["limits"]["memory"] == "128m"
    assert services["redis-1"]["image"] == "image"
    assert services["redis-1"]["labels"]["place"] == "redis"


def test_services_that_cannot_be_rendered_are_a_problem(roles: Path) -> None:
    result = look(roles, services=True, redis_memory="{{ nowhere }}")
    assert result["services"] == {}
    assert result["problems"][-1].startswith(
        "the services of redis can't be rendered: 'nowhere' is undefined"
    )


def test_specifications_of_all_roles(roles: Path) -> None:
    assert look(roles)["specifications"] == {}, "one machine is enough to tell them"
    specifications = look(roles, services=True)["specifications"]
    assert specifications["empty"] == {}
    assert specifications["redis"]["main"]["options"]["redis_password"]["required"] is True


def test_a_directory_without_roles(tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match="no role"):
        look(tmp_path)


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    """What the roles see with their defaults and what all inventories share."""
    shared = DataLoader().load_from_file(
        str(ROOT / "inventories" / "shared" / "product.yml"), trusted_as_template=True
    )
    given = {
        "misago_domain": "forum.example.org",
        "nginx_allowed_networks": ["192.0.2.0/24"],
        "groups": {"edge": [], "monitoring": ["monitor"], "swarm_managers": []},
        "hostvars": {"monitor": {"ansible_host": "192.0.2.14"}},
    }
    wanted = ("(pgpool|misago|postgres)_.*", "component_telegraf")
    result = look(ROOT / "roles", *wanted, services=True, **{**shared, **given})
    assert not [problem for problem in result["problems"] if problem.startswith("the services of")]
    telegraf = result["settings"]["component_telegraf"]
    return {**result, "services": with_telegraf(result["services"], telegraf)}


def test_python_packages_are_kept_where_neither_an_inventory_nor_the_history_takes_them_in() -> None:
    role = ROOT / "roles" / "python_library"
    inventory = ROOT / "inventories" / "production"
    given: dict[str, Any] = {"role_path": str(role), "python_library_home": "/opt/trial"}
    settings = look(ROOT / "roles", "python_library_wheels_dir", **given)["settings"]
    place = Path(settings["python_library_wheels_dir"])
    assert inventory not in place.parents
    assert (
        subprocess.run(["git", "check-ignore", "--quiet", place / "x.whl"], cwd=ROOT, check=False).returncode
        == 0
    )


def test_the_defaults_fit_three_small_nodes_and_two(stack: dict[str, Any]) -> None:
    nodes = {
        f"node-{n}": {
            "cpus": 2,
            "memory": "3.8g",
            "labels": {"postgres": str(n), "redis": str(n), "edge": "true"},
        }
        for n in range(3)
    }
    assert stack["services"]
    assert resource_problems(stack["services"], nodes, system_cpus=0.1) == []


def test_the_limits_of_the_data_fit_a_small_node(stack: dict[str, Any]) -> None:
    mine = {
        name: service
        for name, service in stack["services"].items()
        if any(
            str(text).endswith("== 0")
            for text in service["deploy"].get("placement", {}).get("constraints", [])
        )
    }
    limits = {
        name: {
            "deploy": {
                **service["deploy"],
                "resources": {
                    "limits": service["deploy"]["resources"]["limits"],
                    "reservations": {"memory": service["deploy"]["resources"]["limits"]["memory"]},
                },
            }
        }
        for name, service in mine.items()
    }
    node = {"cpus": 2, "memory": "3.8g", "labels": {"postgres": "0", "redis": "0"}}
    assert len(limits) == 3
    assert resource_problems(limits, {"node-1": node}) == []


def test_the_default_connections_add_up(stack: dict[str, Any]) -> None:
    settings = stack["settings"]
    clients = {
        "misago": {"replicas": settings["misago_replicas_max"], "connections": settings["misago_workers"]},
        "celery": {"connections": settings["misago_celery_processes"]},
        "maintenance": {},
        "release": {"connections": 2},
    }
    pgpool = {"replicas": settings["pgpool_replicas"], "num_init_children": settings["pgpool_sessions"]}
    postgres = {"max_connections": settings["postgres_max_connections"], "reserved": 15}
    assert connection_problems(clients, pgpool, postgres) == []
