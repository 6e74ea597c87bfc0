"""The lab's action server as an operator's programs call it, and what Slack was told."""

from collections.abc import Mapping
from typing import Any

import requests

from drills.lab import Lab


class ActionServer:
    """What was decided and done about alarms. All methods raise requests.RequestException."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None
    ) -> requests.Response:
        """The answer, whatever its status. token: the caller's, if it isn't the operator."""
        return requests.request(
            method,
            self._lab.action_server.url + path,
            json=body,
            headers={"Authorization": f"Bearer {token or self._lab.action_server.token}"},
            verify=self._lab.ca_file,
            timeout=30,
        )

    def _list(self, path: str) -> Any:
        answer = self.call("GET", path)
        answer.raise_for_status()
        return answer.json()

    def actions(self, target: str, since: float) -> list[dict[str, Any]]:
        """What was done or refused about a service or an address since a time (seconds since the epoch), in order."""
        found = self._list("/history?limit=1000")["actions"]
        return [each for each in reversed(found) if each["target"] == target and each["asked"] >= since]

    def alarms(self, level: str, since: float = 0) -> list[dict[str, Any]]:
        """A level's alarms that were opened since a time (seconds since the epoch); closed is None for an open one."""
        found = self._list("/alarms?limit=1000")
        return [
            each
            for each in (*found["open"], *found["closed"])
            if each["level"] == level and each["opened"] >= since
        ]

    def blocked(self) -> dict[str, dict[str, Any]]:
        """Who is blocked, by address."""
        return {each["address"]: each for each in self._list("/blocked")["blocked"]}

    def told(self, since: float) -> list[str]:
        """What the recorder got in Slack's place since a time (seconds since the epoch), in order."""
        answer = requests.get(self._lab.slack_url, verify=self._lab.ca_file, timeout=30)
        answer.raise_for_status()
        return [each["text"] for each in answer.json() if each["at"] >= since]
