"""The figures' database, asked as an operator's program would."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import requests

from drills.forum import Account
from drills.influx import ask
from drills.lab import ROOT, Lab


def test_the_reader_is_answered_over_tls(lab: Lab) -> None:
    answer = ask(lab, "SHOW RETENTION POLICIES", lab.metrics.reader)
    assert answer.status_code == 200
    (policies,) = answer.json()["results"][0]["series"]
    assert {row[0]: row[1] for row in policies["values"]} == {"full": "336h0m0s", "year": "8736h0m0s"}


def test_nobody_else_is(lab: Lab) -> None:
    assert ask(lab, "SHOW MEASUREMENTS", None).status_code == 401
    assert ask(lab, "SHOW MEASUREMENTS", Account(lab.metrics.reader.username, "wrong")).status_code == 401
    with pytest.raises(requests.ConnectionError, match="without response"):
        requests.get(lab.metrics.url.replace("https", "http") + "/ping", timeout=30)


def test_the_endpoints_name_no_account_that_writes() -> None:
    path = os.environ.get("LAB_ENDPOINTS")
    command = ["make", "-s", "endpoints"]
    text = Path(path).read_text() if path else subprocess.check_output(command, cwd=ROOT, text=True)
    assert json.loads(text)["influxdb"].keys() == {"url", "database", "user", "password_file"}
    assert "writer" not in text
    assert "influxdb_admin" not in text
