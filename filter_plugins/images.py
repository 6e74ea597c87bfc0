"""Filters that name images after what they are made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

#: What one turn builds, the next ones start from.
TURNS = ("program", "base", "component")

Image = dict[str, Any]


def context_hash(context: str, *ingredients: str) -> str:
    """Hash of a build context, short enough for an image's tag.

    context: path of a directory on the control machine. ingredients: whatever else the image depends on,
    such as the reference of its base image. Returns 16 hexadecimal digits that change with any file's
    path, executable bit or content, and with any ingredient; the time of a file doesn't matter.
    Raises AnsibleFilterError when the directory doesn't exist or holds no file.
    """
    root = Path(context)
    files = sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    if not files:
        raise AnsibleFilterError(f"{context} is no build context: there is no file in it")
    digest = hashlib.sha256()
    for path in files:
        executable = "x" if path.stat().st_mode & 0o100 else "-"
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{executable}\0{len(content)}\0".encode())
        digest.update(content)
    for ingredient in ingredients:
        digest.update(f"\0{ingredient}".encode())
    return digest.hexdigest()[:16]


def _base_name(context: Path) -> str:
    """The base that a Dockerfile names as the default of its argument BASE, such as base-trixie."""
    dockerfile = context / "Dockerfile"
    found = (
        re.search(r"^ARG BASE=(base-[a-z]+)$", dockerfile.read_text(), re.MULTILINE)
        if dockerfile.is_file()
        else None
    )
    if not found:
        raise AnsibleFilterError(f"{dockerfile} must name its base in a line such as ARG BASE=base-trixie")
    return found.group(1)


def _file_hash(path: str) -> str:
    """Hash of a file of the control machine. Raises AnsibleFilterError where there is none."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AnsibleFilterError(f"{path} can't be read: {error.strerror}") from error


def image_set(
    components: Iterable[str], roles_dir: str, repository: str, authorities: Iterable[str], telegraf: str = ""
) -> dict[str, Image]:
    """What there is to build: Telegraf's program, the bases that hold it, then the components.

    components: names of roles. roles_dir: the folder of the roles on the control machine.
    repository: registry and folder, such as 192.0.2.1:5000/forum. authorities: certificates (files of the
    control machine) that the first two kinds trust. telegraf: the program as a file of the control machine;
    nothing for one that is built. Returns for each image its name, its turn in building (TURNS), its
    reference, its context, what is added to that (a list of place in it and file of the control machine),
    and what it starts from (build argument -> reference). Raises AnsibleFilterError for a component without
    a build context, one whose Dockerfile names no base, or a file that can't be read.
    """
    contexts = {component: Path(roles_dir, component, "files", "image") for component in components}
    bases = {component: _base_name(context) for component, context in contexts.items()}
    trusted = [{"place": f"ca/{Path(path).name}", "file": path} for path in authorities]
    given = [{"place": "given/telegraf", "file": telegraf}] if telegraf else []
    images: dict[str, Image] = {}

    def add(
        turn: str, name: str, context: str, made_from: dict[str, str], added: list[dict[str, str]]
    ) -> str:
        # The registry's address is part of a reference, not of what the image is made of.
        ingredients = [reference.removeprefix(f"{repository}/") for reference in made_from.values()]
        contents = [_file_hash(one["file"]) for one in added]
        reference = f"{repository}/{name}:{context_hash(context, *ingredients, *contents)}"
        images[name] = {
            "turn": turn, "reference": reference, "context": context, "added": added, "from": made_from
        }  # fmt: skip
        return reference

    debian = {"DEBIAN": "debian:trixie-slim"}
    program = add(
        "program", "telegraf-program", f"{roles_dir}/telegraf/files/program", debian, trusted + given
    )
    for name in sorted(set(bases.values())):
        made_from = {"DEBIAN": f"debian:{name.removeprefix('base-')}-slim", "TELEGRAF": program}
        add("base", name, f"{roles_dir}/component/files/base", made_from, trusted)
    for component, path in contexts.items():
        base = str(images[bases[component]]["reference"])
        add("component", component, str(path), {"BASE": base}, [])
    return images


class FilterModule:
    """The filters of this file, as Ansible looks for them."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Names and functions."""
        return {"context_hash": context_hash, "image_set": image_set}
