"""A program from its vendor's repository, from Debian, and from a file."""

from __future__ import annotations

import pytest
from role_lab import Run
from testinfra.host import Host


@pytest.fixture(scope="module")
def monitor(machines: dict[str, Host]) -> Host:
    return machines["monitor"]


def test_the_vendor_s_comes_from_the_signed_repository(monitor: Host) -> None:
    assert monitor.check_output("/usr/bin/trial-program") == "from the vendor"
    described = monitor.file("/etc/apt/sources.list.d/trial-vendor.sources").content_string
    assert "file:/srv/trial-vendor" in described
    assert "Signed-By: /srv/trial-vendor/key.asc" in described


def test_the_version_that_is_wanted_comes_and_stays(monitor: Host) -> None:
    assert monitor.package("trial-program").version == "1.0"
    assert "Candidate: 1.0" in monitor.check_output("apt-cache policy trial-program")


def test_another_version_takes_its_place(ansible: Run, monitor: Host) -> None:
    try:
        assert ansible("converge.yml", trial_version="2.0").returncode == 0
        assert monitor.package("trial-program").version == "2.0"
    finally:
        monitor.check_output("apt-get purge -y trial-program")
        assert ansible("converge.yml").returncode == 0
    assert monitor.package("trial-program").version == "1.0"


def test_debian_s_comes_with_its_companion(monitor: Host) -> None:
    assert monitor.package("hello").is_installed
    assert monitor.package("bc").is_installed


def test_a_file_is_a_program_that_root_owns(monitor: Host) -> None:
    program = monitor.file("/usr/local/bin/trial-file")
    assert (program.user, program.group, program.mode) == ("root", "root", 0o755)


def test_it_says_where_the_program_is(ansible: Run) -> None:
    shown = ansible("converge.yml").stdout
    assert "program=/usr/local/bin/trial-file there=True" in shown


def test_a_dry_run_says_that_it_is_not_there(ansible: Run, monitor: Host) -> None:
    monitor.check_output("rm /usr/local/bin/trial-file")
    assert "program=/usr/local/bin/trial-file there=False" in ansible("converge.yml", "--check").stdout
    assert ansible("converge.yml").returncode == 0


@pytest.mark.parametrize("missing", ["python3-debian", "the repository"])
def test_a_dry_run_without_the_vendor_s_repository_says_that_its_program_is_not_there(
    ansible: Run, monitor: Host, missing: str
) -> None:
    monitor.check_output("apt-get purge -y trial-program")
    monitor.check_output("rm /etc/apt/sources.list.d/trial-vendor.sources")
    if missing == "python3-debian":
        monitor.check_output("apt-get purge -y python3-debian")
    monitor.check_output("apt-get update")
    try:
        dry = ansible("converge.yml", "--check")
        assert dry.returncode == 0, dry.stdout
        assert "program=/usr/bin/trial-program there=False" in dry.stdout
        assert not monitor.package("trial-program").is_installed
    finally:
        assert ansible("converge.yml").returncode == 0
    assert monitor.check_output("/usr/bin/trial-program") == "from the vendor"


def test_an_unknown_source_is_refused_and_nothing_is_changed(ansible: Run) -> None:
    refused = ansible("converge.yml", vendor_package_source="somewhere")
    assert refused.returncode != 0
    assert "value of vendor_package_source must be one of: vendor, debian, path" in refused.stdout
    assert "changed=0" in refused.stdout
