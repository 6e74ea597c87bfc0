"""What every component repeats: names by content, secrets and configs, a fragment."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
import yaml
from role_lab import PREFIX, Run, Swarm, words

FRAGMENT = "/etc/trial/stack.d/parrot.yml"
PASSWORD = "trial-password-of-a-parrot"  # noqa: S105 - as in the trial room's defaults


@pytest.fixture
def fragment(swarm: Swarm) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(swarm.manager.file(FRAGMENT).content_string)
    return content


def published(swarm: Swarm, kind: str) -> list[str]:
    return [name for name in swarm.names(kind) if name.startswith("trial_")]


def test_the_fragment_says_who_wrote_it_and_only_root_reads_it(swarm: Swarm) -> None:
    written = swarm.manager.file(FRAGMENT)
    assert written.content_string.startswith("# Ansible managed\n")
    assert (written.user, written.mode) == ("root", 0o640)
    assert PASSWORD not in written.content_string


def test_the_service_gets_what_it_does_not_say(fragment: dict[str, Any]) -> None:
    service = fragment["services"]["parrot"]
    assert re.fullmatch(rf"{re.escape(PREFIX)}\.14:5000/trial/parrot:[0-9a-f]{{16}}", service["image"])
    assert service["read_only"]
    assert service["init"]
    assert service["cap_drop"] == ["ALL"]
    assert service["deploy"]["endpoint_mode"] == "dnsrr"
    assert service["deploy"]["update_config"]["failure_action"] == "rollback"
    assert service["deploy"]["update_config"]["monitor"] == "3s", "what a service says wins"
    # The swarm's names: the fragments of all components become one file.
    own, telegraf = sorted(fragment["secrets"])
    assert service["secrets"] == [
        {"target": "parrot_password", "uid": "10001", "gid": "10001", "mode": 0o400, "source": own},
        {"target": "telegraf_password", "uid": "10002", "gid": "10002", "mode": 0o400, "source": telegraf},
    ]


def test_the_telegraf_beside_it_knows_its_names(fragment: dict[str, Any]) -> None:
    assert fragment["services"]["parrot"]["environment"] == {
        "HOST_MONITORING_BASE_TAG": "parrot-",
        "METRICS_SERVICE": "parrot",
        "METRICS_NODE": "{{.Node.Hostname}}",
        "METRICS_STACK": "trial",
        "INFLUX_DB_LOCATION": "http://relay:8186",
        "INFLUX_DB_NAME": "trial",
        # Its share of the memory, 64M.
        "TELEGRAF_MEMORY": "67108864",
    }


def test_only_what_is_used_is_declared(fragment: dict[str, Any]) -> None:
    assert fragment["networks"] == {"misago": {"external": True, "name": "trial_misago"}}
    assert list(fragment["volumes"]) == ["nest"]


def test_the_config_is_published_under_the_name_of_its_content(
    swarm: Swarm, fragment: dict[str, Any]
) -> None:
    (name,) = published(swarm, "config")
    assert re.fullmatch(r"trial_parrot_parrot\.conf_[0-9a-f]{12}", name)
    assert fragment["configs"] == {name: {"external": True}}
    specification = swarm.inspect("config", name)[0]["Spec"]
    assert base64.b64decode(specification["Data"]).decode() == "# Ansible managed\nsay hello\n"
    assert specification["Labels"]["forum.stack"] == "trial"


def test_the_secret_is_published_and_told_to_nobody(swarm: Swarm, fragment: dict[str, Any]) -> None:
    names = published(swarm, "secret")
    assert [name.rpartition("_")[0] for name in names] == [
        "trial_parrot_parrot_password",
        "trial_parrot_telegraf_password",
    ]
    assert all(re.fullmatch(r".*_[0-9a-f]{12}", name) for name in names)
    assert fragment["secrets"] == {name: {"external": True} for name in names}
    specification = swarm.inspect("secret", names[0])[0]["Spec"]
    assert specification["Labels"] == {"forum.stack": "trial"}, (
        "a hash of the value would help in guessing it"
    )


def test_a_label_that_an_earlier_release_left_is_removed_and_the_secret_stays(
    ansible: Run, swarm: Swarm
) -> None:
    name = published(swarm, "secret")[0]
    swarm.manager.check_output("docker secret rm %s", name)
    swarm.manager.check_output(
        "printf %s | docker secret create --label forum.stack=trial --label ansible_key=abc %s -",
        PASSWORD,
        name,
    )
    identity = swarm.inspect("secret", name)[0]["ID"]

    relabelled = ansible("converge.yml")

    assert relabelled.returncode == 0, relabelled.stdout
    secret = swarm.inspect("secret", name)[0]
    assert secret["ID"] == identity
    assert secret["Spec"]["Labels"] == {"forum.stack": "trial"}
    assert "changed=0" in ansible("converge.yml").stdout


def test_an_unknown_network_is_refused_and_nothing_is_written(ansible: Run, swarm: Swarm) -> None:
    before = swarm.manager.file(FRAGMENT).content_string
    refused = ansible("converge.yml", parrot_network="jungle")
    assert refused.returncode != 0
    assert "service parrot is on the network 'jungle': the stack has edge, misago" in words(refused.stdout)
    assert swarm.manager.file(FRAGMENT).content_string == before


def test_an_empty_secret_is_refused_and_nothing_is_published(ansible: Run, swarm: Swarm) -> None:
    before = published(swarm, "secret")
    refused = ansible("converge.yml", parrot_password="")
    assert refused.returncode != 0
    assert "trial_parrot_parrot_password is empty: give it a value in the inventory" in words(refused.stdout)
    assert published(swarm, "secret") == before


def test_a_change_is_a_new_name_beside_the_old_one_and_no_value_is_printed(
    ansible: Run, swarm: Swarm, fragment: dict[str, Any]
) -> None:
    before = {kind: published(swarm, kind) for kind in ("secret", "config")}
    other = "another-password-of-a-parrot"

    changed = ansible("converge.yml", "-vvv", "--diff", parrot_word="goodbye", parrot_password=other)

    assert changed.returncode == 0, changed.stdout
    assert other not in changed.stdout + changed.stderr
    for kind, names in before.items():
        assert set(names) < set(published(swarm, kind)), "what runs still needs the old one"
        assert len(published(swarm, kind)) == len(names) + 1
    now = yaml.safe_load(swarm.manager.file(FRAGMENT).content_string)
    assert now["secrets"] != fragment["secrets"]
    assert now["configs"] != fragment["configs"]
