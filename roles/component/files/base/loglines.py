"""How the stack's Python programs write their log: one JSON line per event, in the names of the Elastic Common Schema.

Nothing that nobody may read comes into a line (veil), whatever a library puts into its messages. A line is written at
once and is no longer than what the kernel keeps together, since several processes write to one pipe.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

#: PIPE_BUF: what is longer may be mixed up with the lines of other processes.
LONGEST = 4096
#: Characters of what a client has chosen, such as its name or the path it asks for.
LONGEST_TEXT = 512
VEIL = "***"
_TRACE = "error.stack_trace"
_SHORTEST = 64
_MOST = 4 * LONGEST

# Ways that end in a secret: links of Misago's e-mails, and files that only who knows their address may see. What
# follows the first secret is left out, too. nginx.conf.j2 has the same ones.
_LINK = (
    r"(?:/{1,9}(?:activation|forgotten-password|api/{1,9}auth/{1,9}change-password|notifications/{1,9}disable-email)"
    r"/{1,9}[0-9]+|/{1,9}options/{1,9}change-(?:email|password)|/{1,9}a(?:/{1,9}thumb)?)/{1,9}(?=[^/])"
)
# Misago writes no capitals into its paths: a long word that has them and digits is random, as are many hexadecimal
# digits.
_RANDOM = r"(?=[^/\s]*[A-Z])(?=[^/\s]*[0-9])[A-Za-z0-9_=-]{20,}|[0-9a-f]{32,}"
_SECRET_PATH = re.compile(rf"(?P<link>{_LINK})|(?P<before>\S*?/)(?:{_RANDOM}|[^/]*(?:@|%40))")

# Each of them passes through a text once, whatever the text: clients choose parts of it.
_SCREENS: tuple[tuple[re.Pattern[str], str], ...] = (
    # What PostgreSQL adds to an error is made of the row or of the statement.
    (re.compile(r"\b(DETAIL|CONTEXT|QUERY|STATEMENT|PARAMETERS|LINE \d+): .*"), rf"\1: {VEIL}"),
    (re.compile(r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*://)[^\s/@'\"]*@", re.IGNORECASE), rf"\1{VEIL}@"),
    (re.compile(r"(?<![\w.%+-])[\w.%+-]+(?:@|%40)[\w-]+(?:\.[\w-]+)+"), VEIL),
    (re.compile(r"(?<=[\w/=])\?[^\s\"'<>]+"), rf"?{VEIL}"),
    (re.compile(r"\b(pbkdf2_\w+|argon2\w*|bcrypt\w*|scrypt|SCRAM-SHA-256|md5)\$[^\s'\",)]+"), rf"\1${VEIL}"),
    (re.compile(r"\b((?:set-)?cookie|authorization)(\W{1,4})[^\n]+", re.IGNORECASE), rf"\1\2{VEIL}"),
    (
        re.compile(
            r"(password|passwd|passphrase|secret|token|sessionid|api_?key)"
            r"(['\"]?\s{0,9}(?:=>|[=:])\s{0,9}[bru]?['\"]?)[^\s,;&'\")}\]]+",
            re.IGNORECASE,
        ),
        rf"\1\2{VEIL}",
    ),
    (re.compile(rf"({_LINK})[^\s\"']+"), rf"\1{VEIL}"),
    (re.compile(rf"/(?:{_RANDOM})[^\s\"']*"), f"/{VEIL}"),
)

_known: set[str] = set()


def hide(values: Iterable[str]) -> None:
    """Name the program's own secrets, which no line may hold. Short ones would hide what only looks like them."""
    _known.update(value for value in values if len(value) >= 8)


