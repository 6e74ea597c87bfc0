"""What every role keeps to: the same checks for all, so that a new room can't forget one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
DOCKERFILES = sorted((ROOT / "roles").rglob("Dockerfile"))
TEMPLATES = sorted((ROOT / "roles").glob("*/templates/**/*.j2"))
TASK_FILES = sorted(
    path for folder in ("tasks", "handlers") for path in (ROOT / "roles").glob(f"*/{folder}/*.yml")
)

# Templates that are no file of configuration: a part that another one imports, or a text for the screen.
PARTS = {
    "misago/templates/environment.j2",
    "component/templates/probe.conf.j2",
    "log_shipper/templates/deliver_by_filebeat.conf.j2",
    "log_shipper/templates/deliver_by_rsyslog.conf.j2",
}
# Machines made of containers run systemd, so they start as root; nothing runs in what others copy from or build upon.
ROOT_IMAGES = {
    "lab_node/files/image/Dockerfile",
    "component/files/base/Dockerfile",
    "telegraf/files/program/Dockerfile",
}
# Names of hosts from which packages or images come; a client knows its own.
REGISTRIES = re.compile(
    r"(?:pypi\.org|pythonhosted\.org|deb\.debian\.org|security\.debian\.org|ftp\.debian\.org|registry\.npmjs\.org"
    r"|docker\.io/|docker\.com/|ghcr\.io|quay\.io|gcr\.io|proxy\.golang\.org|repo1?\.maven\.org|galaxy\.ansible\.com)"
)
SECRET_LITERALS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    re.compile(r"\bxox[abpr]-[A-Za-z0-9-]{10,}"),
)
PASSWORD_VALUE = re.compile(
    r"^\s*[\w-]*(?:password|passphrase|secret|token)[ \t]*[:=][ \t]*[\"']?(?P<value>[^\s\"'#{}\[\]$,|>]{6,})",
    re.IGNORECASE | re.MULTILINE,
)
SOURCES = (".cfg", ".conf", ".env", ".ini", ".j2", ".json", ".py", ".sh", ".toml", ".yaml", ".yml", "")


def name_of(path: Path) -> str:
    """A file's place in the repository, for a test's name."""
    return path.relative_to(ROOT / "roles").as_posix()


def load(path: Path) -> Any:
    """A YAML file's content; an empty mapping where there is none."""
    return (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def tracked() -> list[Path]:
    """The files that belong to the repository, as git lists them."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Instruction and its arguments, continued lines joined, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, rest = line.strip().partition(" ")
            yield instruction.upper(), rest.strip()


by_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
by_dockerfile = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)


@by_role
def test_defaults_are_what_the_specification_says(role: Path) -> None:
    specification = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    options = {
        name: option
        for entry in specification.values()
        for name, option in (entry.get("options") or {}).items()
    }
    defaults = load(role / "defaults" / "main.yml")
    optional = {name for name, option in options.items() if not option.get("required")}
    assert set(defaults) == optional
    differing = [name for name in optional if options[name].get("default") != defaults[name]]
    assert differing == [], "the specification tells another default than the role has"


@by_role
def test_options_are_described_and_named_for_the_role(role: Path) -> None:
    for entry in load(role / "meta" / "argument_specs.yml")["argument_specs"].values():
        assert entry.get("short_description")
        for name, option in (entry.get("options") or {}).items():
            assert option.get("description"), f"{name} has no description"
            assert option.get("type"), f"{name} has no type"
            assert option.get("required") or name.startswith(f"{role.name}_"), f"{name} has another prefix"


def test_every_entry_that_is_used_refuses_bad_variables() -> None:
    playbooks = [*(ROOT / "playbooks").rglob("*.yml"), *TASK_FILES]
    used = {
        match.groups()
        for path in playbooks
        for match in re.finditer(r"^ +name: (\w+)\n +tasks_from: (\w+)$", path.read_text(), re.MULTILINE)
    }
    assert ("misago", "release") in used
    specified = {
        (role.name, entry)
        for role in ROLES
        for entry in load(role / "meta" / "argument_specs.yml")["argument_specs"]
    }
    assert used - specified == set()


@by_role
def test_every_default_has_a_comment(role: Path) -> None:
    path = role / "defaults" / "main.yml"
    if not path.is_file():
        pytest.skip("no defaults")
    commented = False
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            commented = True
        elif not line.strip():
            commented = False
        elif re.match(r"\w+:", line):
            assert commented, f"{line.split(':')[0]} has no comment"


@by_role
def test_meta(role: Path) -> None:
    meta = load(role / "meta" / "main.yml")
    assert meta["galaxy_info"]["license"] == "MIT"
    assert meta["galaxy_info"]["description"]
    assert meta["dependencies"] == []


def test_readmes_are_generated() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "role_readmes.py"), "--check"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("template", TEMPLATES, ids=name_of)
def test_configuration_is_headed_by_ansible_managed(template: Path) -> None:
    if name_of(template) in PARTS or template.name.endswith(".txt.j2"):
        pytest.skip("no file of configuration")
    head = template.read_text().splitlines()[:2]
    assert any("{{ ansible_managed }}" in line for line in head)


@pytest.mark.parametrize("path", TASK_FILES, ids=name_of)
def test_only_templates_are_headed_so(path: Path) -> None:
    # Elsewhere Ansible knows no such variable.
    assert "ansible_managed" not in path.read_text()


@pytest.mark.parametrize("path", TASK_FILES, ids=name_of)
def test_tasks_are_named_after_their_file(path: Path) -> None:
    def named(tasks: list[dict[str, Any]]) -> Iterator[str]:
        for task in tasks:
            yield str(task.get("name", ""))
            for part in ("block", "rescue", "always"):
                yield from named(task.get(part) or [])

    prefix = f"{path.stem} | " if path.parent.name == "tasks" else ""
    for name in named(load(path) or []):
        assert name.startswith(prefix), f"{name!r} doesn't start with {prefix!r}"
        assert name[len(prefix) :][:1].isupper(), f"{name!r} doesn't go on with a capital"


@by_dockerfile
def test_images_start_from_the_base_they_are_given(dockerfile: Path) -> None:
    lines = list(instructions(dockerfile))
    first = [instruction for instruction, _ in lines].index("FROM")
    assert {instruction for instruction, _ in lines[:first]} == {"ARG"}
    given = {f"${{{rest.partition('=')[0]}}}" for _, rest in lines[:first]}
    stages: set[str] = set()
    for instruction, rest in lines:
        if instruction == "FROM":
            image, _, stage = rest.partition(" AS ")
            assert image in given | stages, f"FROM {rest} names an image"
            stages.add(stage.strip())


@by_dockerfile
def test_images_are_never_the_latest(dockerfile: Path) -> None:
    assert ":latest" not in dockerfile.read_text()


@by_dockerfile
def test_images_hold_no_more_packages_than_named(dockerfile: Path) -> None:
    for instruction, rest in instructions(dockerfile):
        if instruction == "RUN" and "apt-get install" in rest:
            for command in re.split(r"&&|;", rest):
                assert "apt-get install" not in command or "--no-install-recommends" in command
            assert "rm -rf /var/lib/apt/lists/*" in rest


@by_dockerfile
def test_images_run_as_the_unprivileged_user(dockerfile: Path) -> None:
    if name_of(dockerfile) in ROOT_IMAGES:
        pytest.skip("a machine or a base")
    users = [rest for instruction, rest in instructions(dockerfile) if instruction == "USER"]
    assert users, "no USER"
    assert users[-1] == "app"


@by_dockerfile
def test_images_copy_and_never_add(dockerfile: Path) -> None:
    for instruction, rest in instructions(dockerfile):
        assert instruction != "ADD", f"ADD {rest}: use COPY"
        assert not re.search(r"\b(?:curl|wget)\b.*https?://", rest), "downloads by hand"


@by_dockerfile
def test_images_hold_no_secret(dockerfile: Path) -> None:
    for instruction, rest in instructions(dockerfile):
        if instruction in ("ARG", "ENV"):
            names = re.findall(r"(\w+)=", rest) or [rest.split()[0]]
            secret = [name for name in names if re.search(r"PASSWORD|SECRET|TOKEN|KEY$", name)]
            assert secret == [], f"{instruction} {secret}: an image's history tells it to everybody"


def test_no_file_names_a_registry() -> None:
    found = []
    for path in tracked():
        if path == Path(__file__) or path.suffix not in (*SOURCES, ".md", ".lock", ".txt"):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if REGISTRIES.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_file_holds_a_secret() -> None:
    found = []
    for path in tracked():
        where = path.relative_to(ROOT)
        if path == Path(__file__) or path.suffix not in SOURCES or where.parts[0] in ("tests", "molecule"):
            continue
        text = path.read_text(errors="replace")
        found += [f"{where}: {pattern.pattern}" for pattern in SECRET_LITERALS if pattern.search(text)]
        if path.suffix in (".yml", ".yaml", ".env", ".ini", ".conf", ".cfg"):
            found += [
                f"{where}: {match[0].strip()[:60]}"
                for match in PASSWORD_VALUE.finditer(text)
                if where.name != "argument_specs.yml" and "example" not in where.suffixes[-1]
            ]
    assert found == []
