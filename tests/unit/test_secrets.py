"""The filter that judges secrets."""

from __future__ import annotations

import random
import string

import pytest
from ansible.errors import AnsibleFilterError
from secret_values import FilterModule, secret_problems

GOOD = "kV8wqZr3TnYb5xHs0LdM"
OTHER = "Jt2fXcGp9RvNa6QeUy4B"


def test_good_secrets_have_no_problem() -> None:
    assert secret_problems({"redis_password": GOOD, "postgres_password": OTHER}) == []


@pytest.mark.parametrize("seed", range(50))
def test_random_values_are_never_called_weak(seed: int) -> None:
    chance = random.Random(seed)
    letters = string.ascii_letters + string.digits
    values = {f"secret_{n}": "".join(chance.choices(letters, k=16 + n)) for n in range(20)}
    assert secret_problems(values) == []


@pytest.mark.parametrize("value", [None, ""])
def test_missing(value: str | None) -> None:
    assert secret_problems({"redis_password": value}) == [
        "redis_password is missing: set it in the inventory's vault",
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("kV8wqZr3TnYb5xH", "shorter than 16"),
        ("change-me-change-me-change-me", "everybody tries first"),
        ("Pa55w0rd-Pa55w0rd-2026", "everybody tries first"),
        ("this-is-an-example-secret", "everybody tries first"),
        ("misago-forum-postgres-1", "everybody tries first"),
        ("aaaaaaaaaaaaaaaaaaaaaaa", "easy to guess"),
        ("abcdefghijklmnopqrstuv", "easy to guess"),
        ("9876543210987654321098", "easy to guess"),
        ("x7Kp2Qw9Rmx7Kp2Qw9Rm", "easy to guess"),
        ("kV8wqZr3TnYb5xHs\n0LdM", "line break"),
        ("kV8wqZr3TnYb\x075xHs0LdM", "control character"),
        ("kV8wqZr3:TnYb5xHs0LdM", "connection string"),
        ("kV8wqZr3 TnYb5xHs0LdM", "connection string"),
        ("kV8wqZr3@TnYb'5xHs0LdM", "connection string"),
        ("kV8wqZräTnYb5xHs0LdM", "connection string"),
        ("$ANSIBLE_VAULT;1.1;AES256", "still encrypted"),
        (1234567890123456, "isn't text"),
    ],
)
def test_weak(value: object, reason: str) -> None:
    problems = secret_problems({"redis_password": value})
    assert len(problems) == 1
    assert problems[0].startswith("redis_password ")
    assert reason in problems[0]
    assert str(value) not in problems[0]


def test_free_secrets_take_any_printable_character() -> None:
    secrets = {"misago_admin_password": "correct: horse / battery @ staple"}
    assert secret_problems(secrets, free=["misago_admin_password"]) == []
    assert len(secret_problems(secrets)) == 1


def test_minimum_is_a_parameter() -> None:
    assert len(secret_problems({"misago_secret_key": GOOD}, minimum=50)) == 1


def test_one_value_for_several_secrets() -> None:
    problems = secret_problems({"c": GOOD, "a": GOOD, "b": GOOD, "d": OTHER})
    assert problems == ["a, b and c have the same value: give each secret its own"]


def test_problems_of_several_secrets_come_together() -> None:
    problems = secret_problems({"b": None, "a": "short", "c": GOOD, "d": GOOD})
    assert [problem.split()[0] for problem in problems] == ["a", "b", "c"]


def test_secrets_must_be_a_mapping() -> None:
    with pytest.raises(AnsibleFilterError, match="mapping"):
        secret_problems(["redis_password"])  # type: ignore[arg-type]


def test_filters_are_published() -> None:
    assert set(FilterModule().filters()) == {"secret_problems"}
