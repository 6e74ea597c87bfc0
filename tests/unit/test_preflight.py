"""The preflight as a whole, against an inventory in which much is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHORT = "kV8wqZr3TnYb5x"
TWICE = "kV8wqZr3TnYb5xHs0LdM"
VARIABLES = f"""---
ansible_connection: local
ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"
misago_domain: forum.example.org
misago_workerz: 3
misago_replicas: many
nginx_allowed_networks: [192.0.2.7/24]
forum_certificate: given
nginx_tls_certificate: none
stack_endpoint_mode: mesh
swarm_address_pool: [172.17.128.0/20]
postgres_max_connections: 40
preflight_releases: []
preflight_min_disk_mb: 1
preflight_min_memory_mb: 999999999
postgres_password: {TWICE}
redis_password: {TWICE}
registry_password: {SHORT}
influxdb_source: vendor
elasticsearch_source: maven
kibana_source: vendor
kibana_version: 9.1.0
pgpool_pcp_password: change-me-change-me
misago_secret_key: "{{{{ lookup('ansible.builtin.env', 'NO_SUCH_VARIABLE') }}}}"
service_levels:
  - id: nginx-clients
    service: ngnix
    alarm: {{op: gt, threshold: 2000, severity: warning, notification_targets: [slack], action: {{scale_up: redis}}}}
    objective: {{op: lt, value: 1024}}
"""
INVENTORY = """---
all:
  children:
    swarm:
      children:
        swarm_managers:
          hosts:
            node-1:
              swarm_labels: {postgres: "0", redis: "0", edge: "true"}
            node-2:
              swarm_labels: {postgres: "0", redis: "1", edge: "true"}
    monitoring:
      hosts:
        monitor:
          ansible_connection: ssh
          ansible_host: 127.0.0.1
          ansible_port: 1
"""
EXPECTED = (
    "2 managers",
    "misago_workerz is a variable that no role knows: did you mean misago_workers?",
    "misago_replicas: ",
    "stack_endpoint_mode: ",
    "misago_admin_password is missing",
    "influxdb_writer_password is missing",
    "influxdb_source is vendor, but influxdb_repository is empty",
    "kibana_source is vendor, but kibana_repository is empty",
    "kibana_source is vendor, but elasticsearch_source is maven",
    "kibana_version is 9.1.0, but elasticsearch_version is 8.8.2",
    "kibana_session_secret is missing",
    "elasticsearch_viewer_password is missing",
    "misago_secret_key is missing",
    "pgpool_pcp_password is built from a word",
    "registry_password is shorter than 16",
    "postgres_password and redis_password have the same value",
    "the certificate can't be read",
    "overlap",
    "192.0.2.7/24",
    'node-1 and node-2 are all labelled postgres: "0"',
    'no node is labelled postgres: "1"',
    'no node is labelled redis: "2"',
    "node-1 has ",
    "monitor can't be reached (",
    "nginx-clients: lacks indicator",
    "nginx-clients: service ngnix is unknown: did you mean nginx?",
    "nginx-clients: its alarm of 2000 doesn't come before its limit of 1024",
    "nginx-clients: alarm.action.scale_up names redis, which can't be scaled",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One run of the stage, in check mode."""
    inventory = tmp_path_factory.mktemp("inventory")
    (inventory / "hosts.yml").write_text(INVENTORY)
    shared = inventory / "group_vars" / "all"
    shared.mkdir(parents=True)
    (shared / "main.yml").write_text(VARIABLES)
    (shared / "00-product.yml").symlink_to(ROOT / "inventories" / "shared" / "product.yml")
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "0"}
    return subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", inventory, "--check", "--diff", "playbooks/preflight.yml"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


def numbered(run: subprocess.CompletedProcess[str]) -> list[str]:
    """The report's list."""
    return re.findall(r"^ +\d+\. (.+)$", run.stdout.partition("FAILED!")[2], re.MULTILINE)


def test_it_fails_once_with_the_whole_list(run: subprocess.CompletedProcess[str]) -> None:
    problems = numbered(run)
    assert run.returncode == 2, run.stdout + run.stderr
    assert run.stdout.count("FAILED!") == 1
    assert f"{len(problems)} things are wrong, and nothing was changed:" in run.stdout
    missing = [text for text in EXPECTED if not any(text in problem for problem in problems)]
    assert missing == [], "\n".join(problems)


def test_every_problem_has_its_remedy(run: subprocess.CompletedProcess[str]) -> None:
    assert [problem for problem in numbered(run) if ": " not in problem] == []


def test_nothing_is_changed(run: subprocess.CompletedProcess[str]) -> None:
    counts = re.findall(r"changed=(\d+)", run.stdout)
    assert len(counts) == 3
    assert set(counts) == {"0"}


def test_no_secret_is_shown(run: subprocess.CompletedProcess[str]) -> None:
    shown = run.stdout + run.stderr
    assert TWICE not in shown
    assert SHORT not in shown
    assert "change-me-change-me" not in shown


def test_it_tells_whether_slack_is_on(run: subprocess.CompletedProcess[str]) -> None:
    assert "Slack: off, slack_webhook is empty" in run.stdout