def veil(text: str) -> str:
    """The text with stars for what nobody may read in a log.

    That are the program's own secrets; passwords, tokens and cookies behind their name or in an address; hashes of
    passwords; e-mail addresses; queries of paths; and what PostgreSQL tells of a row or a statement.
    """
    # More has no room in a line, and would take its time.
    text = text if len(text) <= _MOST else text[: _MOST // 2] + text[-_MOST // 2 :]
    for value in _known:
        text = text.replace(value, VEIL)
    for pattern, instead in _SCREENS:
        text = pattern.sub(instead, text)
    return text


def path(target: str) -> str:
    """The decoded path of a request's target without its query; stars from the first secret on; cut to LONGEST_TEXT."""
    shown = re.split(r"[?#]", unquote(target[:_MOST].partition("?")[0], errors="replace"), maxsplit=1)[0]
    # In the words of the expression above: whatever comes first ends it.
    found = _SECRET_PATH.match(shown)
    if found:
        shown = (found["link"] or found["before"]) + VEIL
    return shown[:LONGEST_TEXT]


def line(fields: Mapping[str, Any]) -> str:
    """The fields as JSON on one line; None and '' are left out.

    What is too long for a line is cut: first of all a stack trace, whose end tells most, then the longest text.
    """
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    while len(text := json.dumps(given, separators=(",", ":"))) >= LONGEST:
        texts = {name: len(value) for name, value in given.items() if isinstance(value, str)}
        name = max(texts, key=lambda name: (name == _TRACE and texts[name] > _SHORTEST, texts[name]))
        keep = max(min(_SHORTEST, texts[name] - 1), texts[name] - max(len(text) - LONGEST, texts[name] // 8))
        given[name] = given[name][-keep:] if name == _TRACE else given[name][:keep]
    return text


def now() -> str:
    """The time, in UTC."""
    return moment(datetime.datetime.now(tz=datetime.UTC).timestamp())


def moment(seconds: float) -> str:
    """A time in seconds since the epoch, as Elasticsearch takes it."""
    shown = datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).isoformat(timespec="milliseconds")
    return shown.replace("+00:00", "Z")


class JsonLines(logging.Formatter):
    """Writes each record as one JSON line.

    dataset: its event.dataset. context: returns fields that hold for all that is said now, such as the request's id.
    A record may have fields of its own: extra={"ecs": {...}}.
    """

    def __init__(self, dataset: str, context: Callable[[], Mapping[str, Any]] = dict) -> None:
        super().__init__()
        self._dataset = dataset
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, Any] = {
            "@timestamp": moment(record.created),
            "event.dataset": self._dataset,
            "log.level": record.levelname.lower(),
            "log.logger": record.name,
            "process.pid": record.process,
            **self._context(),
            "message": veil(record.getMessage()),
        }
        if record.exc_info and record.exc_info[0]:
            fields["error.type"] = record.exc_info[0].__name__
            fields["error.message"] = veil(str(record.exc_info[1]))
            fields[_TRACE] = veil(self.formatException(record.exc_info))
        return line({**fields, **getattr(record, "ecs", {})})


class OneWrite(logging.Handler):
    """Gives each line to the kernel in one piece. descriptor: the open file; 1 is what Docker reads."""

    def __init__(self, descriptor: int = 1) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record's line; a pipe that is gone is no reason to end."""
        try:
            write(self.format(record), self._descriptor)
        except Exception:  # noqa: BLE001 (as logging's own handlers)
            self.handleError(record)


def write(text: str, descriptor: int = 1) -> None:
    """Writes one line to an open file. Raises OSError."""
    rest = text.encode(errors="replace") + b"\n"
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def configure(dataset: str, level: int = logging.INFO) -> None:
    """Lets all of Python's logging in this process write such lines, instead of whatever did before."""
    handler = OneWrite()
    handler.setFormatter(JsonLines(dataset))
    logging.basicConfig(level=level, handlers=[handler], force=True)


_LITERAL = re.compile(r"'(?:[^']|'')*'?|\$(\w*)\$.*?(?:\$\1\$|$)|(?<![\w$])\d+(?:\.\d+)?\b")
#: Behind these words PostgreSQL and Pgpool show what a client has sent.
_STATEMENT = re.compile(
    r"(?: ms {2}(?:statement|(?:parse|bind|execute) [^:]*):|\bquery was:|to parse the query:|\bstatement:)",
    re.IGNORECASE,
)

# Between a statement and what PostgreSQL says of it, where Pgpool shows both.
_ANSWER = '" message: "'
# Behind these words an error shows what it stumbled over; names stand behind what they are the name of.
_STUMBLED = re.compile(r"((?:at or near|:|\bvalue|\btoken) )\".*")


def without_values(record: str) -> str:
    """A database's message on one line, with question marks for the values in a statement that it shows.

    record: all lines of the message. The values are what visitors have typed: addresses, posts, passwords' hashes.
    """
    text = re.sub(r"\s*\n\s*", " ", record[:_MOST].strip())
    found = _STATEMENT.search(text)
    if not found:
        return _without_words(text)[: LONGEST - 1]
    head, statement, between, answer = text[: found.end()], text[found.end() :], "", ""
    # A value may hold these words, too: only the last ones are Pgpool's, if they haven't been cut off.
    if "from backend" in head and _ANSWER in statement and len(record) <= _MOST:
        statement, between, answer = statement.rpartition(_ANSWER)
    return (_without_words(head) + _LITERAL.sub("?", statement) + between + _without_words(answer))[
        : LONGEST - 1
    ]


def _without_words(text: str) -> str:
    return _STUMBLED.sub(rf'\1"{VEIL}"', veil(text))


# A message's further lines begin with a tabulator.
_END = re.compile(rb"\n(?!\t)")
#: What is longer is no message any more, and cut.
LONGEST_MESSAGE = 256 * 1024


class Reader:
    """Takes a database's log as it comes, and tells the messages that are whole."""

    def __init__(self) -> None:
        self._held = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """The messages that are whole now."""
        *messages, self._held = _END.split(self._held + data)
        too_long = len(self._held) > LONGEST_MESSAGE
        if too_long:
            messages.append(self._held)
            self._held = b""
        told = []
        for message in messages:
            # The rest of one that was cut, and lines without the one that begins it, would show values.
            if message.strip() and not self._skipping and not message.startswith(b"\t"):
                told.append(message.decode(errors="replace"))
            self._skipping = False
        self._skipping = self._skipping or too_long
        return told


def carry(descriptor: int, show: Callable[[str], str | None] = without_values) -> None:
    """Read a database's log to its end, in a thread of its own, and write what is to be shown of each message.

    descriptor: the end of a pipe. show: a message's line, None for none. Whatever happens, the log is read on: who
    writes it waits for that.
    """

    def run() -> None:
        reader = Reader()
        while data := os.read(descriptor, 65536):
            for message in reader.feed(data):
                try:
                    if shown := show(message):
                        write(shown)
                except Exception:
                    logging.getLogger(__name__).exception("a message of the log is lost")

    threading.Thread(target=run, daemon=True).start()
