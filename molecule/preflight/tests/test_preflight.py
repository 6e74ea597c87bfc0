"""Everything that is wrong with an inventory, found at once and before anything is changed."""

from __future__ import annotations

import re
from pathlib import Path

from role_lab import PREFIX, Run, words


def test_every_mistake_is_told_with_its_remedy_in_one_run(ansible: Run, tmp_path: Path) -> None:
    away = tmp_path / "away.yml"
    away.write_text(
        f"swarm: {{hosts: {{node-8: {{ansible_host: {PREFIX}.18, "
        "ansible_ssh_common_args: '-o StrictHostKeyChecking=no', ansible_ssh_private_key_file: /dev/null}}}\n"
    )

    refused = ansible(
        "converge.yml",
        "--inventory",
        str(away),
        preflight_managers=["node-1", "node-2"],
        redis_password="short",  # noqa: S106
        swarm_address_pool=[f"{PREFIX}.0/24"],
        nginx_replica=3,
        pgpool_sessions=100,
        service_levels=[{"id": "nginx-clients", "service": "nginx"}],
    )

    assert refused.returncode != 0
    told = words(refused.stdout)
    assert re.search(r"\d things are wrong, and nothing was changed", told), told[-3000:]
    for sentence in (
        "2 managers tolerate no more losses than 1, and can split in halves: use 1, 3 or 5",
        "redis_password",
        f"node-1 has the address {PREFIX}.11, which lies in swarm_address_pool",
        "did you mean nginx_replicas?",
        "max_connections",
        "nginx-clients: has no objective and no alarm",
        "node-8",
    ):
        assert sentence in told, sentence
    assert not re.search(r"changed=[1-9]", refused.stdout)
    assert '"short"' not in told
    assert "'short'" not in told
