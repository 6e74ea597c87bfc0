"""Filters that judge an inventory before anything is done with it."""

from __future__ import annotations

import difflib
import ipaddress
import itertools
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

# Ansible brings module_utils to the machines, and not to its own plugins.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from plain import plain

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MOST_MANAGERS = 7
_ALIKE = 0.75
_CONSTRAINT = re.compile(r"node\.labels\.([\w.-]+)\s*==\s*(\S+)")
_SECRET = re.compile(r"\w+_(?:password|passphrase|secret|secret_key|token|token_[a-z]+)")
_UNJUDGED = ("default", "description", "version_added")
_UNKNOWN = "is a variable that no role knows"
_FROM_VENDOR = "describe the vendor's repository there"
_FROM_FILE = "name a file of the control machine there"
#: What a choice needs that isn't called NAME_repository: one of some variables.
_LOG_NEEDS = {
    ("log_collector_source", "logstash"): (("log_collector_logstash_repository",), _FROM_VENDOR),
    ("log_shipper_source", "filebeat"): (
        ("log_shipper_filebeat_repository", "log_shipper_filebeat_path"),
        f"{_FROM_VENDOR}, or a file of the control machine",
    ),
}


def manager_problems(managers: Sequence[str]) -> list[str]:
    """Whether the managers keep a quorum when one is lost.

    managers: their inventory names. Returns sentences with the remedy; 1, 3, 5 and 7 are fine.
    Source: Docker, 'Administer and maintain a swarm'.
    """
    count = len(set(managers))
    if count == 0:
        return ["there is no manager: name 1, 3 or 5 nodes in the inventory's group swarm_managers"]
    if count % 2 == 0:
        problem = f"{count} managers tolerate no more losses than {count - 1}, and can split in halves"
        return [f"{problem}: use 1, 3 or 5 in the inventory's group swarm_managers"]
    if count > _MOST_MANAGERS:
        return [
            f"{count} managers slow every change down: use at most {_MOST_MANAGERS}, make the others workers"
        ]
    return []


def label_problems(
    labels: Mapping[str, object],
    numbered: Mapping[str, int],
    wanted: Mapping[str, int] | None = None,
) -> list[str]:
    """Whether the nodes' labels give every placement its node.

    labels: node -> its swarm labels. numbered: label -> n; exactly one node each must carry the values 0 to
    n - 1, and no node another one. wanted: label -> how many nodes at least must carry it with the value
    "true". Returns sentences with the remedy.
    """
    problems: list[str] = []
    carried: dict[str, dict[str, list[str]]] = {}
    for node, pairs in labels.items():
        if pairs is not None and not isinstance(pairs, Mapping):
            problems.append(
                f"{node}: swarm_labels must be a mapping of label to value: write {{label: value}}"
            )
            continue
        for label, value in (pairs or {}).items():
            carried.setdefault(str(label), {}).setdefault(str(value), []).append(node)
    for label, count in numbered.items():
        values = carried.get(label, {})
        expected = [str(number) for number in range(count)]
        for value in expected:
            nodes = values.get(value, [])
            if not nodes:
                problems.append(
                    f'no node is labelled {label}: "{value}": add it to swarm_labels of the node to hold it'
                )
            elif len(nodes) > 1:
                problems.append(
                    f'{" and ".join(nodes)} are all labelled {label}: "{value}": '
                    "each needs a number of its own, its data lives on one node only"
                )
        problems.extend(
            f'{" and ".join(nodes)} is labelled {label}: "{value}", but there are only {count} of them: '
            f"use 0 to {count - 1}"
            for value, nodes in sorted(values.items())
            if value not in expected
        )
    for label, count in (wanted or {}).items():
        nodes = carried.get(label, {}).get("true", [])
        if len(nodes) < count:
            problems.append(
                f'{len(nodes)} nodes are labelled {label}: "true", at least {count} must be: '
                "add it to swarm_labels of more nodes"
            )
    return problems


def placement_labels(services: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, int]]:
    """The node labels that the services' placements need.

    services: name -> compose service. Returns {numbered, wanted} as label_problems takes them: a label that
    placements compare with whole numbers is numbered up to the highest; others are wanted on one node.
    """
    found: dict[str, dict[str, int]] = {"numbered": {}, "wanted": {}}
    for service in services.values():
        deploy = service.get("deploy")
        placement = deploy.get("placement") if isinstance(deploy, Mapping) else None
        for text in (placement or {}).get("constraints") or [] if isinstance(placement, Mapping) else []:
            match = _CONSTRAINT.fullmatch(str(text))
            if match and match[2].isdigit():
                numbered = found["numbered"]
                numbered[match[1]] = max(numbered.get(match[1], 0), int(match[2]) + 1)
            elif match and match[2] == "true":
                found["wanted"][match[1]] = 1
    return found


