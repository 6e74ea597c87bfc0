"""How the stack's Python programs write their log: one JSON line per event, in the names of the Elastic Common Schema.

Nothing that nobody may read comes into a line (veil), whatever a library puts into its messages. A line is written at
once and is no longer than what the kernel keeps together, since several processes write to one pipe.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import re
import sys
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
_RANDOM = r"(?=[^/]*[A-Z])(?=[^/]*[0-9])[A-Za-z0-9_=-]{20,}|[0-9a-f]{32,}"
_SECRET_PATH = re.compile(rf"(?P<link>{_LINK})|(?P<before>.*?/)(?:{_RANDOM}|[^/]*(?:@|%40))", re.DOTALL)
# A decoded path has blanks, in a text they end it.
_RANDOM_WORD = _RANDOM.replace("[^/]", r"[^/\s]")

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
            r"(['\"]?\s{0,9}(?:=>|[=:])\s{0,9}[bru]?)"
            r"(?:'(?:[^'\\]|\\.)*'?|\"(?:[^\"\\]|\\.)*\"?|[^\s,;&'\")}\]]+)",
            re.IGNORECASE | re.DOTALL,
        ),
        rf"\1\2{VEIL}",
    ),
    (re.compile(rf"({_LINK})[^\s\"']+"), rf"\1{VEIL}"),
    (re.compile(rf"/(?:{_RANDOM_WORD})[^\s\"']*"), f"/{VEIL}"),
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
        self.dataset = dataset
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields: dict[str, Any] = {
            "@timestamp": moment(record.created),
            "event.dataset": self.dataset,
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

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the base class's name
        """Tells that a record is lost, and nothing of it: logging's own way would show it as it is."""
        error = sys.exc_info()[0]
        fields = {
            "@timestamp": now(),
            "event.dataset": getattr(self.formatter, "dataset", None),
            "log.level": "error",
            "log.logger": record.name,
            "process.pid": record.process,
            "message": "a record of the log is lost",
            "error.type": error and error.__name__,
        }
        with contextlib.suppress(OSError):
            write(line(fields), self._descriptor)


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


# Quotes in names and comments neither begin nor end a value. A comment within a comment has no end that an expression
# could find.
_LITERAL = re.compile(
    r"""
    (?P<name>"(?:[^"]|"")*")
    | (?P<comment>--[^\n]*|/\*(?:[^/*]|/(?!\*)|\*(?!/))*\*/|/\*.*)
    | (?<![\w$])e'(?:[^'\\]|\\.|'')*'?
    | '(?:[^']|'')*'?
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
    | (?<![\w$])\d+(?:\.\d+)?\b
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
#: Behind these words PostgreSQL and Pgpool show what a client has sent; Pgpool does so in quotes.
_STATEMENT = re.compile(
    r" ms {2}(?:statement|(?:parse|bind|execute) [^:]{0,80}):"
    r"|(?:\bquery was|to parse the query|\bstatement):(?: \")?",
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
    text = record[:_MOST].strip()
    found = _STATEMENT.search(text)
    if not found:
        return _without_words(text)[: LONGEST - 1]
    head, statement, between, answer = text[: found.start()], text[found.end() :], "", ""
    # A value may hold these words, too: only the last ones are Pgpool's, if they haven't been cut off.
    if "from backend" in head and _ANSWER in statement and len(record) <= _MOST:
        statement, between, answer = statement.rpartition(_ANSWER)
    # A comment ends with its line: what is a value is found before the lines become one.
    statement = veil(_on_one_line(_LITERAL.sub(_without_value, statement)))
    return (_without_words(head) + found[0] + statement + between + _without_words(answer))[: LONGEST - 1]


def _without_value(literal: re.Match[str]) -> str:
    return literal["name"] or (" " if literal["comment"] else "?")


def _without_words(text: str) -> str:
    return _STUMBLED.sub(rf'\1"{VEIL}"', veil(_on_one_line(text)))


def _on_one_line(text: str) -> str:
    """The text with a blank for each end of a line and the blanks around it; those at both ends stay."""
    first, *further = text.splitlines() or [""]
    return " ".join([first.rstrip() if further else first, *(line.strip() for line in further)])


# A message's further lines begin with a tabulator.
_END = re.compile(rb"\n(?!\t)")
#: What is longer is no message any more, and cut.
LONGEST_MESSAGE = 256 * 1024


class Reader:
    """Takes a database's log as it comes, and tells the messages that are whole.

    torn: what comes first is the rest of a message, which isn't told.
    """

    def __init__(self, torn: bool = False) -> None:
        self._held = b""
        self._skipping = torn

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


def carry(descriptor: int, show: Callable[[str], str | None] = without_values) -> threading.Thread:
    """Read a database's log to its end, in a thread of its own, and write what is to be shown of each message.

    descriptor: the end of a pipe. show: a message's line, None for none. Returns the thread, which ends with the log.
    Whatever else happens, the log is read on: who writes it waits for that.
    """
    log = logging.getLogger(__name__)

    def tell(message: str) -> None:
        try:
            if shown := show(message):
                write(shown)
        except Exception:
            log.exception("a message of the log is lost")

    def run() -> None:
        reader = Reader()
        while True:
            try:
                if not (data := os.read(descriptor, 65536)):
                    return
                for message in reader.feed(data):
                    tell(message)
            except OSError:
                log.exception("the log can't be read any more")
                return
            except Exception:
                log.exception("messages of the log are lost")
                reader = Reader(torn=True)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
