"""The ways of a log line: what services say about their log, shipper, collector, and the keeper of their spools."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import logstash_pipeline_parser
import pytest
import yaml
from conftest import Rendered, load_file
from stack import stack_fragment

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def keeper() -> ModuleType:
    return load_file(ROOT / "roles" / "log_collector" / "files" / "spool_keeper.py")


def spooled(spool: Path, name: str, ids: Sequence[str], age: float = 600) -> Path:
    """A file of the spool, as the receiver writes it: an empty line before each."""
    file = spool / f"{name}.json"
    file.write_text("".join(f"\n{json.dumps({'event.id': one, 'message': 'x'})}\n" for one in ids))
    os.utime(file, (NOW - age, NOW - age))
    return file


def having(*ids: str) -> Callable[[Sequence[str]], set[str]]:
    """An Elasticsearch that has some ids."""
    return lambda asked: set(asked) & set(ids)


def keep(keeper: ModuleType, spool: Path, known: Callable[[Sequence[str]], set[str]], *bounds: float) -> bool:
    """What the collector's keeper does; whether all is well."""
    collector = keeper.Spool(spool, "collector", "Elasticsearch")
    return bool(keeper.keep(collector, keeper.for_elasticsearch(known), *bounds))


def test_what_elasticsearch_has_goes(keeper: ModuleType, tmp_path: Path) -> None:
    had, waiting = spooled(tmp_path, "1", ["a", "b", "a"]), spooled(tmp_path, "2", ["c", "d"])
    assert keep(keeper, tmp_path, having("a", "b", "c"), 24, 10**6, NOW)
    assert not had.exists()
    assert waiting.exists()


def test_a_file_that_is_being_written_stays(keeper: ModuleType, tmp_path: Path) -> None:
    file = spooled(tmp_path, "1", ["a"], age=30)
    assert keep(keeper, tmp_path, having("a"), 24, 0, NOW)
    assert file.exists()


def test_elasticsearch_is_asked_in_parts(keeper: ModuleType, tmp_path: Path) -> None:
    asked: list[int] = []

    def known(ids: Sequence[str]) -> set[str]:
        asked.append(len(ids))
        return set(ids)

    file = spooled(tmp_path, "1", [str(number) for number in range(9000)])
    assert keep(keeper, tmp_path, known, 24, 10**9, NOW)
    assert asked == [4000, 4000, 1000]
    assert not file.exists()


