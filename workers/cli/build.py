"""`wheelfarm build`: sdists in, verified wheels in the store, here or on a farm."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import click

from store.channel import parse_channel
from store.errors import UsageError
from workers.cli.asking import remote_desk, submitter
from workers.cli.following import quietly, visibly
from workers.cli.options import jobs_option
from workers.cli.result_files import ResultFiles, result_options
from workers.matrix import Watcher
from workers.outcome import Outcome, exit_status
from workers.plan import Call, WantedTarget
from workers.requirements import Asked, Wanted, WantedCheckout, WantedTree, read_wanted
from workers.run import forecast, run
from workers.settings import Settings, load_settings
from workers.targets import BuildTarget, resolve_identity, resolve_target

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Build sdists into verified wheels for one or more targets.")
@click.argument("wanted", nargs=-1, metavar="[NAME==VERSION | SDIST | FOLDER | git+URL]...")
@click.option(
    "-r",
    "--requirement",
    "files",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="A requirements file of exact pins, or a pylock.toml. Repeatable.",
)
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    default=["native"],
    show_default=True,
    help="native, native:/path/to/python, macos-11.0-arm64:cp311, or a name from wheelfarm.toml. "
    "Repeatable.",
)
@click.option(
    "--channel",
    help="Publish to this channel: release, or dev/NAME. Without it, index sdists pinned by hash "
    "go to release, others to dev/unpinned, files and folders to dev/local, commits to dev/vcs.",
)
@click.option("--refresh", is_flag=True, help="Resolve build requirements afresh.")
@click.option("--retry", is_flag=True, help="Build also what is remembered to have failed.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be built and what cannot be; build nothing."
)
@click.option(
    "--farm",
    "farm_url",
    metavar="URL",
    help="Submit to the farm of this server and follow it, instead of building here.",
)
@click.option(
    "--priority",
    type=click.IntRange(-1000, 1000),
    default=0,
    show_default=True,
    help="Higher is sooner, on a farm.",
)
@result_options
@jobs_option("builds run")
@click.option(
    "--index-url", metavar="URL", help="The simple index of sdists and build requirements."
)
@click.option("--settings", "settings_file", type=_FILE, help="Another wheelfarm.toml.")
@click.option("--store", "store_option", type=_FOLDER, help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end, nothing else.")
def command(
    *,
    wanted: tuple[str, ...],
    files: tuple[Path, ...],
    targets: tuple[str, ...],
    channel: str | None,
    refresh: bool,
    retry: bool,
    dry_run: bool,
    farm_url: str | None,
    priority: int,
    junit: Path | None,
    summary: Path | None,
    jobs: int,
    index_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> int:
    """Build sdists into verified wheels, for every target, and publish them in the store.

    What the store has already is a hit and is not built. With --farm (or farm.url in the settings,
    or $WHEELFARM_FARM) a farm does it, and this command follows; interrupting it leaves the farm at
    work. Exit status: 0 everything is in the store; 1 something was refused or could not be built;
    2 wrong usage; 3 trouble with the farm.
    """
    settings = load_settings(file=settings_file, store=store_option)
    server = farm_url or (None if store_option else settings.farm.url)
    if index_url:
        settings = _with_index(settings, index_url, server)
    asked = read_wanted(wanted, files)
    if not asked:
        raise UsageError("nothing to build", hint="name NAME==VERSION, an sdist, or -r FILE")
    call = Call(
        wanted=_packed(asked, settings),
        targets=(),
        submitter=submitter(),
        channel=parse_channel(channel) if channel else None,
        refresh=refresh,
        retry=retry,
        nice=-priority,
    )
    names = list(dict.fromkeys(targets))
    results = ResultFiles(junit=junit, summary=summary)
    if server:
        # Imported here: a build on this machine starts without the farm's client.
        from workers.cli.on_farm import build_on_farm  # noqa: PLC0415

        aimed = dataclasses.replace(call, targets=_aims(names, settings))
        desk = remote_desk(server, settings)
        return build_on_farm(desk, aimed, results, dry_run=dry_run, as_json=as_json)
    resolved = tuple(resolve_target(word, settings) for word in names)
    aims = tuple(WantedTarget(name=each.name, target=each.target) for each in resolved)
    aimed = dataclasses.replace(call, targets=aims)
    if dry_run:
        from workers.cli.plans import show_plan  # noqa: PLC0415

        return show_plan(list(forecast(aimed, resolved, settings)), as_json=as_json)
    outcomes = _here(aimed, resolved, settings, jobs, as_json=as_json)
    results.write(outcomes)
    return exit_status(outcomes)


def _packed(asked: Sequence[Asked], settings: Settings) -> tuple[Wanted, ...]:
    """What is asked for, with an sdist in the place of every folder and commit."""
    if not any(isinstance(one, (WantedTree, WantedCheckout)) for one in asked):
        return asked  # type: ignore[return-value]
    # Imported here: most runs build nothing before they plan.
    from workers.trees import packed  # noqa: PLC0415

    return packed(asked, settings, lambda line: click.echo(line, err=True))


def _with_index(settings: Settings, index_url: str, server: str | None) -> Settings:
    if server:
        raise UsageError(
            "a farm takes sdists from its own index", hint="leave --index-url, or build without it"
        )
    return dataclasses.replace(settings, index_url=index_url)


def _aims(names: Sequence[str], settings: Settings) -> tuple[WantedTarget, ...]:
    """The targets by what they are: a farm needs no toolchain of this machine."""
    return tuple(WantedTarget(name=word, target=resolve_identity(word, settings)) for word in names)


def _here(
    call: Call, targets: tuple[BuildTarget, ...], settings: Settings, jobs: int, *, as_json: bool
) -> list[Outcome]:
    def build(watcher: Watcher) -> list[Outcome]:
        return run(call, targets, settings, processes=jobs, watcher=watcher)

    return quietly(build) if as_json else visibly([each.name for each in targets], build)