def _network(text: object) -> Network | None:
    """The network that a text names, or None."""
    try:
        return ipaddress.ip_network(str(text).strip())
    except ValueError:
        return None


def cidr_problems(networks: Mapping[str, object]) -> list[str]:
    """Whether lists of networks can be read.

    networks: the variable they stand in -> list of texts such as 192.0.2.0/24 or 2001:db8::/32; a single
    address counts as a network of one. Returns sentences with the remedy.
    """
    problems = []
    for name, texts in networks.items():
        if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
            problems.append(f"{name} must be a list of networks, each as ADDRESS/PREFIX: write it as a list")
            continue
        for text in texts:
            if _network(text) is not None:
                continue
            try:
                whole = ipaddress.ip_network(str(text).strip(), strict=False)
                hint = f"write {whole}, or the single address without prefix"
            except ValueError:
                hint = "write ADDRESS/PREFIX, such as 192.0.2.0/24"
            problems.append(f"{name}: {str(text)!r} is no network: {hint}")
    return problems


def network_problems(
    networks: Mapping[str, Iterable[object]],
    addresses: Mapping[str, object] | None = None,
) -> list[str]:
    """Whether networks that must be apart overlap, and whether a machine's address lies in one of them.

    networks: what they are for, such as the variable's name -> list of networks (docker's pools, the swarm's
    overlays). addresses: machine -> its address; names instead of addresses are left out. Two machines may
    not share an address. Returns sentences with the remedy.
    """
    problems = cidr_problems(networks)
    parsed: list[tuple[str, Network]] = []
    for name, texts in networks.items():
        if not isinstance(texts, str | bytes) and isinstance(texts, Iterable):
            parsed.extend((name, network) for network in map(_network, texts) if network is not None)
    for (one, first), (other, second) in itertools.combinations(parsed, 2):
        if first.version == second.version and first.overlaps(second):
            where = (
                f"{one} ({first}) and {other} ({second})" if one != other else f"{one}: {first} and {second}"
            )
            problems.append(f"{where} overlap: move one of them to a range that nothing else uses")
    machines: dict[str, list[str]] = {}
    for machine, text in (addresses or {}).items():
        try:
            address = ipaddress.ip_address(str(text))
        except ValueError:
            continue
        machines.setdefault(str(address), []).append(machine)
        problems.extend(
            f"{machine} has the address {address}, which lies in {name} ({network}): "
            f"move {name} to a range that nothing else uses"
            for name, network in parsed
            if address in network
        )
    problems.extend(
        f"{' and '.join(names)} have the same address {address}: give each its own"
        for address, names in machines.items()
        if len(names) > 1
    )
    return problems


