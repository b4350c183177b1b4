"""What a person wants built: lines of requirements files, locks, names and sdist files.

Requirements files are read by pip's rules as far as they name exact versions, folders and commits;
whatever would let an index choose (ranges, further indexes) is refused with the line it stands on.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from packaging.markers import Marker
from packaging.pylock import PackageVcs, Pylock, PylockValidationError
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name, canonicalize_version

from builder.checkout import safe_url
from store.digest import Sha256, parse_sha256
from store.errors import MalformedError
from store.provenance import Origin
from workers.errors import RequirementsError

_SDIST_SUFFIXES: Final = (".tar.gz", ".zip")
_LARGEST_FILE: Final = 16 << 20
_DEEPEST_INCLUDE: Final = 16
_NAMED: Final = re.compile(r"[A-Za-z0-9._-]+\s*(\[[^]]*\])?\s*@")
_VCS: Final = re.compile(rf"({_NAMED.pattern})?\s*(git|hg|svn|bzr)\+")
_GIT_SCHEMES: Final = ("https", "ssh", "file")
_REVISION: Final = re.compile(r"(?!-)[A-Za-z0-9._/+-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedRelease:
    """One exact version from the index: the digests that are good for it, if any were given.

    `place` is where it was asked for (``requirements.txt:12``), for messages.
    """

    name: str
    version: str
    hashes: frozenset[Sha256] = frozenset()
    marker: Marker | None = None
    place: str = field(default="command line", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedFile:
    """One sdist file on this machine; `origin` is whence it is, where that is not its path here."""

    path: Path
    place: str = field(default="command line", compare=False)
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTree:
    """A folder with a project in it, of which an sdist is made first."""

    path: Path
    place: str = field(default="command line", compare=False)

    @property
    def shown(self) -> str:
        """What it is, for people."""
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCheckout:
    """A commit of a git repository, of which an sdist is made first.

    `revision` is a branch, a tag or a commit, `subdirectory` the folder of the project in it, and
    `name` what the project must be called; None and empty where nothing was said.
    """

    url: str
    revision: str | None = None
    subdirectory: str = ""
    name: NormalizedName | None = None
    place: str = field(default="command line", compare=False)

    @property
    def shown(self) -> str:
        """What it is, for people."""
        return f"git+{safe_url(self.url)}" + (f"@{self.revision}" if self.revision else "")


Wanted = WantedRelease | WantedFile
Asked = Wanted | WantedTree | WantedCheckout


def read_wanted(arguments: Sequence[str], files: Sequence[Path]) -> tuple[Asked, ...]:
    """All that the command line asks for, in order, each thing once.

    Raises RequirementsError, with the file and line, for what cannot be built exactly.
    """
    wanted: list[Asked] = [_from_argument(argument) for argument in arguments]
    for path in files:
        wanted.extend(_from_lock(path) if _is_lock(path) else _from_requirements(path))
    return tuple(dict.fromkeys(wanted))


def read_requirements(arguments: Sequence[str], files: Sequence[Path]) -> tuple[Requirement, ...]:
    """What may be chosen from: requirements that need not be exact, in order.

    Raises RequirementsError, with the file and line, for what is no requirement.
    """
    found = [_requirement(argument, "command line") for argument in arguments]
    for path in files:
        found.extend(_ranges(path))
    return tuple(found)


def read_pins(arguments: Sequence[str], files: Sequence[Path]) -> tuple[WantedRelease, ...]:
    """Exact versions, whatever files of them there are; the digests are of any of their files.

    Raises RequirementsError, with the file and line, for what is no exact version.
    """
    found = [_release(argument, frozenset(), "command line") for argument in arguments]
    for path in files:
        found.extend(_pins_of_lock(path) if _is_lock(path) else _pins_of_lines(path))
    return tuple(dict.fromkeys(found))


def read_locked(files: Sequence[Path]) -> frozenset[str]:
    """What lock files hold on to: the digests of the files that they name, and ``NAME==VERSION``
    where they name none. Options of installers in them, such as an index, do not count.

    Raises RequirementsError for a file that cannot be read to its end: nothing is passed over.
    """
    return frozenset(
        label for path in files for label in (_of_lock(path) if _is_lock(path) else _of_lines(path))
    )


def _of_lock(path: Path) -> Iterator[str]:
    for package in _lock(path).packages:
        found = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
        place = f"{path}: {package.name}"
        hashes = _hashes([one.hashes["sha256"] for one in found if "sha256" in one.hashes], place)
        yield from hashes
        if not hashes and package.version is not None:
            yield f"{canonicalize_name(package.name)}=={package.version}"


def _of_lines(path: Path) -> Iterator[str]:
    for line in _lines(path):
        if line.option is None:
            wanted = _from_line(line.text, line.place)
            assert isinstance(wanted, WantedRelease)
            yield from wanted.hashes or [f"{wanted.name}=={_canonical(wanted.version)}"]


def _pins_of_lock(path: Path) -> Iterator[WantedRelease]:
    for package in _lock(path).packages:
        place = f"{path}: {package.name}"
        if package.version is None or not package.wheels:
            hint = "lock it from an index that has its wheels"
            raise RequirementsError("the lock names no wheel and version", path=place, hint=hint)
        yield WantedRelease(
            name=canonicalize_name(package.name),
            version=str(package.version),
            hashes=_hashes([one.hashes.get("sha256", "") for one in package.wheels], place),
            marker=package.marker,
            place=place,
        )


def _pins_of_lines(path: Path) -> Iterator[WantedRelease]:
    for line in _lines(path):
        if line.option is not None:
            raise line.unsupported("give the index under [upstream] in wheelfarm.toml")
        wanted = _from_line(line.text, line.place)
        assert isinstance(wanted, WantedRelease)
        yield wanted


def _canonical(version: str) -> str:
    """The version as the store writes it (PEP 440), where it is one."""
    return canonicalize_version(version, strip_trailing_zero=False)


def _ranges(path: Path) -> Iterator[Requirement]:
    for line in _lines(path):
        if line.option is not None:
            raise line.unsupported("the wheels come from one index, and the lock has the hashes")
        yield _requirement(line.text.partition(" --hash")[0], line.place)


def _requirement(text: str, place: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        raise RequirementsError(f"not a requirement: {text[:80]!r}", path=place) from error


def _from_argument(argument: str) -> Asked:
    if _VCS.match(argument):
        return _checkout(argument, "command line")
    if argument in {".", ".."} or ("/" in argument and Path(argument).is_dir()):
        return WantedTree(path=Path(argument))
    if argument.endswith(_SDIST_SUFFIXES) or "/" in argument:
        return WantedFile(path=Path(argument))
    return _release(argument, frozenset(), "command line")


def _is_lock(path: Path) -> bool:
    return path.name.startswith("pylock.") and path.suffix == ".toml"


def _lock(path: Path) -> Pylock:
    try:
        return Pylock.from_dict(tomllib.loads(_read(path)))
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise RequirementsError(f"not a valid lock: {error}", path=str(path)) from error


def _from_lock(path: Path) -> Iterator[Asked]:
    """The packages of a `pylock.toml` (PEP 751): each has an sdist, or a commit."""
    for package in _lock(path).packages:
        place = f"{path}: {package.name}"
        if package.vcs is not None and package.marker is None:
            yield _locked_checkout(package.vcs, canonicalize_name(package.name), place)
            continue
        if package.sdist is None or package.version is None:
            hint = "lock it from an index that has its sdist"
            raise RequirementsError("the lock names no sdist and version", path=place, hint=hint)
        yield WantedRelease(
            name=canonicalize_name(package.name),
            version=str(package.version),
            hashes=_hashes([package.sdist.hashes.get("sha256", "")], place),
            marker=package.marker,
            place=place,
        )


def _locked_checkout(vcs: PackageVcs, name: NormalizedName, place: str) -> WantedCheckout:
    if vcs.type != "git" or vcs.url is None:
        raise RequirementsError(f"a source in {vcs.type}: only git is known", path=place)
    inside = f"#subdirectory={vcs.subdirectory}" if vcs.subdirectory else ""
    return _read_link(f"git+{vcs.url}@{vcs.commit_id}{inside}", name, place)


def _checkout(text: str, place: str) -> WantedCheckout:
    """``git+URL[@REVISION][#subdirectory=…]``, also as ``NAME @ …`` (PEP 508)."""
    if " --" in text:
        raise RequirementsError("a commit takes no options", path=place)
    if _NAMED.match(text) is None:
        return _read_link(text, None, place)
    requirement = _requirement(text, place)
    if requirement.marker is not None or requirement.url is None:
        hint = "leave the line out for the other targets"
        raise RequirementsError("a commit takes no marker", path=place, hint=hint)
    return _read_link(requirement.url, canonicalize_name(requirement.name), place)


def _read_link(link: str, name: NormalizedName | None, place: str) -> WantedCheckout:
    scheme, _, url = link.partition("+")
    parts = urlsplit(url)
    if scheme != "git" or parts.scheme not in _GIT_SCHEMES or not parts.path.strip("/"):
        raise RequirementsError(
            f"not a commit that can be fetched: {safe_url(link)[:200]!r}",
            path=place,
            hint="as in git+https://HOST/PATH@REVISION; also git+ssh and git+file",
        )
    said = dict(parse_qsl(parts.fragment))
    path, at, revision = parts.path.rpartition("@")
    found = WantedCheckout(
        url=parts._replace(path=path if at else parts.path, query="", fragment="").geturl(),
        revision=revision if at else None,
        subdirectory=said.get("subdirectory", "").strip("/"),
        name=name or (canonicalize_name(said["egg"]) if "egg" in said else None),
        place=place,
    )
    _refuse_odd_link(found)
    return found


def _refuse_odd_link(found: WantedCheckout) -> None:
    if found.revision is not None and _REVISION.fullmatch(found.revision) is None:
        raise RequirementsError(f"not a revision: {found.revision[:80]!r}", path=found.place)
    if ".." in Path(found.subdirectory).parts or not found.subdirectory.isprintable():
        raise RequirementsError(
            f"not a folder of the repository: {found.subdirectory[:80]!r}", path=found.place
        )


def _from_requirements(path: Path) -> Iterator[Asked]:
    for line in _lines(path):
        if line.option is not None:
            raise line.unsupported(
                "give the index with --index-url; put nothing but exact pins in the file"
            )
        if _VCS.match(line.text):
            yield _checkout(line.text, line.place)
        elif line.text.startswith((".", "/")) and (line.file.parent / line.text).is_dir():
            yield WantedTree(path=line.file.parent / line.text, place=line.place)
        elif line.text.endswith(_SDIST_SUFFIXES) and " " not in line.text:
            yield WantedFile(path=line.file.parent / line.text, place=line.place)
        else:
            yield _from_line(line.text, line.place)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of a requirements file, or of one that it includes; its option where it has one."""

    file: Path
    place: str
    text: str
    option: str | None

    def unsupported(self, hint: str) -> RequirementsError:
        """The error for an option that counts for nothing here."""
        return RequirementsError(f"unsupported option {self.option}", path=self.place, hint=hint)


def _lines(path: Path, depth: int = 0) -> Iterator[_Line]:
    """Every line but the includes, which are followed. Raises RequirementsError."""
    if depth > _DEEPEST_INCLUDE:
        raise RequirementsError("files include each other too deeply", path=str(path))
    for number, text in _logical_lines(_read(path)):
        option, _, rest = text.replace("=", " ", 1).partition(" ")
        if option in {"-r", "--requirement"}:
            yield from _lines(path.parent / rest.strip(), depth + 1)
        else:
            said = option if text.startswith("-") else None
            yield _Line(file=path, place=f"{path}:{number}", text=text, option=said)


def _from_line(line: str, place: str) -> Wanted:
    requirement, *options = line.split(" --")
    wrong = [option for option in options if not option.startswith(("hash=", "hash "))]
    if wrong:
        raise RequirementsError(f"unsupported option --{wrong[0].split()[0]}", path=place)
    hashes = [option[len("hash=") :].strip() for option in options]
    return _release(requirement.strip(), _hashes(hashes, place), place)


def _release(text: str, hashes: frozenset[Sha256], place: str) -> WantedRelease:
    requirement = _requirement(text, place)
    return WantedRelease(
        name=canonicalize_name(requirement.name),
        version=_exact_version(requirement, place),
        hashes=hashes,
        marker=requirement.marker,
        place=place,
    )


def _exact_version(requirement: Requirement, place: str) -> str:
    pins = [spec for spec in requirement.specifier if spec.operator in {"==", "==="}]
    if requirement.url or len(pins) != 1 or len(requirement.specifier) != 1 or "*" in str(pins[0]):
        hint = f"pin one version, as in {requirement.name}==1.0 (`uv pip compile` does it for you)"
        raise RequirementsError(f"{requirement} is no exact version", path=place, hint=hint)
    return pins[0].version


def _hashes(texts: Sequence[str], place: str) -> frozenset[Sha256]:
    try:
        return frozenset(parse_sha256(text) for text in texts)
    except MalformedError as error:
        raise RequirementsError(error.bare_message, path=place, hint="use sha256") from error


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number of its first line, line) with continuations joined and comments removed."""
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = "" if raw.lstrip().startswith("#") else raw.partition(" #")[0].strip()
        start = start or number
        pending += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        if pending.strip():
            yield start, " ".join(pending.split())
        pending, start = "", 0
    if pending.strip():
        yield start, " ".join(pending.split())


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise RequirementsError("larger than 16 MiB", path=str(path))
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequirementsError(f"cannot be read ({error.strerror})", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise RequirementsError("is not UTF-8 text", path=str(path)) from error
