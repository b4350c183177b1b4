"""A token's text: made, and read with a look at its checksum. Pure but for the randomness.

    wfm_ 12 characters, the public id ... 36 characters, the secret ... 6 characters, the checksum

All 62 letters and digits. The prefix lets a secret scanner find it, the checksum lets it leave out
what only looks like one; see docs/accounts.md for the pattern. A token holds 214 bits of secret, so
its SHA-256 is kept as it is: there is nothing to guess that a slow hash would slow down.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import Final, NewType

from store.digest import Sha256, sha256_of
from store.errors import BadTokenError

TokenId = NewType("TokenId", str)
"""The part of a token that is no secret: 12 letters and digits."""

PREFIX: Final = "wfm_"
ID_LENGTH: Final = 12

_SECRET_LENGTH: Final = 36
_CHECKSUM_LENGTH: Final = 6  # 62 ** 6 is more than 2 ** 32
_LETTERS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_GRAMMAR: Final = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{ID_LENGTH}}})[0-9A-Za-z]{{{_SECRET_LENGTH}}}"
    rf"([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that is well formed; whether anybody knows it is another question.

    `text` is the secret, which is never shown by accident.
    """

    id: TokenId
    text: str = field(repr=False)

    @property
    def digest(self) -> Sha256:
        """What is kept of it."""
        return sha256_of(self.text.encode("ascii"))


def new_token() -> Token:
    """A token that nobody had before."""
    id_ = "".join(secrets.choice(_LETTERS) for _ in range(ID_LENGTH))
    secret = "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LENGTH))
    body = f"{PREFIX}{id_}{secret}"
    return Token(id=TokenId(id_), text=body + _checksum(body))


def parse_token(text: str) -> Token:
    """`text` as a token. Raises BadTokenError, which does not repeat it."""
    found = _GRAMMAR.fullmatch(text)
    if found is None or found[2] != _checksum(text[:-_CHECKSUM_LENGTH]):
        raise BadTokenError(
            "what was sent as a token is none of this farm's, or was cut",
            hint=f"a token begins with {PREFIX}; a password of another server is none",
        )
    return Token(id=TokenId(found[1]), text=text)


def is_token_id(text: str) -> bool:
    """Whether `text` has the form of a token's public id."""
    return re.fullmatch(rf"[0-9A-Za-z]{{{ID_LENGTH}}}", text) is not None


def _checksum(body: str) -> str:
    """The CRC-32 of `body` in base 62."""
    rest, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_LETTERS))
        digits = _LETTERS[digit] + digits
    return digits
