#!/usr/bin/python3 -IS
"""Blocks addresses at this edge node: sets of the kernel's packet filter whose elements end by themselves, and a list.

The list is what a restart, another node and an operator are told from; for every address it has the newest entry.
Two nodes' lists are merged by the entries' time `at`, whatever came in between, in any order and any number of times.

usage: forum-blocklist block ADDRESS [--at TIME] [--seconds N] [--reason TEXT] [--by NAME] [--dry-run]
       forum-blocklist allow ADDRESS [--at TIME] [--reason TEXT] [--by NAME] [--dry-run]
       forum-blocklist merge [--dry-run]   another node's list, as `list` prints it, comes by the input
       forum-blocklist list
       forum-blocklist restore             makes the packet filter's table anew from the list

Prints one JSON object. Ends with 0, also when it refuses ({"refused": REASON}, and nothing is changed), and with 1 and
{"error": REASON} when something fails. TIME is as in 2026-11-26T20:00:00.000Z.
"""

import argparse
import contextlib
import fcntl
import ipaddress
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

SETTINGS = Path("/etc/forum-blocklist.json")
LIST = Path("/var/lib/forum-blocklist/list.json")
NFT, IP = "/usr/sbin/nft", "/usr/sbin/ip"
TABLE = "inet forum_blocklist"
#: Seconds that the clock of whoever asks may be ahead: an entry of the future would outlive every later one.
AHEAD = 60
#: Characters of a reason and of a name, and addresses of a list, which is as large as the kernel's sets.
LONGEST, MOST = 200, 65536

#: What the kernel says of a table that isn't there.
MISSING = "No such file or directory"

#: Whatever the settings say.
NEVER = {
    "0.0.0.0/8": "unspecified",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}

# Before Docker's translation of addresses (-100) and before connections are followed (-200), so that every packet is
# looked at, also one of a connection that was there before.
RULES = f"""add table {TABLE}
delete table {TABLE}
table {TABLE} {{
  counter ipv4 {{ }}
  counter ipv6 {{ }}
  set ipv4 {{ type ipv4_addr; flags timeout; size {MOST}; }}
  set ipv6 {{ type ipv6_addr; flags timeout; size {MOST}; }}
  chain prerouting {{
    type filter hook prerouting priority -310; policy accept;
    ip saddr @ipv4 counter name ipv4 drop
    ip6 saddr @ipv6 counter name ipv6 drop
  }}
}}
"""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RefusedError(Exception):
    """What was asked for is not done; the text says why."""


class Entry(NamedTuple):
    """What is known of one address. The order of the fields is the order of entries: the greatest one holds.

    at: when it was reported or allowed; until: when its block ends, the same as at when it was allowed; offences: how
    many are remembered, 0 when it was allowed.
    """

    at: str
    until: str
    offences: int
    reason: str
    by: str


class Settings(NamedTuple):
    """How long a block lasts, and who is never blocked.

    seconds: the first time; factor: how much longer each further offence within memory_days makes it;
    maximum_seconds: never longer. allowed: networks.
    """

    seconds: int
    factor: int
    maximum_seconds: int
    memory_days: int
    allowed: list[str]

    def length(self, offences: int) -> int:
        """Seconds of a block. offences: how many there are with this one, 1 or more."""
        # The power alone could be a number of a million digits.
        longer: int = self.factor ** min(offences - 1, 64)
        return min(self.maximum_seconds, self.seconds * longer)


Entries = dict[str, Entry]


