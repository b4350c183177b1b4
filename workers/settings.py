"""`wheelfarm.toml`, the environment and the options of a call, read into one frozen record.

An option beats the environment, the environment beats the file, the file beats the default.
Every key is documented in docs/settings.md; an unknown one is an error, since a misspelt setting
that is silently ignored builds the wrong thing.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from packaging.utils import canonicalize_name

from store.access import Anonymous
from store.channel import (
    ANY_DEV,
    RELEASE,
    UPSTREAM,
    Channel,
    Inheritance,
    parse_channel,
    parse_inherited,
)
from store.errors import MalformedError
from store.fingerprint import parse_fingerprint
from store.provenance import Recipe
from workers.admission import parse_pattern
from workers.errors import SettingsError
from workers.trust import Trust, parse_trust

FILE_NAME: Final = "wheelfarm.toml"
_LARGEST_FILE: Final = 1 << 20
_AT_THE_TOP: Final = {
    "accel-prefix", "blob-redirects", "blobs", "cache", "channels", "database", "epoch", "farm",
    "index-url", "keys", "recipes", "retention", "salts", "server", "store", "targets", "trust",
    "upload", "upstream",
    "worker",
}  # fmt: skip
_LOCATION: Final = re.compile(r"(/[A-Za-z0-9_-]{1,60}){1,8}")

_SALT: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,200}")

_MEMORY: Final = "memory-class"

T = TypeVar("T")
R = TypeVar(
    "R",
    Recipe,
    "ChannelRules",
    "FarmRules",
    "RetentionRules",
    "ServerRules",
    "UploadRules",
    "UpstreamRules",
    "WorkerRules",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedTarget:
    """A ``[targets.NAME]`` table: a target spec, and where the facts of its interpreter lie.

    `python` is the interpreter that runs the backends of a cross build; `headers` an unpacked
    interpreter of the target (its include folder is used), `sdk` a macOS SDK of the user's own.
    """

    spec: str
    python: Path | None = None
    headers: Path | None = None
    sdk: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Salt:
    """A ``[[salts]]`` table: text that makes a class of builds fresh.

    It is part of every BuildKey of `package` (normalised) and `fingerprint`; where one of them is
    None, of all.
    """

    text: str
    package: str | None = None
    fingerprint: str | None = None

    def meets(self, package: str, fingerprint: str) -> bool:
        """Whether it is part of the BuildKeys of that package for that target."""
        return self.package in {None, package} and self.fingerprint in {None, fingerprint}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRules:
    """A ``[channels.NAME]`` table: what garbage collection keeps of a channel, how much it may
    hold, and whose projects it lists beside its own; 0 stands for no rule and no limit.

    `inherit` are channels, in the order in which they are asked. `keep_versions` are the newest
    versions of each project in each index, `keep_days` what was published since; where both are 0
    everything is kept.
    """

    keep_versions: int = 0
    keep_days: int = 0
    quota_mib: int = 0
    inherit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """The ``[retention]`` table: `locks` are the patterns of lock files whose wheels are kept,
    from the settings file's own folder; `grace_hours` is how long nothing is touched; logs of
    failed builds go after `log_days`.
    """

    locks: tuple[str, ...] = ()
    grace_hours: int = 24
    log_days: int = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmRules:
    """The ``[farm]`` table: what all of a farm's planners, workers and servers agree on.

    Times are in whole seconds: how long a lease lasts without a heartbeat, how long a failure is
    remembered, how long a job waits for a worker that can do it. `broker` is the URL of the Redis
    that carries the pokes, None where workers just look. `url` is where the farm's server is, for
    those who submit to it; None builds on this machine. `token` is what they send along.
    """

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    broker: str | None = None
    lease_seconds: int = 60
    failure_ttl_seconds: int = 24 * 3600
    no_worker_seconds: int = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRules:
    """The ``[server]`` table: what `anonymous` may do, who send no token; None for the rule that
    docs/accounts.md gives."""

    anonymous: Anonymous | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRules:
    """The ``[upload]`` table: the `channel` of uploads that name none, never ``release``; and for
    which `targets` sdists are built beside those of the channel."""

    channel: str | None = None
    targets: tuple[str, ...] = ()

    @property
    def default_channel(self) -> Channel:
        """The channel of an upload that names none."""
        return Channel(self.channel or "dev/uploads")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamRules:
    """The ``[upstream]`` table: what of which index may come into the channel upstream.

    `allow`, `deny` and `local` are patterns of project names (`workers.admission`). `index_url`
    None is the index that sdists come from. `pull_through` has a server fetch what it is asked for;
    a file is old enough when it was uploaded `min_age_days` ago.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    min_age_days: int = 0
    index_url: str | None = None
    pull_through: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRules:
    """The ``[worker]`` table: what one worker offers, see `workers.farm.abilities` for `targets`.

    `slots` 0 means one for each core. `memory_class` is 1 to 3, the largest that it takes.
    When it stops, builds get `grace_seconds` to finish; below `min_free_mib` of disk it takes
    no job.
    """

    targets: tuple[str, ...] = ("all",)
    slots: int = 0
    memory_class: int = 1
    grace_seconds: int = 30
    min_free_mib: int = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that a person can set. `index_url` None means the package index that pip would use.

    `folder` is that of the settings file. `database` None means that the catalogue is in the
    store's folder, else it is the URL of a PostgreSQL database. `blobs` None means the bucket
    that the store has already, or its own folder; `keys` None the folder ``keys`` in the store's.
    `cache` holds what can be made again: sdists, toolchains, logs of failed builds, scratch.
    """

    store: Path
    cache: Path
    database: str | None = field(default=None, repr=False)  # it may hold a password
    blobs: str | None = None
    blob_redirects: bool = False
    accel_prefix: str | None = None
    index_url: str | None = None
    keys: Path | None = None
    targets: Mapping[str, NamedTarget] = field(default_factory=dict)
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    memory_classes: Mapping[str, int] = field(default_factory=dict)
    epoch: int = 0
    salts: tuple[Salt, ...] = ()
    farm: FarmRules = FarmRules()
    server: ServerRules = ServerRules()
    trusts: tuple[Trust, ...] = ()
    upload: UploadRules = UploadRules()
    upstream: UpstreamRules = UpstreamRules()
    worker: WorkerRules = WorkerRules()
    channels: Mapping[str, ChannelRules] = field(default_factory=dict)
    retention: RetentionRules = RetentionRules()
    folder: Path = Path()

    def channel(self, name: str) -> ChannelRules:
        """The rules of a channel: its own, else those of ``dev/*`` for a channel of that kind."""
        if name in self.channels:
            return self.channels[name]
        others = self.channels.get(ANY_DEV, ChannelRules())
        return others if name.startswith("dev/") else ChannelRules()

    def quota(self, name: str) -> int | None:
        """How many bytes of wheels a channel may hold; None for no limit."""
        return self.channel(name).quota_mib * (1 << 20) or None

    @property
    def inheritance(self) -> Inheritance:
        """Which channels list what others have."""
        named = {
            name: tuple(map(parse_channel, rules.inherit)) for name, rules in self.channels.items()
        }
        return Inheritance(named=named, pull_through=self.upstream.pull_through)

    def recipe(self, name: str) -> Recipe:
        """The recipe of a project, by normalised name; the empty one where none is set."""
        return self.recipes.get(name, Recipe())

    def salt(self, name: str, fingerprint: str) -> str:
        """The salt of a project's builds for a target: every one that meets them, in order."""
        return "\n".join(salt.text for salt in self.salts if salt.meets(name, fingerprint))


def load_settings(*, file: Path | None = None, store: Path | None = None) -> Settings:
    """The settings in force. Without `file`, `wheelfarm.toml` of the current folder counts if any.

    Raises SettingsError, with the path of the key (``targets.mac.spec``), for what is wrong.
    """
    table = _read(file) if file else (_read(Path(FILE_NAME)) if Path(FILE_NAME).exists() else {})
    _refuse_unknown(table, _AT_THE_TOP, "")
    folder = (file or Path(FILE_NAME)).parent
    return Settings(
        store=(store or _store_from(table, folder)).absolute(),
        cache=_cache(table, folder).absolute(),
        database=os.environ.get("WHEELFARM_DATABASE") or _optional(table, "database", str, ""),
        blobs=os.environ.get("WHEELFARM_BLOBS") or _optional(table, "blobs", str, ""),
        blob_redirects=_flag(table, "blob-redirects"),
        accel_prefix=_accel_prefix(table),
        index_url=index_from_environment() or _optional(table, "index-url", str, ""),
        keys=_keys(table, folder),
        targets=_tables(table, "targets", lambda row, path: _named_target(row, path, folder)),
        recipes={
            canonicalize_name(name): recipe
            for name, recipe in _tables(table, "recipes", _recipe).items()
        },
        memory_classes=_tables(table, "recipes", _memory_class),
        epoch=_optional(table, "epoch", int, "") or 0,
        salts=_salts(table),
        farm=_farm_rules(table),
        server=_server_rules(table),
        trusts=_trusts(table),
        upload=_upload_rules(table),
        upstream=_upstream_rules(table),
        worker=_record(WorkerRules(), _optional(table, "worker", dict, "") or {}, "worker"),
        channels=_tables(table, "channels", _channel_rules),
        retention=_record(
            RetentionRules(), _optional(table, "retention", dict, "") or {}, "retention"
        ),
        folder=folder,
    )


def index_from_environment() -> str | None:
    """The index that the caller's uv or pip is set to by its environment, if any."""
    names = ("WHEELFARM_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _store_from(table: Mapping[str, object], folder: Path) -> Path:
    if named := os.environ.get("WHEELFARM_STORE"):
        return Path(named)
    if written := _optional(table, "store", str, ""):
        return folder / written
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "wheelfarm"


def _cache(table: Mapping[str, object], folder: Path) -> Path:
    if named := os.environ.get("WHEELFARM_CACHE"):
        return Path(named)
    if written := _optional(table, "cache", str, ""):
        return folder / written
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wheelfarm"


def _keys(table: Mapping[str, object], folder: Path) -> Path | None:
    if named := os.environ.get("WHEELFARM_KEYS"):
        return Path(named).absolute()
    written = _optional(table, "keys", str, "")
    return (folder / written).absolute() if written else None


def _accel_prefix(table: Mapping[str, object]) -> str | None:
    prefix = _optional(table, "accel-prefix", str, "")
    if prefix is not None and not _LOCATION.fullmatch(prefix):
        raise SettingsError("must be the path of a location, as in /_blobs", path="accel-prefix")
    return prefix


def _flag(table: Mapping[str, object], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise SettingsError("must be true or false", path=key)
    return value


def _named_target(row: Mapping[str, object], path: str, folder: Path) -> NamedTarget:
    _refuse_unknown(row, {"spec", "python", "headers", "sdk"}, path)
    spec = _optional(row, "spec", str, path)
    if spec is None:
        raise SettingsError("is missing", path=f"{path}.spec", hint='as in spec = "native"')
    paths = {key: _optional(row, key, str, path) for key in ("python", "headers", "sdk")}
    return NamedTarget(spec=spec, **{key: folder / at for key, at in paths.items() if at})


def _recipe(row: Mapping[str, object], path: str) -> Recipe:
    return _record(Recipe(), {key: row[key] for key in row if key != _MEMORY}, path)


def _memory_class(row: Mapping[str, object], path: str) -> int:
    value = row.get(_MEMORY, 1)
    if value not in {1, 2, 3} or isinstance(value, bool):
        raise SettingsError("must be 1, 2 or 3", path=f"{path}.{_MEMORY}")
    return int(str(value))


def _salts(table: Mapping[str, object]) -> tuple[Salt, ...]:
    rows = _optional(table, "salts", list, "") or []
    return tuple(_salt(row, f"salts[{number}]") for number, row in enumerate(rows))


def _salt(row: object, path: str) -> Salt:
    if not isinstance(row, dict):
        raise SettingsError("must be a table", path=path, hint="write [[salts]]")
    _refuse_unknown(row, {"salt", "package", "fingerprint"}, path)
    values = {key: _optional(row, key, str, path) for key in ("salt", "package", "fingerprint")}
    if not values["salt"] or not _SALT.fullmatch(values["salt"]):
        raise SettingsError(
            "must be a line of 1 to 200 characters", path=f"{path}.salt", hint='as in "2026-11-28"'
        )
    package = canonicalize_name(values["package"]) if values["package"] else None
    if values["fingerprint"] is not None:
        try:
            parse_fingerprint(values["fingerprint"])
        except MalformedError as error:
            place = f"{path}.fingerprint"
            raise SettingsError(error.bare_message, path=place, hint=error.hint) from error
    return Salt(text=values["salt"], package=package, fingerprint=values["fingerprint"])


def _channel_rules(row: Mapping[str, object], path: str) -> ChannelRules:
    name = path.partition(".")[2]
    rules = _record(ChannelRules(), row, path)
    try:
        if name != ANY_DEV:
            parse_channel(name)
    except MalformedError as error:
        raise SettingsError(error.bare_message, path=path, hint=error.hint) from error
    try:
        parse_inherited(name, rules.inherit)
    except MalformedError as error:
        raise SettingsError(error.bare_message, path=f"{path}.inherit", hint=error.hint) from error
    return rules


def _farm_rules(table: Mapping[str, object]) -> FarmRules:
    rules = _record(FarmRules(), _optional(table, "farm", dict, "") or {}, "farm")
    broker = os.environ.get("WHEELFARM_BROKER") or rules.broker
    url = os.environ.get("WHEELFARM_FARM") or rules.url
    token = os.environ.get("WHEELFARM_TOKEN") or rules.token
    return replace(rules, broker=broker, url=url, token=token)


def _server_rules(table: Mapping[str, object]) -> ServerRules:
    rules = _record(ServerRules(), _optional(table, "server", dict, "") or {}, "server")
    if rules.anonymous not in {None, *get_args(Anonymous)}:
        hint = f"one of {', '.join(get_args(Anonymous))}"
        raise SettingsError("is no such thing", path="server.anonymous", hint=hint)
    return rules


def _upload_rules(table: Mapping[str, object]) -> UploadRules:
    rules = _record(UploadRules(), _optional(table, "upload", dict, "") or {}, "upload")
    try:
        channel = parse_channel(rules.default_channel)
    except MalformedError as error:
        raise SettingsError(error.bare_message, hint=error.hint, path="upload.channel") from error
    if channel in {RELEASE, UPSTREAM}:
        hint = f"{channel} takes what comes from an index alone; write dev/NAME"
        raise SettingsError(f"may not be {channel}", path="upload.channel", hint=hint)
    return rules


def _upstream_rules(table: Mapping[str, object]) -> UpstreamRules:
    rules = _record(UpstreamRules(), _optional(table, "upstream", dict, "") or {}, "upstream")
    read: dict[str, tuple[str, ...]] = {}
    for name in ("allow", "deny", "local"):
        try:
            read[name] = tuple(map(parse_pattern, getattr(rules, name)))
        except MalformedError as error:
            place = f"upstream.{name}"
            raise SettingsError(error.bare_message, hint=error.hint, path=place) from error
    return replace(rules, **read)  # type: ignore[arg-type]


def _trusts(table: Mapping[str, object]) -> tuple[Trust, ...]:
    rows = _optional(table, "trust", list, "") or []
    found = []
    for number, row in enumerate(rows):
        try:
            found.append(parse_trust(row))
        except MalformedError as error:
            place = f"trust[{number}]"
            raise SettingsError(
                error.bare_message, hint=error.hint, path=error.under(place).path
            ) from error
    return tuple(found)


def _record(default: R, row: Mapping[str, object], path: str) -> R:
    """A copy of `default` with the values of a table, each of its default's type."""
    known = {each.name.replace("_", "-"): each.name for each in fields(default)}
    _refuse_unknown(row, set(known), path)
    values: dict[str, Any] = {
        name: _value(row[key], getattr(default, name), f"{path}.{key}")
        for key, name in known.items()
        if key in row
    }
    return replace(default, **values)


def _value(value: object, default: object, path: str) -> object:
    if default is None and isinstance(value, str) and value:
        return value
    if type(default) is type(value) is int and value > 0:
        return value
    if isinstance(default, bool) and isinstance(value, bool):
        return value
    if isinstance(default, tuple) and _all_text(value, list):
        return tuple(value)  # type: ignore[arg-type]
    if isinstance(default, dict) and isinstance(value, dict) and _all_text(value.values()):
        return value
    wanted = {
        bool: "true or false",
        int: "a positive number",
        tuple: "a list of strings",
        dict: "a table of strings",
        type(None): "a string",
    }
    raise SettingsError(f"must be {wanted[type(default)]}", path=path)


def _all_text(value: object, kind: type = object) -> bool:
    return isinstance(value, kind) and all(isinstance(each, str) for each in value)  # type: ignore[attr-defined]


def _tables(
    table: Mapping[str, object], key: str, parse: Callable[[Mapping[str, object], str], T]
) -> dict[str, T]:
    rows = _optional(table, key, dict, "") or {}
    parsed = {}
    for name, row in rows.items():
        if not isinstance(row, dict):
            raise SettingsError("must be a table", path=f"{key}.{name}")
        parsed[name] = parse(row, f"{key}.{name}")
    return parsed


def _optional(table: Mapping[str, object], key: str, kind: type[T], path: str) -> T | None:
    value = table.get(key)
    if value is None or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    place = f"{path}.{key}" if path else key
    raise SettingsError(f"must be of type {kind.__name__}", path=place)


def _refuse_unknown(table: Mapping[str, object], known: set[str], path: str) -> None:
    for key in table:
        if key not in known:
            place = f"{path}.{key}" if path else key
            raise SettingsError(
                "unknown key", path=place, hint=f"known: {', '.join(sorted(known))}"
            )


def _read(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise SettingsError("larger than 1 MiB", path=str(path))
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot be read ({error.strerror})", path=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"is not valid TOML: {error}", path=str(path)) from error
