"""An image's name changes when, and only when, what it is made of changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from images import TURNS, Image, context_hash, image_set


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    for name, content in {
        "telegraf/files/program/Dockerfile": "ARG DEBIAN\nFROM ${DEBIAN}\n",
        "component/files/base/Dockerfile": "ARG DEBIAN\nFROM ${DEBIAN}\n",
        "redis/files/image/Dockerfile": "ARG BASE=base-trixie\nFROM ${BASE}\n",
        "misago/files/image/Dockerfile": "ARG BASE=base-bookworm\nFROM ${BASE}\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(content)
    return tmp_path


def tags(images: dict[str, Image]) -> dict[str, str]:
    return {name: str(image["reference"]).rpartition(":")[2] for name, image in images.items()}


def test_a_context_is_known_by_its_content(roles: Path) -> None:
    context = roles / "redis/files/image"
    before = context_hash(str(context))
    (context / "Dockerfile").touch()
    (context / "__pycache__").mkdir()
    (context / "__pycache__/x.pyc").write_text("compiled")
    assert context_hash(str(context)) == before
    (context / "start").write_text("#!/bin/sh\n")
    with_start = context_hash(str(context))
    assert with_start != before
    (context / "start").chmod(0o755)
    assert context_hash(str(context)) != with_start


def test_an_ingredient_counts(roles: Path) -> None:
    context = str(roles / "redis/files/image")
    assert context_hash(context, "debian:trixie-slim") != context_hash(context, "debian:bookworm-slim")


def test_an_empty_context_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnsibleFilterError, match="no build context"):
        context_hash(str(tmp_path))


def test_what_others_start_from_comes_before_them(roles: Path) -> None:
    images = image_set(["redis", "misago"], str(roles), "192.0.2.1:5000/forum", [])
    assert list(images) == ["telegraf-program", "base-bookworm", "base-trixie", "redis", "misago"]
    assert images["misago"]["from"] == {"BASE": images["base-bookworm"]["reference"]}
    assert images["base-trixie"]["from"] == {
        "DEBIAN": "debian:trixie-slim",
        "TELEGRAF": images["telegraf-program"]["reference"],
    }
    built: set[str] = set()
    for turn in TURNS:
        batch = {name: image for name, image in images.items() if image["turn"] == turn}
        for image in batch.values():
            assert isinstance(image["from"], dict)
            assert {one for one in image["from"].values() if not one.startswith("debian:")} <= built
        built |= {str(image["reference"]) for image in batch.values()}
    assert len(built) == len(images)


def test_tags_do_not_depend_on_the_registry(roles: Path) -> None:
    one = image_set(["redis"], str(roles), "192.0.2.1:5000/forum", [])
    other = image_set(["redis"], str(roles), "registry.example:443/forum", [])
    assert tags(one) == tags(other)


def test_a_changed_base_or_authority_changes_every_image(roles: Path, tmp_path: Path) -> None:
    before = tags(image_set(["redis", "misago"], str(roles), "r/f", []))
    (roles / "component/files/base/extra").write_text("more")
    after = tags(image_set(["redis", "misago"], str(roles), "r/f", []))
    assert {name for name in before if before[name] == after[name]} == {"telegraf-program"}
    authority = tmp_path / "ca.crt"
    authority.write_text("certificate")
    trusting = tags(image_set(["redis", "misago"], str(roles), "r/f", [str(authority)]))
    assert all(after[name] != trusting[name] for name in after)


def test_another_telegraf_changes_every_image(roles: Path) -> None:
    before = tags(image_set(["redis", "misago"], str(roles), "r/f", []))
    (roles / "telegraf/files/program/Dockerfile").write_text("ARG DEBIAN\nFROM ${DEBIAN}\nARG VERSION=2\n")
    after = tags(image_set(["redis", "misago"], str(roles), "r/f", []))
    assert all(before[name] != after[name] for name in before)


def test_a_telegraf_that_is_given_is_added_to_its_context_alone(roles: Path, tmp_path: Path) -> None:
    built = image_set(["redis"], str(roles), "r/f", [])
    program = tmp_path / "telegraf-1.39"
    program.write_bytes(b"program")
    given = image_set(["redis"], str(roles), "r/f", [], str(program))
    assert [image["added"] for image in given.values()] == [
        [{"place": "given/telegraf", "file": str(program)}],
        [],
        [],
    ]
    program.write_bytes(b"another program")
    another = image_set(["redis"], str(roles), "r/f", [], str(program))
    assert all(len({tags(one)[name] for one in (built, given, another)}) == 3 for name in built)


def test_authorities_are_added_to_all_but_the_components(roles: Path, tmp_path: Path) -> None:
    authority = tmp_path / "site.crt"
    authority.write_text("certificate")
    images = image_set(["redis"], str(roles), "r/f", [str(authority)])
    added = [{"place": "ca/site.crt", "file": str(authority)}]
    assert [image["added"] for image in images.values()] == [added, added, []]


def test_a_file_that_is_missing_is_named(roles: Path) -> None:
    with pytest.raises(AnsibleFilterError, match="/nowhere/telegraf can't be read: No such file"):
        image_set(["redis"], str(roles), "r/f", [], "/nowhere/telegraf")


def test_a_dockerfile_names_its_base(roles: Path) -> None:
    (roles / "redis/files/image/Dockerfile").write_text("FROM debian:latest\n")
    with pytest.raises(AnsibleFilterError, match="must name its base"):
        image_set(["redis"], str(roles), "r/f", [])