def text_of(moment: datetime) -> str:
    """A time as entries have it, in UTC and milliseconds: texts are in the order of the times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(text: object) -> datetime:
    """The time that a text says. Raises RefusedError."""
    try:
        moment = datetime.fromisoformat(str(text))
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise RefusedError(f"{str(text)[:40]!r} is no time: write it as 2026-11-26T20:00:00.000Z") from None


def address_of(text: object) -> Address:
    """The single address that a text says; one of IPv4 in the form of IPv6 is the one of IPv4. Raises RefusedError."""
    try:
        address = ipaddress.ip_address(str(text))
    except ValueError:
        kind = "a network, and only a single address can be blocked" if "/" in str(text) else "no address"
        raise RefusedError(f"{str(text)[:60]!r} is {kind}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise RefusedError(f"{str(text)[:60]!r} is an address of one link")
        return address.ipv4_mapped or address
    return address


def own_networks() -> dict[str, str]:
    """The addresses of this machine, and the networks of its bridges, behind which containers are."""
    shown = subprocess.run([IP, "-json", "address"], check=True, capture_output=True)
    found = {}
    for interface in json.loads(shown.stdout):
        bridge = Path("/sys/class/net", str(interface.get("ifname")), "bridge").exists()
        for address in interface.get("addr_info", []):
            length = f"/{address['prefixlen']}" if bridge else ""
            found[str(ipaddress.ip_interface(address["local"] + length).network)] = "an address of this node"
    return found


def guard(address: Address, networks: Mapping[str, str]) -> None:
    """Raise RefusedError for an address that must never be blocked. networks: each with what it is."""
    for text, kind in networks.items():
        if address in ipaddress.ip_network(text):
            raise RefusedError(f"{address} is never blocked: {kind} ({text})")


def entry_of(fields: Mapping[str, Any], networks: Mapping[str, str], settings: Settings) -> tuple[str, Entry]:
    """The address and the entry that another node tells. Raises RefusedError for what this program never makes."""
    address = address_of(fields.get("address"))
    at, until = moment_of(fields.get("at")), moment_of(fields.get("until"))
    offences = fields.get("offences")
    if type(offences) is not int or (offences > 0) != (until > at):
        raise RefusedError(f"{address} has {str(offences)[:40]!r} offences")
    if not timedelta() <= until - at <= timedelta(seconds=settings.maximum_seconds):
        raise RefusedError(f"{address} would be blocked for {(until - at).total_seconds():g} s")
    if until > at:
        guard(address, networks)
    return str(address), Entry(
        text_of(at), text_of(until), offences, words(fields.get("reason")), words(fields.get("by"))
    )


def words(text: object) -> str:
    """A reason or a name: what can be printed, on one line, and not too much of it."""
    return "".join(c if c.isprintable() else " " for c in str(text or ""))[:LONGEST].strip()


def reported(
    old: Entry | None, at: datetime, seconds: int | None, reason: str, by: str, settings: Settings
) -> Entry:
    """The entry of an address that was reported. seconds: of the block; None for what the offences make of it.

    A report of an address that is blocked is one of the same offence, and its block begins anew.
    """
    offences = 1
    if old and old.offences:
        ended = moment_of(old.until)
        if ended > at:
            offences = old.offences
        elif ended + timedelta(days=settings.memory_days) > at:
            offences = old.offences + 1
    length = settings.length(offences) if seconds is None else seconds
    until = at + timedelta(seconds=length)
    if seconds is None and old:
        until = max(until, moment_of(old.until))
    return Entry(text_of(at), text_of(until), offences, reason, by)


def remembered(entries: Entries, now: datetime, settings: Settings) -> Entries:
    """Those that still count, in the order of their addresses."""
    since = text_of(now - timedelta(days=settings.memory_days))
    return {address: entry for address, entry in sorted(entries.items()) if entry.until > since}


def merged(one: Entries, other: Entries) -> Entries:
    """Of each address the entry that came last."""
    both = one | other
    return {address: max(entry, one[address]) if address in one else entry for address, entry in both.items()}


def told(address: str, entry: Entry, now: datetime) -> dict[str, object]:
    """An entry as it is printed, with the seconds that are left of its block."""
    left = (moment_of(entry.until) - now).total_seconds()
    return {"address": address, **entry._asdict(), "seconds_left": max(0, round(left))}


def elements(addresses: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The name of the set that each address is in, and the address."""
    for address in addresses:
        yield ("ipv6" if ":" in address else "ipv4"), address


def commands(entries: Mapping[str, Entry], now: datetime) -> str:
    """What brings the kernel's sets up to date for these addresses, whatever they held, in one transaction."""
    lines = []
    for name, address in elements(entries):
        left = int((moment_of(entries[address].until) - now).total_seconds() * 1000)
        # There is no command that removes one that may not be there, nor, before Linux 6.12, one for a new time-out.
        lines.append(f"add element {TABLE} {name} {{ {address} }}")
        lines.append(f"delete element {TABLE} {name} {{ {address} }}")
        if left > 0:
            lines.append(f"add element {TABLE} {name} {{ {address} timeout {left}ms }}")
    return "".join(f"{line}\n" for line in lines)


def table(entries: Mapping[str, Entry], now: datetime) -> str:
    """What makes the whole table anew."""
    blocked = {address: entry for address, entry in entries.items() if entry.until > text_of(now)}
    return RULES + commands(blocked, now)


