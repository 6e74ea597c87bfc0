"""What the monitoring machine's key opens on a node, and what it doesn't."""

from __future__ import annotations

import pytest
from role_lab import MANAGERS, PREFIX, Run
from testinfra.backend.base import CommandResult
from testinfra.host import Host

KEY = "/etc/forum-actions/id_ed25519"
NODE = f"{PREFIX}.11"


def ssh(machine: Host, command: str, *options: str, to: str = NODE) -> CommandResult:
    """Run a command on a node, as a member of the group on the monitoring machine."""
    member = "setpriv --reuid nobody --regid forum-actions --clear-groups"
    client = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=5"
    known = f"-o UserKnownHostsFile=/etc/forum-actions/known_hosts -i {KEY}"
    return machine.run(f"{member} {client} {known} {' '.join(options)} forum-actions@{to} %s", command)


def test_every_node_is_known_and_lets_it_in(machines: dict[str, Host]) -> None:
    for number in (11, 12, 13):
        assert ssh(machines["monitor"], "id -un", to=f"{PREFIX}.{number}").stdout.strip() == "forum-actions"


@pytest.mark.parametrize("program", ["forum-scale", "forum-blocklist"])
def test_the_programs_may_be_called(machines: dict[str, Host], program: str) -> None:
    shown = ssh(machines["monitor"], "sudo -n -l")
    assert f"/usr/local/sbin/{program}" in shown.stdout
    answer = ssh(machines["monitor"], f"sudo -n /usr/local/sbin/{program} list")
    assert "password is required" not in answer.stderr


@pytest.mark.parametrize(
    "command",
    [
        "sudo -n id",
        "sudo -n cat /etc/shadow",
        "sudo -n /usr/sbin/nft list ruleset",
        "sudo -n -u nobody id",
        "sudo -n PYTHONPATH=/tmp /usr/local/sbin/forum-blocklist list",
        "sudo -n sh -c /usr/local/sbin/forum-blocklist",
        "docker ps",
        "cat /etc/shadow",
        "echo own-key >>~/.ssh/authorized_keys",
        "touch ~/here",
    ],
)
def test_nothing_else_may(machines: dict[str, Host], command: str) -> None:
    assert ssh(machines["monitor"], command).rc != 0


def test_there_is_no_terminal_and_no_way_on(machines: dict[str, Host]) -> None:
    terminal = ssh(machines["monitor"], "tty", "-tt")
    assert terminal.rc != 0 or "not a tty" in terminal.stdout
    forwarded = ssh(machines["monitor"], "true", "-W", f"{PREFIX}.12:22")
    assert forwarded.rc != 0
    assert "prohibited" in forwarded.stderr + forwarded.stdout


def test_another_machine_is_not_let_in_with_the_key(machines: dict[str, Host]) -> None:
    node, key = machines["node-2"], machines["monitor"].file(KEY).content_string
    node.check_output("install -m 600 /dev/null /root/trial-key && printf '%%s' %s >/root/trial-key", key)
    try:
        options = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        refused = node.run(f"ssh {options} -i /root/trial-key forum-actions@{NODE} true")
    finally:
        node.check_output("rm /root/trial-key")
    assert refused.rc == 255
    assert "Permission denied" in refused.stderr


def test_the_key_is_for_its_group_and_nowhere_else(machines: dict[str, Host]) -> None:
    key = machines["monitor"].file(KEY)
    assert (key.user, key.group, key.mode) == ("forum-actions", "forum-actions", 0o640)
    for name in MANAGERS:
        assert not machines[name].file(KEY).exists


def test_the_user_owns_nothing_and_has_no_password(machines: dict[str, Host]) -> None:
    node = machines["node-1"]
    for path in ("/var/lib/forum-actions", "/var/lib/forum-actions/.ssh/authorized_keys"):
        assert node.file(path).user == "root"
    assert node.check_output("getent shadow forum-actions").split(":")[1] == "*"
    assert node.check_output("visudo --check")


def test_a_host_with_another_key_is_not_believed(ansible: Run, machines: dict[str, Host]) -> None:
    monitor, known = machines["monitor"], "/etc/forum-actions/known_hosts"
    monitor.check_output(f"ssh-keygen -q -t ed25519 -N '' -f /root/trial && sed -i '/^{NODE} /d' {known}")
    monitor.check_output(f"echo {NODE} $(cut -d' ' -f1,2 /root/trial.pub) >>{known}; rm /root/trial*")
    try:
        refused = ssh(monitor, "true")
        assert refused.rc == 255
        assert "verification failed" in refused.stderr
    finally:
        assert ansible("converge.yml").returncode == 0
    assert ssh(monitor, "true").rc == 0
