"""`wheelfarm verify --provenance`: a wheel held against its signed statement, offline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from builder.wheel_file import digest_of_plain
from store.attestation import Attested, check_attested
from store.digest import Sha256
from store.errors import DONE, MalformedError, NoSigningKeyError, UsageError
from store.keyring import parse_trusted
from store.signature import LARGEST_ENVELOPE, TrustedKey
from workers.cli.options import key_ring
from workers.text import printable

_LARGEST_KEYS: Final = 1 << 20
_KEYID: Final = 64


def hold_against(
    envelope: Path, keys: Sequence[str], wheels: Sequence[str], *, as_json: bool
) -> int:
    """Print what the statement in `envelope` proves of the one wheel.

    Raises a ProvenanceError when it proves nothing, UsageError for anything but one wheel and for
    files that cannot be read.
    """
    if len(wheels) != 1:
        raise UsageError("a statement is about one wheel", hint="give exactly one WHEEL")
    wheel = Path(wheels[0])
    data, trusted = _read(envelope, LARGEST_ENVELOPE), _trusted(keys)
    digest = _digest(wheel)
    attested = check_attested(data, trusted, wheel.name, digest)
    click.echo(_as_json(wheel, digest, attested) if as_json else _as_text(wheel, attested))
    return DONE


def _trusted(given: Sequence[str]) -> tuple[TrustedKey, ...]:
    """The keys of the files that are named, or of the store; those only that are named by id.

    No key at all is an error: what trusts nobody can prove nothing.
    """
    ids = {text for text in given if _is_keyid(text)}
    files = [Path(text) for text in given if text not in ids]
    held = [key for file in files for key in _keys_in(file)] if files else key_ring().public().keys
    if missing := ids - {key.keyid for key in held}:
        raise NoSigningKeyError(
            f"no key is {min(missing)}", hint="`wheelfarm key list` shows those of the store"
        )
    return tuple(key for key in held if not ids or key.keyid in ids)


def _is_keyid(text: str) -> bool:
    return len(text) == _KEYID and set(text) <= set("0123456789abcdef") and not Path(text).exists()


def _keys_in(file: Path) -> tuple[TrustedKey, ...]:
    try:
        return parse_trusted(_read(file, _LARGEST_KEYS))
    except MalformedError as error:
        raise error.under(printable(str(file))) from error


def _read(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():
            raise UsageError(f"{printable(str(path))} is no file")
        with path.open("rb") as file:
            return file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {printable(str(path))}: {error}") from error


def _digest(wheel: Path) -> Sha256:
    try:
        return digest_of_plain(wheel)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {printable(str(wheel))}: {error}") from error


def _as_json(wheel: Path, digest: Sha256, attested: Attested) -> str:
    return json.dumps({"wheel": wheel.name, "sha256": digest, **attested.to_json()})


def _as_text(wheel: Path, attested: Attested) -> str:
    came = "uploaded as" if attested.uploaded else "built from "
    if attested.adopted:
        came = "taken from an index as"
    lines = [
        f"PROVED  {wheel.name}",
        f"  signed by   {', '.join(attested.keyids)}",
        f"  builder     {attested.builder}",
        f"  build key   {attested.build_key}",
        f"  {came} {attested.source}, sha256 {attested.source_sha256}",
        f"  built for   {attested.fingerprint}, channel {attested.channel}",
        f"  published   {attested.published_at:%Y-%m-%d %H:%M:%S} UTC",
    ]
    return "\n".join(map(printable, lines))
