"""The logs' database, asked as an operator's program would."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import requests

from drills.elastic import Elastic, ask
from drills.forum import Account
from drills.lab import ROOT, Lab


def test_the_reader_is_answered_over_tls(lab: Lab) -> None:
    answer = ask(lab, "", lab.logs.reader, method="GET")
    assert answer.status_code == 200
    assert answer.json()["cluster_name"] == "forum-logs"
    assert Elastic(lab).count("*") > 0


def test_nobody_else_is(lab: Lab) -> None:
    for account in (None, Account(lab.logs.reader.username, "wrong"), Account("elastic", "changeme")):
        assert ask(lab, f"{lab.logs.index}/_search", account).status_code == 401
    with pytest.raises(requests.ConnectionError):
        requests.get(lab.logs.url.replace("https", "http"), timeout=30)


def test_the_reader_changes_nothing(lab: Lab) -> None:
    reader = lab.logs.reader
    assert ask(lab, "forum-logs-1999.12.31/_doc", reader, {"line": {"message": "forged"}}).status_code == 403
    assert ask(lab, "forum-logs-2026.01.01", reader, method="DELETE").status_code == 403
    assert ask(lab, "_cluster/settings", reader, method="GET").status_code == 403


def test_a_field_of_every_line_has_its_type(lab: Lab) -> None:
    answer = ask(lab, f"{lab.logs.index}/_field_caps?fields=*", lab.logs.reader, method="GET")
    told = {name: set(kinds) for name, kinds in answer.json()["fields"].items()}
    types = {"@timestamp": "date", "http.response.status_code": "long", "source.ip": "ip", "message": "text"}
    assert {name: told[name] for name in types} == {name: {kind} for name, kind in types.items()}


def test_the_endpoints_name_no_account_that_writes() -> None:
    path = os.environ.get("LAB_ENDPOINTS")
    command = ["make", "-s", "endpoints"]
    text = Path(path).read_text() if path else subprocess.check_output(command, cwd=ROOT, text=True)
    assert json.loads(text)["elasticsearch"].keys() == {"url", "user", "password_file", "index"}
    for account in ("writer", "operator_password", "keeper"):
        assert account not in text
