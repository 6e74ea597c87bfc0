"""What the rooms say about their logs, for the tests of them."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("roles/*/files/log/log.yml"))
LOGS = [yaml.safe_load(path.read_text()) for path in FILES]
PATTERNS = "\n".join(path.read_text() for path in sorted(ROOT.glob("roles/*/files/log/patterns.grok")))
#: Rooms, numbers and sample lines with what is made of them.
SAMPLES = [
    (path.parts[-4], number, sample)
    for path in sorted(ROOT.glob("roles/*/files/log/samples.yml"))
    for number, sample in enumerate(yaml.safe_load(path.read_text()))
]