def nft(script: str) -> str:
    """Hand one transaction to the kernel. Returns what is wrong with it; empty when it was carried out."""
    if not script:
        return ""
    done = subprocess.run([NFT, "--file", "-"], input=script, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or f"nft ended with {done.returncode}") if done.returncode else ""


class Blocklist:
    """The list of this node, and the packet filter that follows it."""

    def __init__(self, path: Path, settings: Settings, now: datetime) -> None:
        self.path = path
        self.settings = settings
        self.now = now
        self.entries = self.read()

    def read(self) -> Entries:
        """The list. One that can't be read is set aside: better an empty one than no block from now on."""
        try:
            fields = json.loads(self.path.read_bytes())["entries"]
            return {str(entry.pop("address")): Entry(**entry) for entry in fields}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.path.replace(self.path.with_suffix(".broken"))
            print(f"{self.path} can't be read and is now called list.broken: {error}", file=sys.stderr)
            return {}

    @property
    def checksum(self) -> str:
        """Tells two lists apart."""
        return f"{zlib.crc32(json.dumps(sorted(self.entries.items())).encode()):08x}"

    def write(self) -> None:
        """Keep the list, whole or as it was, whatever ends this machine."""
        fields = [{"address": address, **entry._asdict()} for address, entry in self.entries.items()]
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"entries": fields}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def take(self, news: Entries, *, dry: bool) -> bool:
        """Take up entries, in the list first and then in the kernel. Returns whether the list is another one now.

        What the list has already is told to the kernel again, so that a run that ended in between is made up for.
        Raises OSError, with what the kernel says.
        """
        now = remembered(merged(self.entries, news), self.now, self.settings)
        if len(now) > MOST:
            raise RefusedError(f"the list has {MOST} addresses and takes no more")
        changed = any(now.get(address) != self.entries.get(address) for address in news)
        if dry:
            return changed
        dropped, self.entries = now != self.entries, now
        if dropped:
            self.write()
        touched = {address: now[address] for address in news if address in now}
        if (wrong := nft(commands(touched, self.now))) and MISSING in wrong:
            # Somebody has flushed all rules.
            wrong = nft(table(now, self.now))
        if wrong:
            raise OSError(f"the list has it, but the packet filter doesn't: {wrong}")
        return changed


@contextlib.contextmanager
def opened(path: Path, settings: Settings) -> Iterator[Blocklist]:
    """The list, once nobody else is at work on it."""
    with path.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Blocklist(path, settings, datetime.now(UTC))


def never(settings: Settings) -> dict[str, str]:
    """Networks that are never blocked, each with what it is."""
    return NEVER | dict.fromkeys(settings.allowed, "the settings allow it") | own_networks()


def wanted(options: argparse.Namespace, old: Entry | None, blocklist: Blocklist) -> Entry:
    """The entry that a block or an allow makes. old: what is known of the address. Raises RefusedError."""
    settings, now = blocklist.settings, blocklist.now
    at = moment_of(options.at) if options.at else now
    reason, by = words(options.reason), words(options.by)
    if at > now + timedelta(seconds=AHEAD):
        raise RefusedError(f"{text_of(at)} is yet to come: see that the clocks agree")
    if old and old.at == text_of(at):
        # Asked before.
        return old
    if old and old.at > text_of(at):
        if (options.command == "block") == (old.until > text_of(now)):
            return old
        how = f"blocked until {old.until}" if old.offences else "allowed"
        raise RefusedError(f"{options.address} was {how} at {old.at}, which is later than {text_of(at)}")
    if options.command == "allow":
        return old if old and not old.offences else Entry(text_of(at), text_of(at), 0, reason, by)
    if options.seconds is not None and not 0 < options.seconds <= settings.maximum_seconds:
        raise RefusedError(f"a block lasts from 1 to {settings.maximum_seconds} s, not {options.seconds}")
    entry = reported(old, at, options.seconds, reason, by, settings)
    if entry.until <= text_of(now):
        raise RefusedError(f"a block of {options.address} from {entry.at} would be over since {entry.until}")
    return entry


def change(options: argparse.Namespace, blocklist: Blocklist) -> dict[str, object]:
    """Block or allow an address."""
    address = address_of(options.address)
    if options.command == "block":
        guard(address, never(blocklist.settings))
    text, now = str(address), blocklist.now
    old = blocklist.entries.get(text)
    entry = wanted(options, old, blocklist)
    changed = blocklist.take({text: entry}, dry=options.dry_run)
    return {
        "changed": changed,
        "before": told(text, old, now) if old else None,
        "entry": told(text, entry, now),
        "checksum": blocklist.checksum,
    }