def test_a_line_that_was_broken_off_holds_nothing_up(
    keeper: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = spooled(tmp_path, "1", ["a"])
    with file.open("a") as end:
        end.write('\n{"event.id": "b", "mess')
    os.utime(file, (NOW - 600, NOW - 600))
    assert keep(keeper, tmp_path, having("a"), 24, 10**6, NOW)
    assert not file.exists()
    assert "event=not_a_line" in capsys.readouterr().out


def test_nothing_goes_while_elasticsearch_is_away(keeper: ModuleType, tmp_path: Path) -> None:
    def away(_: Sequence[str]) -> set[str]:
        raise keeper.UnknownError("connection refused")

    file = spooled(tmp_path, "1", ["a"])
    assert not keep(keeper, tmp_path, away, 24, 10**6, NOW)
    assert file.exists()


@pytest.mark.parametrize(
    ("age", "hours", "size", "gone"),
    [(7200, 1, 10**6, ["1", "2"]), (600, 1, 10**6, []), (600, 1, 50, ["1"]), (600, 1, 0, ["1", "2"])],
)
def test_what_is_too_old_or_too_much_goes_and_is_told(
    keeper: ModuleType, tmp_path: Path, age: float, hours: float, size: int, gone: list[str]
) -> None:
    for name in ("1", "2"):
        spooled(tmp_path, name, [name], age=age)
    assert keep(keeper, tmp_path, having(), hours, size, NOW) is not bool(gone)
    told = list(tmp_path.glob("*-keeper.json"))
    assert sorted({"1", "2"} - {path.stem for path in tmp_path.glob("*.json")}) == gone
    assert len(told) == bool(gone)
    if told:
        line = json.loads(told[0].read_text())
        assert line["service.name"] == "log_collector"
        text = json.loads(line["message"])
        assert (text["event.dataset"], text["forum.lost"]) == ("collector", len(gone))


@pytest.mark.parametrize(("answers", "lost", "words"), [(True, 1, "1 lines"), (False, 3, "up to 3 lines")])
def test_only_what_elasticsearch_lacks_is_told_as_lost(
    keeper: ModuleType, tmp_path: Path, answers: bool, lost: int, words: str
) -> None:
    def away(_: Sequence[str]) -> set[str]:
        raise keeper.UnknownError("connection refused")

    spooled(tmp_path, "1", ["a", "b", "c"])
    assert not keep(keeper, tmp_path, having("a", "c") if answers else away, 24, 0, NOW)
    (told,) = tmp_path.glob("*-keeper.json")
    text = json.loads(json.loads(told.read_text())["message"])
    assert text["forum.lost"] == lost
    assert text["message"].startswith(words)


def test_an_elasticsearch_that_answers_for_too_long_is_asked_no_more(
    keeper: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper.ssl, "create_default_context", lambda cafile: None)
    elastic = keeper.Elastic("https://127.0.0.1:1", "logs", "ca.crt", "reader", "word")
    monkeypatch.setattr(keeper.time, "monotonic", lambda: float("inf"))
    with pytest.raises(keeper.UnknownError, match="more to ask"):
        elastic.known(["a"])


def registry(directory: Path, whole: object, *changes: object) -> Path:
    """Filebeat's registry: all states up to change 2, and the changes since 1, the last of them half written."""
    (directory / "2.json").write_text(json.dumps(whole))
    (directory / "1.json").write_text("[]")
    log = "".join(f"{json.dumps(change)}\n" for change in changes)
    (directory / "log.json").write_text(log + '{"op":"set","id":9}\n{"k":"lines::')
    return directory


def state(file: Path, offset: float | None) -> dict[str, object]:
    return {"meta": {"source": str(file)}, "cursor": None if offset is None else {"offset": offset}}


def test_what_filebeat_has_read_goes(keeper: ModuleType, tmp_path: Path) -> None:
    spool, place = tmp_path / "spool", tmp_path / "registry"
    spool.mkdir()
    place.mkdir()
    a, b, c, d, e = (spooled(spool, name, ["1", "2"]) for name in "abcde")
    end = a.stat().st_size
    registry(
        place,
        [{"_key": "a", **state(a, end)}, {"_key": "b", **state(b, 0)}, {"_key": "c", **state(c, end)}],
        *({"op": "set", "id": 1}, {"k": "a", "v": state(a, 0)}),  # is in 2.json
        *({"op": "set", "id": 3}, {"k": "b", "v": state(b, float(end))}),
        *({"op": "remove", "id": 4}, {"k": "c"}),
        *({"op": "set", "id": 5}, {"k": "d", "v": state(d, end // 2)}),
        *({"op": "set", "id": 6}, {"k": "e", "v": state(e, None)}),
    )
    mine = keeper.Spool(spool, "shipper", "Filebeat", "node-1")
    assert keeper.keep(mine, keeper.for_filebeat(place), 24, 10**6, NOW)
    assert sorted(spool.iterdir()) == [c, d, e]
    # Of what has to go, a line is lost when Filebeat hasn't read it.
    assert not keeper.keep(mine, keeper.for_filebeat(place), 24, 0, NOW)
    (told,) = spool.iterdir()
    line = json.loads(told.read_text())
    assert (line["service.name"], line["host.name"]) == ("log_shipper", "node-1")
    text = json.loads(line["message"])
    assert (text["event.dataset"], text["forum.lost"]) == ("shipper", 5)


@pytest.mark.parametrize("log", [None, "not JSON\n{}\n", '{"op":"set","id":1}\n{"k":"a","v":[1]}\n'])
def test_nothing_goes_while_the_registry_cant_be_read(
    keeper: ModuleType, tmp_path: Path, log: str | None
) -> None:
    spool, place = tmp_path / "spool", tmp_path / "registry"
    spool.mkdir()
    place.mkdir()
    file = spooled(spool, "1", ["a"])
    if log:
        (place / "log.json").write_text(log)
    mine = keeper.Spool(spool, "shipper", "Filebeat", "node-1")
    assert not keeper.keep(mine, keeper.for_filebeat(place), 24, 10**6, NOW)
    assert file.exists()


def test_services_log_to_the_shippers_socket_and_never_wait() -> None:
    own = {"image": "i", "logging": {"driver": "none"}}
    made = stack_fragment({"a": {"image": "i"}, "b": own}, {}, {}, {}, {}, log_socket="/run/x")["services"]
    options = made["a"]["logging"]["options"]
    assert made["a"]["logging"]["driver"] == "syslog"
    assert (options["syslog-address"], options["mode"]) == ("unixgram:///run/x", "non-blocking")
    assert made["b"]["logging"] == {"driver": "none"}
    assert "logging" not in stack_fragment({"a": {"image": "i"}}, {}, {}, {}, {})["services"]["a"]


@pytest.mark.parametrize(
    ("tag", "parts"),
    [
        ("forum_redis-0.1.0ibdepx8jqq8o3dzx3c9t2cga/0123456789ab", ("redis-0", "0ibdepx8jqq8o3dzx3c9t2cga")),
        ("forum_relay.x7k2.0ibdepx8jqq8o3dzx3c9t2cga/0123456789ab", ("relay", "0ibdepx8jqq8o3dzx3c9t2cga")),
        ("other_redis.1.0ibdepx8jqq8o3dzx3c9t2cga/0123456789ab", None),
        ("builder/0123456789ab", None),
    ],
)
def test_the_shipper_finds_service_and_task_in_the_tag(tag: str, parts: tuple[str, str] | None) -> None:
    text = (ROOT / "roles/log_shipper/templates/rsyslog.conf.j2").read_text()
    found = re.search(r'set swarm = "\^" ~ stack_name ~ "(.*)\\\\\$" %', text)
    assert found
    match = re.fullmatch("forum" + found[1], tag)
    assert (match and match.groups()[:2]) == parts


def shipper(role_renderer: Callable[..., Rendered], source: str) -> Rendered:
    return role_renderer(
        "log_shipper",
        log_shipper_source=source,
        inventory_hostname="node-1",
        monitoring_address="192.0.2.14",
        vendor_package_program="/usr/bin/filebeat",
    )


def test_the_shipper_sends_by_relp_or_writes_what_filebeat_reads(
    role_renderer: Callable[..., Rendered],
) -> None:
    sends, writes = (shipper(role_renderer, source)("rsyslog.conf.j2") for source in ("rsyslog", "filebeat"))
    for text in (sends, writes):
        assert 'socket="/run/forum-log/socket" unlink="off"' in text
        assert text.count('ruleset(name="deliver"') == 1
        # A line, and the sign of life.
        assert text.count("call deliver") == 2
    assert 'target="192.0.2.14" port="20514"' in sends
    assert "omfile" not in sends
    assert "omrelp" not in writes
    (path,) = re.findall(r'template\(name="minute" type="string" string="(.*)/.*\.json"\)', writes)
    settings = yaml.safe_load(shipper(role_renderer, "filebeat")("filebeat.yml.j2"))
    (source,) = settings["filebeat.inputs"]
    assert source["paths"] == [f"{path}/*.json"]
    # By inode, a new minute's file could be taken for one that was read and removed.
    assert "file_identity.path" in source
    assert settings["queue.disk"] == {"max_size": "512MB"}


def test_filebeat_sends_to_the_collector_alone_and_shows_who_it_is(
    role_renderer: Callable[..., Rendered],
) -> None:
    settings = yaml.safe_load(shipper(role_renderer, "filebeat")("filebeat.yml.j2"))
    assert [name for name in settings if name.startswith("output.")] == ["output.logstash"]
    output = settings["output.logstash"]
    assert output["hosts"] == ["192.0.2.14:5044"]
    files = "/etc/forum/log_shipper"
    assert output["ssl"] == {
        "verification_mode": "full",
        "certificate_authorities": [f"{files}/ca.crt"],
        "certificate": f"{files}/tls.crt",
        "key": f"{files}/tls.key",
    }


def test_the_keeper_reads_the_registry_that_filebeat_writes(role_renderer: Callable[..., Rendered]) -> None:
    render = shipper(role_renderer, "filebeat")
    (data,) = re.findall(r"--path\.data (\S+)", render("log_filebeat.service.j2"))
    unit = render("log_filebeat_keeper.service.j2")
    assert f"--registry {data}/registry/filebeat " in unit
    assert f"{128 * 1024**2} filebeat" in unit


def collector(role_renderer: Callable[..., Rendered], **given: object) -> Rendered:
    return role_renderer(
        "log_collector",
        monitoring_address="192.0.2.14",
        log_collector_source="logstash",
        log_collector_shippers=["log_shipper-node-1", "log_shipper-node.2"],
        elasticsearch_writer_password="the writer's",
        **given,
    )


def sections(pipeline: str) -> dict[str, dict[str, dict[str, str]]]:
    """Inputs and outputs of a pipeline of Logstash, by their names, with the first value of each setting."""
    parsed = logstash_pipeline_parser.Pipeline(pipeline).parse()
    return {
        section: {name: {key: str(value) for key, (value, *_) in settings} for name, settings in plugins}
        for section, plugins in parsed
        if section != "filter"
    }


@pytest.mark.parametrize("ships", ["rsyslog", "filebeat"])
def test_logstash_s_pipeline_can_be_read_and_holds_no_password(
    role_renderer: Callable[..., Rendered], ships: str
) -> None:
    text = collector(role_renderer, log_collector_shipper=ships)("logstash.conf.j2")
    parts = sections(text)
    assert parts["input"]["file"]["path"] == "/var/lib/log_collector/spool/*.json"
    assert ("beats" in parts["input"]) is (ships == "filebeat")
    assert parts["output"]["elasticsearch"]["hosts"] == "['https://192.0.2.14:9200']"
    assert "the writer's" not in text


def test_logstash_takes_lines_of_shippers_alone(role_renderer: Callable[..., Rendered]) -> None:
    text = collector(role_renderer, log_collector_shipper="filebeat")("logstash.conf.j2")
    beats = sections(text)["input"]["beats"]
    assert (beats["host"], beats["port"]) == ("192.0.2.14", "5044")
    assert beats["ssl_client_authentication"] == "required"
    (names,) = re.findall(r"\[subject\] !~ /(\S+)/ \{", text)
    for name, known in (("node-1", True), ("node.2", True), ("node-2", False), ("node-12", False)):
        assert bool(re.search(names, f"CN=log_shipper-{name}")) is known
    assert not re.search(names, "CN=nginx")


@pytest.mark.parametrize(("ships", "queue"), [("rsyslog", "memory"), ("filebeat", "persisted")])
def test_what_filebeat_sent_is_on_logstash_s_disk(
    role_renderer: Callable[..., Rendered], ships: str, queue: str
) -> None:
    render = collector(role_renderer, log_collector_shipper=ships, log_collector_sync=True)
    (settings,) = yaml.safe_load(render("pipelines.yml.j2"))
    assert settings["queue.type"] == queue
    assert settings.get("queue.checkpoint.writes", 1) == 1
    assert settings["dead_letter_queue.enable"] is True


def test_a_password_with_any_signs_reaches_logstash(
    role_renderer: Callable[..., Rendered], tmp_path: Path
) -> None:
    password = "a\"b'c\\d$HOME`e` #f%g"
    render = role_renderer("log_collector", elasticsearch_writer_password=password)
    (tmp_path / "env").write_text(render("logstash.env.j2"))
    # In double quotes, systemd and a shell read the same.
    read = subprocess.check_output(
        ["sh", "-c", '. ./env; printf %s "$FORUM_WRITER_PASSWORD"'], cwd=tmp_path, text=True
    )
    assert read == password
