"""Images in the registry and on the nodes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from role_lab import MANAGERS, PREFIX, PROJECT, Run, words
from testinfra.host import Host

REGISTRY = f"{PREFIX}.14:5000"


@pytest.fixture(scope="module")
def tags(machines: dict[str, Host], secret_values: dict[str, str]) -> list[str]:
    """The tags of the image that the registry holds."""
    answer = machines["node-1"].check_output(
        "curl -sS --cacert %s --user %s %s",
        f"/etc/docker/certs.d/{REGISTRY}/ca.crt",
        f"forum:{secret_values['registry_password']}",
        f"https://{REGISTRY}/v2/forum/redis/tags/list",
    )
    found: list[str] = json.loads(answer)["tags"]
    return found


def image(machine: Host, tag: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(
        machine.check_output("docker image inspect %s", f"{REGISTRY}/forum/redis:{tag}")
    )
    return found[0]


def test_the_registry_holds_it_once_under_the_hash_of_its_context(tags: list[str]) -> None:
    assert len(tags) == 1
    assert len(tags[0]) == 16
    int(tags[0], 16)


def test_every_node_holds_it_before_a_service_uses_it(machines: dict[str, Host], tags: list[str]) -> None:
    assert len({image(machines[name], tags[0])["Id"] for name in MANAGERS}) == 1


def test_it_runs_as_an_unprivileged_user_and_loads_its_secrets(
    machines: dict[str, Host], tags: list[str]
) -> None:
    settings = image(machines["node-1"], tags[0])["Config"]
    assert settings["User"] == "app"
    assert settings["Entrypoint"] == ["/usr/local/bin/load-secrets"]
    reference = f"{REGISTRY}/forum/redis:{tags[0]}"
    assert machines["node-1"].check_output("docker run --rm --network none %s id -u", reference) == "10001"


def test_no_secret_is_in_its_history(
    machines: dict[str, Host], tags: list[str], secret_values: dict[str, str]
) -> None:
    reference = f"{REGISTRY}/forum/redis:{tags[0]}"
    history = machines["node-1"].check_output("docker history --no-trunc %s", reference)
    told = history + json.dumps(image(machines["node-1"], tags[0]))
    assert not [name for name, value in secret_values.items() if value in told]


def test_a_registry_that_refuses_us_ends_the_run_with_the_cause(ansible: Run) -> None:
    refused = ansible("converge.yml", registry_password="not-the-password")  # noqa: S106
    assert refused.returncode != 0
    assert "refuses forum (401): check registry_password" in words(refused.stdout)
    assert "changed=0" in refused.stdout
    assert "not-the-password" not in refused.stdout


def test_a_component_without_a_build_context_is_named(ansible: Run) -> None:
    refused = ansible("converge.yml", stack_components=["parrot"])
    assert refused.returncode != 0
    assert "roles/parrot/files/image/Dockerfile must name its base" in words(refused.stdout + refused.stderr)


def test_a_registry_that_is_away_is_told_with_its_cause_and_a_remedy(ansible: Run) -> None:
    refused = ansible("converge.yml", registry_port=5999)
    assert refused.returncode != 0
    told = words(refused.stdout)
    assert f"The registry {PREFIX}.14:5999 doesn't answer (" in told
    assert "Connection refused" in told
    assert "is docker-registry up on the monitoring machine, and its port open from here?" in told
    assert "changed=0" in refused.stdout


def test_a_build_that_fails_shows_its_last_lines_and_leaves_no_context(ansible: Run) -> None:
    left = set(Path(tempfile.gettempdir()).glob("forum-build-*"))
    rooms = str(PROJECT / "molecule/images/roles")
    refused = ansible("converge.yml", images_rooms=rooms, stack_components=["orchard"])
    assert refused.returncode != 0
    assert "no seeds left" in words(refused.stdout)
    assert set(Path(tempfile.gettempdir()).glob("forum-build-*")) == left
