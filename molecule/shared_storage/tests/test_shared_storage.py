"""The directories that all nodes share."""

from __future__ import annotations

import pytest
from role_lab import MANAGERS, Run
from testinfra.host import Host


@pytest.mark.parametrize("node", MANAGERS)
@pytest.mark.parametrize("directory", ["media", "static"])
def test_the_forum_s_user_owns_them(machines: dict[str, Host], node: str, directory: str) -> None:
    found = machines[node].file(f"/srv/forum/{directory}")
    assert found.is_directory
    assert (found.uid, found.gid, found.mode) == (10001, 10001, 0o755)


def test_what_one_node_writes_every_node_reads(machines: dict[str, Host]) -> None:
    written = "/srv/forum/media/from-node-1"
    machines["node-1"].check_output("setpriv --reuid 10001 --regid 10001 --clear-groups touch %s", written)
    try:
        assert [machines[name].file(written).uid for name in MANAGERS] == [10001] * 3
    finally:
        machines["node-1"].check_output("rm %s", written)


def test_a_strange_owner_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("converge.yml", shared_storage_uid="nobody")
    assert refused.returncode != 0
    assert "shared_storage_uid" in refused.stdout
    assert "changed=1" not in refused.stdout
