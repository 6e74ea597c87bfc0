"""Filters that turn a component's services into its fragment of the stack."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from plain import plain

#: The user that every image of ours runs as, and that of the Telegraf beside it.
UID, TELEGRAF_UID = "10001", "10002"

#: What a Telegraf proves its name with, to the relay and to what it asks.
TELEGRAF_SECRET = "telegraf_password"  # noqa: S105  # a name

Service = dict[str, Any]


def _with_defaults(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping given, completed key by key; what is given wins, lists are never merged."""
    merged: dict[str, Any] = plain(given)
    for key, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _with_defaults(merged[key], default)
        else:
            merged.setdefault(key, plain(default))
    return merged


def _long_form(
    service: str, kind: str, entry: str | Mapping[str, Any], known: Mapping[str, str]
) -> dict[str, Any]:
    """A secret or config of a service in the long form, readable by the image's user alone."""
    wanted = {} if isinstance(entry, str) else dict(entry)
    source = entry if isinstance(entry, str) else str(entry.get("source", ""))
    if source not in known:
        raise AnsibleFilterError(
            f"service {service} uses the {kind} {source!r}, which its component doesn't publish: "
            f"it publishes {', '.join(sorted(known)) or 'none'}"
        )
    private = kind == "secret"
    defaults = {"target": source, "uid": UID, "gid": UID, "mode": 0o400 if private else 0o444}
    # The swarm's name and not the short one: the fragments of all components are merged into one stack.
    return {**defaults, **wanted, "source": known[source]}


def _accompanied(
    name: str, service: Service, variables: Mapping[str, str], wanted: bool | Mapping[str, bool]
) -> None:
    """Give a service what the Telegraf beside it needs: variables (what the service says wins), and its secret.

    wanted: the service's x-telegraf.
    """
    own = {
        "HOST_MONITORING_BASE_TAG": f"{name}-",
        "METRICS_SERVICE": name,
        # The swarm fills it in for each task.
        "METRICS_NODE": "{{.Node.Hostname}}",
    }
    service["environment"] = {**own, **variables, **service.get("environment", {})}
    if wanted:
        secret: dict[str, Any] = {"source": TELEGRAF_SECRET, "uid": TELEGRAF_UID, "gid": TELEGRAF_UID}
        if isinstance(wanted, Mapping) and wanted.get("readable"):
            secret |= {"gid": UID, "mode": 0o440}
        service["secrets"] = [*service.get("secrets", []), secret]


def _log_to(socket: str) -> dict[str, Any]:
    """How Docker writes a container's lines to the socket of the node's shipper.

    A container never waits for its log. The tag tells the shipper who wrote: STACK_SERVICE.SLOT.TASK/CONTAINER.
    """
    return {
        "driver": "syslog",
        "options": {
            "syslog-address": f"unixgram://{socket}",
            "syslog-format": "rfc5424micro",
            "tag": "{{.Name}}/{{.ID}}",
            "mode": "non-blocking",
            "max-buffer-size": "4m",
        },
    }


def _external(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"external": True} for name in sorted(names)}


def stack_fragment(
    services: Mapping[str, Service],
    defaults: Mapping[str, Any],
    secrets: Mapping[str, str],
    configs: Mapping[str, str],
    networks: Mapping[str, str],
    telegraf: Mapping[str, str] | None = None,
    log_socket: str = "",
) -> dict[str, Any]:
    """One component's part of the stack, in the Compose format that `docker stack deploy` reads.

    services: name -> Compose service, with secrets, configs and networks by their short names.
    defaults: what a service gets unless it says otherwise. secrets, configs, networks: short name -> name
    in the swarm. telegraf: variables of the Telegraf beside each service, nothing where there is none; a
    service with `x-telegraf: false` is a Telegraf itself, one with `x-telegraf: {readable: true}` reads what
    its Telegraf proves its name with, to let it in. log_socket: path of the socket that containers log to; nothing
    for the engine's own way. Returns the fragment; only the networks that a service
    uses are declared, as are only the named volumes. Raises AnsibleFilterError for a name that nobody
    publishes, or a missing image.
    """
    finished: dict[str, Service] = {}
    used_networks: set[str] = set()
    volumes: dict[str, Any] = {}
    for name, given in services.items():
        service = _with_defaults(given, defaults)
        accompanied = service.pop("x-telegraf", True)
        if log_socket:
            service.setdefault("logging", _log_to(log_socket))
        if telegraf:
            _accompanied(name, service, telegraf, accompanied)
        deploy = service.get("deploy", {})
        if deploy.get("restart_policy", {}).get("condition") == "none":
            # A job: that its task ends is no fault of the rollout, and there is nothing to go back to.
            deploy["update_config"] = {"parallelism": 1, "failure_action": "continue", "monitor": "1s"}
            deploy.pop("rollback_config", None)
            deploy["labels"] = {**(deploy.get("labels") or {}), "forum.job": "true"}
        if not service.get("image"):
            raise AnsibleFilterError(f"service {name} has no image")
        for kind, known in (("secret", secrets), ("config", configs)):
            if entries := service.get(f"{kind}s"):
                service[f"{kind}s"] = [_long_form(name, kind, entry, known) for entry in entries]
        if unknown := set(service.get("networks", [])) - set(networks):
            raise AnsibleFilterError(
                f"service {name} is on the network {min(unknown)!r}: "
                f"the stack has {', '.join(sorted(networks))}"
            )
        used_networks.update(service.get("networks", []))
        if memory := service.pop("tmpfs", []):
            # A stack ignores tmpfs:, but knows volumes of that type.
            mounts = [{"type": "tmpfs", "target": path} for path in memory]
            service["volumes"] = service.get("volumes", []) + mounts
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if isinstance(volume, str) else volume.get("source", "")
            is_bind = isinstance(volume, Mapping) and volume.get("type") != "volume"
            if not is_bind and source and not source.startswith("/"):
                volumes[source] = {}
        finished[name] = service
    fragment: dict[str, Any] = {
        "services": finished,
        "networks": {name: {"external": True, "name": networks[name]} for name in sorted(used_networks)},
    }
    sections = {
        "secrets": _external(secrets.values()),
        "configs": _external(configs.values()),
        "volumes": volumes,
    }
    fragment.update({section: content for section, content in sections.items() if content})
    return fragment


def versioned_names(contents: Mapping[str, str], prefix: str, secret: bool = True) -> dict[str, str]:
    """Names in the swarm for secrets or configs, which are immutable there: a new content is a new name.

    contents: short name -> content. prefix: what the names start with, such as forum_redis_.
    secret: derive the version slowly (scrypt, salted with the name), so that the name, which anybody on
    the swarm can read, is no help in guessing the content. Returns short name -> PREFIX SHORT _ 12
    hexadecimal digits. Raises AnsibleFilterError for an empty content, or a name that the swarm would
    refuse (other than letters, digits, . _ -, or longer than 64).
    """
    names: dict[str, str] = {}
    for short, content in contents.items():
        if not content:
            raise AnsibleFilterError(f"{prefix}{short} is empty: give it a value in the inventory")
        data, salt = content.encode(), f"{prefix}{short}".encode()
        digest = (
            hashlib.scrypt(data, salt=salt, n=2**14, r=8, p=1) if secret else hashlib.sha256(data).digest()
        )
        name = f"{prefix}{short}_{digest.hex()[:12]}"
        if len(name) > 64 or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]", name):
            raise AnsibleFilterError(
                f"{name} is no name for the swarm: at most 64 letters, digits, dots, - and _"
            )
        names[short] = name
    return names


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"stack_fragment": stack_fragment, "versioned_names": versioned_names}