def _options(specifications: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Every option of every entry point of every role."""
    options: dict[str, dict[str, object]] = {}
    for entries in specifications.values():
        for entry in entries.values() if isinstance(entries, Mapping) else ():
            for name, option in (entry.get("options") or {}).items():
                # An entry of main knows most; other entry points repeat its options.
                options.setdefault(str(name), option or {})
    return options


def _hint(name: str, candidates: Collection[str]) -> str:
    """The remedy for an unknown name."""
    close = difflib.get_close_matches(name, sorted(candidates), n=1, cutoff=_ALIKE)
    return (
        f"did you mean {close[0]}?"
        if close
        else "remove it, or look into the role's README.md for its variables"
    )


def unknown_variables(names: Iterable[str], specifications: Mapping[str, object]) -> list[str]:
    """Variables of the inventory that belong to a role by their prefix, but that no role knows.

    names: the inventory's variables. specifications: role -> the content of its argument_specs.
    A name also counts when it becomes a known one by correcting its first word alone (misgo_replicas).
    Returns sentences with what was probably meant, sorted by name.
    """
    options = _options(specifications)
    # A role without a specification says nothing about its variables.
    prefixes = tuple(f"{role}_" for role, entries in specifications.items() if entries)
    problems = []
    for name in sorted(set(map(str, names)) - set(options)):
        if name.startswith(prefixes):
            role = max((prefix for prefix in prefixes if name.startswith(prefix)), key=len)
            mine = [option for option in options if option.startswith(role)]
            problems.append(f"{name} {_UNKNOWN}: {_hint(name, mine or options)}")
            continue
        first, _, rest = name.partition("_")
        near = [prefix[:-1] for prefix in prefixes if rest and f"{prefix}{rest}" in options]
        likely = difflib.get_close_matches(first, near, n=1, cutoff=_ALIKE)
        problems.extend(f"{name} {_UNKNOWN}: did you mean {role}_{rest}?" for role in likely)
    return problems


def variable_problems(values: Mapping[str, object], specifications: Mapping[str, object]) -> list[str]:
    """Whether values are what the roles' argument_specs allow: type, choices, elements.

    values: variable -> rendered value; names that no role knows are left out. specifications: as above.
    Values of options that are secret (no_log) are not repeated. Returns sentences, sorted by name.
    """
    options = _options(specifications)
    problems = []
    for name in sorted(set(values) & set(options)):
        option = {key: plain(value) for key, value in options[name].items() if key not in _UNJUDGED}
        # Templated defaults and required ones are judged elsewhere; here it is one value against one option.
        option["required"] = False
        hidden = bool(option.pop("no_log", False))
        result = ArgumentSpecValidator({name: option}).validate({name: plain(values[name])})
        for message in result.error_messages:
            reason = "doesn't have the type that the role wants" if hidden else str(message).rstrip(".")
            kind = option.get("type", "str")
            problems.append(f"{name}: {reason}: set it to a value of type {kind} as in the role's README.md")
    return problems


def secret_variables(specifications: Mapping[str, object]) -> list[str]:
    """The secrets that the roles require: options of main, required, marked no_log or named like a secret.

    specifications: role -> the content of its argument_specs. Returns their names, sorted.
    """
    return [
        name
        for name, option in sorted(_required(specifications).items())
        if option.get("no_log") or _SECRET.fullmatch(name)
    ]


def _required(specifications: Mapping[str, object]) -> dict[str, Mapping[str, object]]:
    """The options that an entry point main requires of the inventory: an internal role gets its own from another."""
    mains = [entries.get("main", {}) for entries in specifications.values() if isinstance(entries, Mapping)]
    return {
        str(name): option
        for main in mains
        if not str(main.get("short_description", "")).endswith("(internal)")
        for name, option in (main.get("options") or {}).items()
        if (option or {}).get("required")
    }


def missing_variables(values: Mapping[str, object], specifications: Mapping[str, object]) -> list[str]:
    """Variables that a role requires and the inventory doesn't set, other than secrets.

    values: variable -> rendered value. specifications: role -> its argument_specs; only its entry point main
    counts. Returns sentences, sorted by name.
    """
    secrets = secret_variables(specifications)
    return [
        f"{name} is not set, and its role needs it: set it in the inventory"
        for name in sorted(_required(specifications))
        if values.get(name) is None and name not in secrets
    ]


def chosen_roles(specifications: Mapping[str, object], settings: Mapping[str, object]) -> dict[str, object]:
    """The roles that do anything: of one whose source is none, nothing is wanted.

    specifications: role -> its argument_specs. settings: variable -> rendered value; for ROLE_source, none leaves the
    role out. Returns the specifications of the others.
    """
    return {
        role: entries for role, entries in specifications.items() if settings.get(f"{role}_source") != "none"
    }


def source_problems(settings: Mapping[str, object]) -> list[str]:
    """Whether what comes from a vendor has the vendor's repository, and what comes from a file has the file.

    settings: variable -> rendered value; NAME_source that is vendor needs NAME_repository where there is such a
    variable, since no host of a repository stands in a role; one that is path needs NAME_path. Logstash and Filebeat
    have repositories of their own, and Filebeat sends to nothing but Logstash. Returns sentences with the remedy,
    sorted by name.
    """
    needs = {"vendor": ("_repository", _FROM_VENDOR), "path": ("_path", _FROM_FILE)}
    problems = []
    for name, value in sorted(settings.items()):
        needed, remedy = _LOG_NEEDS.get((name, str(value)), ((), ""))
        if name.endswith("_source") and value in needs:
            ending, remedy = needs[str(value)]
            needed = (name.removesuffix("_source") + ending,)
        if any(one in settings for one in needed) and not any(settings.get(one) for one in needed):
            empty = " and ".join(needed) + (" are" if len(needed) > 1 else " is")
            problems.append(f"{name} is {value}, but {empty} empty: {remedy}, or choose another source")
    collector = settings.get("log_collector_source", "logstash")
    if settings.get("log_shipper_source") == "filebeat" and collector != "logstash":
        problem = f"log_shipper_source is filebeat, which sends to Logstash, but log_collector_source is {collector}"
        problems.append(f"{problem}: set it to logstash, or log_shipper_source to rsyslog")
    return problems


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {
            "chosen_roles": chosen_roles,
            "cidr_problems": cidr_problems,
            "label_problems": label_problems,
            "manager_problems": manager_problems,
            "missing_variables": missing_variables,
            "network_problems": network_problems,
            "placement_labels": placement_labels,
            "secret_variables": secret_variables,
            "source_problems": source_problems,
            "unknown_variables": unknown_variables,
            "variable_problems": variable_problems,
        }
