"""What haproxy.cfg and the service say, rendered as the room renders them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from sentinel import FilterModule

ROOM = Path(__file__).parents[2] / "roles" / "haproxy"
PASSWORD = r"""a"b\c d'$e`f%#g"""


def variables() -> dict[str, Any]:
    """The room's defaults, and what the deployment adds."""
    defaults: dict[str, Any] = yaml.safe_load((ROOM / "defaults" / "main.yml").read_text())
    return {
        **defaults,
        "ansible_managed": "made by Ansible",
        "component_image": "registry/haproxy:1",
        "haproxy_redis_password": PASSWORD,
    }


def render(template: str, **changed: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOM / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # no page for a browser
    )
    environment.filters.update(FilterModule().filters())
    return environment.get_template(template).render(**(variables() | changed))


def section(configuration: str, head: str) -> list[str]:
    """The lines of one section of the file, without those that are no setting."""
    found = re.search(rf"^{re.escape(head)}\n((?:(?:[ .#].*)?\n)*)", configuration, re.MULTILINE)
    assert found, f"no section {head}"
    return [
        line.strip() for line in found[1].splitlines() if line.strip() and not line.strip().startswith("#")
    ]


def test_a_client_reaches_only_whom_a_majority_names() -> None:
    configuration = render("haproxy.cfg.j2")
    lines = section(configuration, "frontend redis")
    backends = [line for line in lines if line.startswith("use_backend")]
    assert backends == [
        f"use_backend redis-{n} if {{ nbsrv(redis-{n}) ge 1 }} {{ nbsrv(names-redis-{n}) ge 2 }}"
        for n in range(3)
    ]
    # Everybody else is counted where there is no server.
    assert lines[-1] == "default_backend no-master"
    assert section(configuration, "backend no-master") == []


@pytest.mark.parametrize("count", [3, 5])
def test_every_server_is_asked_about_at_every_sentinel(count: int) -> None:
    sentinels = [f"watcher-{n}" for n in range(count)]
    configuration = render(
        "haproxy.cfg.j2", haproxy_sentinel_hosts=sentinels, haproxy_redis_hosts=["r-0", "r-10"]
    )
    for name in ("r-0", "r-10"):
        lines = section(configuration, f"backend names-{name}")
        assert [line for line in lines if line.startswith("server")] == [
            f"server {sentinel} {sentinel}:26379" for sentinel in sentinels
        ]
        assert any(f"\\r\\n{name}\\r\\n" in line for line in lines if "tcp-check expect" in line)
        assert f"lt {count // 2 + 1}" in " ".join(section(configuration, f"frontend majority-{name}"))


def test_no_password_no_auth() -> None:
    configuration = render("haproxy.cfg.j2")
    guarded = re.sub(
        r"^\.if defined\(REDIS_PASSWORD\)\n.*?^\.endif\n", "", configuration, flags=re.MULTILINE | re.DOTALL
    )
    assert configuration.count("AUTH") == 6
    assert "AUTH" not in guarded
    assert "REDIS_PASSWORD" not in guarded
    service = yaml.safe_load(render("service.yml.j2", haproxy_redis_password=""))["haproxy"]
    assert "secrets" not in service
    assert "environment" not in service


def test_the_password_is_in_no_file() -> None:
    assert PASSWORD not in render("haproxy.cfg.j2")
    assert PASSWORD not in render("service.yml.j2")


def test_names_are_resolved_again_and_again_and_sessions_last() -> None:
    configuration = render("haproxy.cfg.j2")
    defaults = section(configuration, "defaults")
    (servers,) = [line for line in defaults if line.startswith("default-server")]
    assert "resolvers docker" in servers
    assert "init-addr none" in servers
    assert {"timeout client 1h", "timeout server 1h", "timeout connect 1s"} <= set(defaults)
    assert "hold valid 1s" in section(configuration, "resolvers docker")


def test_the_file_says_who_made_it() -> None:
    assert render("haproxy.cfg.j2").startswith("# made by Ansible\n")


def test_the_service_is_spread_and_bounded() -> None:
    service = yaml.safe_load(render("service.yml.j2"))["haproxy"]
    assert service["deploy"]["replicas"] == 2
    assert service["deploy"]["placement"] == {"max_replicas_per_node": 1}
    assert set(service["deploy"]["resources"]) == {"limits", "reservations"}
    assert service["networks"] == ["redis"]