def merge(options: argparse.Namespace, blocklist: Blocklist) -> dict[str, object]:
    """Take up what another node's list has and this one hasn't."""
    try:
        fields = json.load(sys.stdin)["entries"]
        if not isinstance(fields, list) or not all(isinstance(entry, dict) for entry in fields):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise RefusedError('what comes by the input is no list: {"entries": [...]}') from None
    networks, soon = never(blocklist.settings), text_of(blocklist.now + timedelta(seconds=AHEAD))
    news: Entries = {}
    ignored = []
    for entry in fields:
        try:
            address, given = entry_of(entry, networks, blocklist.settings)
            if given.at > soon:
                raise RefusedError(f"{address} has an entry of {given.at}, which is yet to come")
        except RefusedError as error:
            ignored.append(str(error))
            continue
        known = [e for e in (news.get(address), blocklist.entries.get(address)) if e]
        if all(given > e for e in known):
            news[address] = given
    changed = blocklist.take(remembered(news, blocklist.now, blocklist.settings), dry=options.dry_run)
    return {"changed": changed, "learned": sorted(news), "ignored": ignored, **listed(blocklist)}


def listed(blocklist: Blocklist) -> dict[str, object]:
    """All entries, also of those that are blocked no more but would be for longer the next time."""
    now = blocklist.now
    return {
        "entries": [told(address, entry, now) for address, entry in blocklist.entries.items()],
        "checksum": blocklist.checksum,
    }


def dropped() -> dict[str, int]:
    """Packets that were dropped since the table was made, by the version of IP; empty when there is no table."""
    shown = subprocess.run(
        [NFT, "--json", "list", "counters", "table", *TABLE.split()],
        capture_output=True,
        check=False,
    )
    parts = json.loads(shown.stdout)["nftables"] if shown.returncode == 0 else []
    counters = [part["counter"] for part in parts if "counter" in part]
    return {counter["name"]: counter["packets"] for counter in counters}


def restore(blocklist: Blocklist) -> dict[str, object]:
    """Make the table anew, without what the settings allow by now."""
    networks = NEVER | dict.fromkeys(blocklist.settings.allowed, "the settings allow it")
    kept = remembered(blocklist.entries, blocklist.now, blocklist.settings)
    for address in list(kept):
        try:
            guard(address_of(address), networks)
        except RefusedError:
            del kept[address]
    if kept != blocklist.entries:
        blocklist.entries = kept
        blocklist.write()
    if wrong := nft(table(kept, blocklist.now)):
        raise OSError(wrong)
    return {"blocked": sum(entry.until > text_of(blocklist.now) for entry in kept.values())}


def run(options: argparse.Namespace, blocklist: Blocklist) -> dict[str, object]:
    """Do what was asked for. Raises RefusedError, OSError and what the programs that are called raise."""
    if options.command == "list":
        return {**listed(blocklist), "dropped": dropped()}
    if options.command == "merge":
        return merge(options, blocklist)
    if options.command == "restore":
        return restore(blocklist)
    return change(options, blocklist)


class Parser(argparse.ArgumentParser):
    """Refuses as everything else is refused."""

    def error(self, message: str) -> NoReturn:
        """Raise RefusedError."""
        raise RefusedError(message)


def asked_for(arguments: list[str]) -> argparse.Namespace:
    """The command and its options. Raises RefusedError."""
    parser = Parser(prog="forum-blocklist", allow_abbrev=False)
    kinds = parser.add_subparsers(dest="command", required=True)
    for name in ("block", "allow", "merge", "list", "restore"):
        command = kinds.add_parser(name, allow_abbrev=False)
        if name in ("block", "allow"):
            command.add_argument("address")
            for option in ("--at", "--reason", "--by"):
                command.add_argument(option, default="")
        if name == "block":
            command.add_argument("--seconds", type=int)
        if name in ("block", "allow", "merge"):
            command.add_argument("--dry-run", action="store_true")
    return parser.parse_args(arguments)


def main() -> int:
    """Run the program."""
    answer: dict[str, object]
    try:
        options = asked_for(sys.argv[1:])
        settings = Settings(**json.loads(SETTINGS.read_bytes()))
        with opened(LIST, settings) as blocklist:
            answer = run(options, blocklist)
    except RefusedError as refused:
        answer = {"changed": False, "refused": str(refused)}
    except (OSError, ValueError, TypeError, subprocess.CalledProcessError) as error:
        answer = {"changed": False, "error": str(error)}
    print(json.dumps(answer))
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
