"""The command line: `wheelfarm COMMAND`. One file for each command, imported when it is called."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Final, NoReturn

import click

from store.errors import WheelfarmError
from workers.errors import SystemTroubleError
from workers.interrupts import interrupts_as_such

COMMANDS: Final = {
    "adopt": "Take wheels that an index has, verified, into the channel upstream.",
    "attach": "Follow a submission to a farm again.",
    "audit": "List who changed what in a store and its farm.",
    "backup": "Copy rows, blobs and keys of a store into a folder.",
    "build": "Build sdists into verified wheels for one or more targets.",
    "cancel": "Cancel a submission or a job of a farm.",
    "disown": "Take releases back, with all that was built with them.",
    "explain": "Say where a wheel comes from, what was found in it, and whom it serves.",
    "export": "Write one fingerprint's wheels to a folder for --find-links or nginx.",
    "fingerprint": "Measure an interpreter and print its fingerprint; compare two.",
    "fsck": "Read every blob and row of the store, and mend what can be mended.",
    "gc": "Drop what nothing keeps, free what nothing names.",
    "index-url": "Print the index URL for the environment of an interpreter.",
    "jobs": "List the jobs of a farm.",
    "key": "Make, list, replace and hand out the keys that the store signs with.",
    "lock": "Pin one fingerprint's wheels for pip and uv: pylock.toml and hashed requirements.",
    "log": "Print the log of a job, or follow it.",
    "pin": "Keep wheels from the garbage collection; list the pins.",
    "promote": "Have releases of one channel in another one, for a reason.",
    "restore": "Make a store of a backup.",
    "retry": "Try failed or cancelled jobs again.",
    "serve": "Serve the store to installers, and the farm to its clients.",
    "status": "Say of a whole project that it is archived, deprecated or quarantined.",
    "token": "Make, list and revoke the tokens of a server's users.",
    "unpin": "Leave pinned wheels to the rules of their channel again.",
    "verify": "Hold a wheel's tags against its bytes.",
    "why": "Say why a job is not running.",
    "worker": "Take the jobs of a farm that this machine can do.",
    "workers": "List the workers of a farm, drain or readmit one.",
    "yank": "Hide releases from installers that do not pin them.",
}
"""Command name -> its one-line help. Its code is `workers/cli/NAME.py`, as `command`."""


class _Commands(click.Group):
    """Finds a command's module by its name when it is asked for, so that start-up stays short."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"workers.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wheelfarm", prog_name="wheelfarm")
def root() -> None:
    """Build sdists for exact targets, prove the wheels, serve them by fingerprint.

    Exit status: 0 done; 1 a wheel was refused or could not be built; 2 wrong usage or
    configuration; 3 trouble with the farm.
    """


def main() -> NoReturn:
    """Run the command line; every error of ours becomes code, sentence, hint and exit status."""
    try:
        with interrupts_as_such():
            status = root.main(standalone_mode=False)
    except WheelfarmError as error:
        _report(error)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except OSError as error:  # standard output on a full disk, for one: where no code is to blame
        trouble = SystemTroubleError(str(error)[:300], hint="is a disk full, or a file in the way?")
        _report(trouble)
        sys.exit(trouble.exit_status)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _report(error: WheelfarmError) -> None:
    if "--json" in sys.argv and not isinstance(error, SystemTroubleError):
        click.echo(json.dumps({"error": error.to_json()}))
        return
    click.echo(f"error[{error.code}]: {error.message}", err=True)
    if error.hint:
        click.echo(f"  hint: {error.hint}", err=True)
