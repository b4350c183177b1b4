"""Which form of a page a client gets, and how it is packed: its ``Accept`` and ``Accept-Encoding``
headers, weighed (RFC 9110, PEP 691)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from store.errors import NotAcceptableError
from store.pages import HTML, HTML_V1, JSON_V1

_OFFERED: Final = (HTML, HTML_V1, JSON_V1)
"""Best first where a client likes several alike: people and old clients send no header or */*."""

_SAME_AS: Final = {
    "application/vnd.pypi.simple.latest+json": JSON_V1,
    "application/vnd.pypi.simple.latest+html": HTML_V1,
}
CODINGS: Final = ("zstd", "gzip")
"""How a page may be packed, the smaller first (RFC 8878, RFC 1952)."""
PLAIN: Final = "identity"

_LONGEST: Final = 2_000
_WEIGHT: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_HINT: Final = f"the forms are {', '.join(_OFFERED)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    """One media range of an ``Accept`` header; `weight` is in thousandths."""

    media: str
    weight: int


def choose_form(accept: str | None, wanted: str | None = None) -> str:
    """The media type to answer with: HTML, HTML_V1 or JSON_V1.

    `wanted` is the value of ``?format=`` (PEP 691), which beats the header `accept`. Raises
    NotAcceptableError when the client takes none of the forms.
    """
    if wanted is not None:
        return _named(wanted)
    if accept is None or not accept.strip():
        return HTML
    ranges = _parse(accept[:_LONGEST])
    best = max(_OFFERED, key=lambda form: _weight(form, ranges))
    if not _weight(best, ranges):
        raise NotAcceptableError("the client accepts no form of this page", hint=_HINT)
    return best


def choose_coding(accepted: str | None) -> str:
    """How to pack a page for who sends that ``Accept-Encoding``: one of CODINGS, or PLAIN.

    Without the header, and where a client takes nothing that is offered, not at all (RFC 9110,
    section 12.5.3). What it likes best counts, then what is smaller.
    """
    if accepted is None or len(accepted) > _LONGEST:
        return PLAIN
    ranges = [_range(part) for part in accepted.split(",") if part.strip()]
    weights = {coding: _coding_weight(coding, ranges) for coding in CODINGS}
    best = max(CODINGS, key=lambda coding: weights[coding])
    plain = [each.weight for each in ranges if each.media == PLAIN]
    return best if weights[best] > 0 and weights[best] >= max(plain, default=0) else PLAIN


def _coding_weight(coding: str, ranges: Sequence[_Range]) -> int:
    names = (coding, f"x-{coding}") if coding == "gzip" else (coding,)
    named = [each.weight for each in ranges if each.media in names]
    others = [each.weight for each in ranges if each.media == "*"]
    return max(named or others, default=0)


def _named(wanted: str) -> str:
    # In a query a plus sign stands for a space, and few people write %2B.
    form = wanted.replace(" ", "+")
    form = _SAME_AS.get(form, form)
    if form not in _OFFERED:
        raise NotAcceptableError(f"no page has the format {wanted[:80]!r}", hint=_HINT)
    return form


def _parse(accept: str) -> list[_Range]:
    return [_range(part) for part in accept.split(",") if part.strip()]


def _range(part: str) -> _Range:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [piece[2:] for piece in parameters if piece.startswith("q=")]
    return _Range(media=_SAME_AS.get(media, media), weight=_thousandths(weights))


def _thousandths(weights: Sequence[str]) -> int:
    """The weight of RFC 9110, section 12.4.2; a range with a malformed one is not taken."""
    if not weights:
        return 1000
    if not _WEIGHT.fullmatch(weights[0]):
        return 0
    whole, _, fraction = weights[0].partition(".")
    return int(whole) * 1000 + int(fraction.ljust(3, "0") or 0)


def _weight(form: str, ranges: Sequence[_Range]) -> int:
    """The weight of the most specific range that covers `form`; 0 when none does."""
    for covering in (form, f"{form.partition('/')[0]}/*", "*/*"):
        if found := [each.weight for each in ranges if each.media == covering]:
            return max(found)
    return 0
