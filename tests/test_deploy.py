"""The files of deploy/: the commands that they hold are started for real, build a job, and stop."""

from __future__ import annotations

import os
import plistlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from store.backup import read_backup
from tests.services import free_port
from tests.workers.yard import Yard, ended, until

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("wheelfarm-*"))

Pack = Callable[[str], Path]
Command = tuple[list[str], dict[str, str]]


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    return found["services"]  # type: ignore[no-any-return]


def of_compose(name: str) -> Command:
    service = compose()[name]
    return list(service["command"]), dict(service["environment"])


def of_unit(name: str) -> Command:
    text = (DEPLOY / "systemd" / name).read_text()
    (command,) = re.findall(r"(?m)^ExecStart=/opt/wheelfarm/bin/wheelfarm (.*)$", text)
    (line,) = re.findall(r"(?m)^Environment=(.*)$", text)
    return command.split(), dict(each.split("=", 1) for each in line.split())


def of_plist() -> Command:
    with (DEPLOY / "launchd" / "wheelfarm.worker.plist").open("rb") as file:
        table = plistlib.load(file)
    program, *arguments = table["ProgramArguments"]
    assert program == "/opt/wheelfarm/bin/wheelfarm"
    return arguments, {}


@pytest.fixture
def yard(tmp_path: Path, redis_url: str, new_database: str) -> Iterator[Yard]:
    made = Yard(tmp_path, broker=redis_url, database=new_database)
    with made.farm():
        pass
    yield made
    made.close()


def start(yard: Yard, command: Command) -> subprocess.Popen[str]:
    """The command with the places of this test in place of those of the machine to come."""
    arguments, stated = command
    here = {
        "WHEELFARM_STORE": str(yard.settings.store),
        "WHEELFARM_CACHE": str(yard.settings.cache),
        "WHEELFARM_BROKER": str(yard.settings.farm.broker),
        "WHEELFARM_DATABASE": str(yard.settings.database),
    }
    assert set(stated) <= set(here), "a variable that wheelfarm does not read"
    moved = {
        "8484": str(free_port()),
        "0.0.0.0": "127.0.0.1",
        "/var/backups/wheelfarm": str(yard.folder / "backup"),
        "/opt/wheelfarm/etc/wheelfarm.toml": str(yard.settings_file),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHEELFARM_", "XDG_"))}
    with (yard.folder / "deployed.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *(moved.get(each, each) for each in arguments)],
            env=kept | here | {"PYTHONPATH": str(ROOT)}, cwd=yard.folder,
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "workers"),
    [
        (of_compose("server"), [of_compose("worker-1"), of_compose("worker-2")]),
        (of_unit("wheelfarm-server.service"), [of_unit("wheelfarm-worker.service"), of_plist()]),
    ],
    ids=["compose", "units"],
)
def test_its_commands_make_a_farm_that_builds(
    yard: Yard, pack: Pack, server: Command, workers: list[Command]
) -> None:
    processes = [start(yard, command) for command in (server, *workers)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline(), (yard.folder / "deployed.log").read_text()
        with yard.farm() as farm:
            rows = ended(farm, yard.enqueue(farm, pack("pure"), 4))
            assert [row.state for row in rows] == ["succeeded"] * 4
            ready = until(lambda: len(farm.registry.ready()) == 2)
            assert ready
        for process in processes:
            process.send_signal(signal.SIGTERM)
        served, *worked = [process.wait(60) for process in processes]
        assert served in {0, -signal.SIGTERM}  # uvicorn ends by the signal that it was sent
        assert worked == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_the_backup_unit_takes_a_backup(yard: Yard) -> None:
    process = start(yard, of_unit("wheelfarm-backup.service"))
    process.communicate()
    assert process.returncode == 0, (yard.folder / "deployed.log").read_text()
    assert read_backup(yard.folder / "backup").manifest.lost == ()


def test_the_compose_file_has_its_parts() -> None:
    services = compose()
    assert set(services) == {"redis", "postgresql", "server", "worker-1", "worker-2"}
    for name in ("server", "worker-1", "worker-2"):
        build = services[name]["build"]
        folder = DEPLOY / "compose" / build["context"]
        assert (folder / build["dockerfile"]).is_file()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze on this machine")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/wheelfarm/bin/wheelfarm", "/bin/true"))
    done = subprocess.run([program, "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
