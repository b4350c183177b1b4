"""How a blob goes to a client: from the disk, by nginx, through this process, or by a redirect.

Whichever it is, the client gets the same bytes, one range of them where it asks for one (RFC 9110,
section 14), an ETag that is the digest, and 304 for what it has already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from store.answers import Answer, names_etag
from store.blobs import Blobs
from store.digest import Sha256
from store.errors import RangeError
from store.shelf import place_of

LINK_SECONDS: Final = 600
"""How long a signed URL is good. A client that follows a redirect does so at once."""
_SMALL: Final = 256 << 10
_FOREVER: Final = "max-age=31536000, immutable"
# A signed URL lets in whoever has it, so no shared cache keeps it; a client's own may for a time
# after which the signature is still good for as long again.
_SIGNED: Final = f"private, max-age={LINK_SECONDS // 2}"
_ONE_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A blob that a client asks for; `headers` are further ones for the answer."""

    request: Request
    blobs: Blobs
    digest: Sha256
    media: str
    headers: Mapping[str, str]

    @property
    def etag(self) -> str:
        """The digest as an ETag, a strong one."""
        return f'"{self.digest}"'

    def whole(self, **more: str) -> dict[str, str]:
        """The headers of an answer that is the blob. What was asked for with a token is not for
        a shared cache, which would give it to whoever has none (RFC 9111, section 3.5)."""
        whose = "private" if "authorization" in self.request.headers else "public"
        kept = f"{whose}, {_FOREVER}"
        return {"etag": self.etag, "cache-control": kept, **self.headers, **more}

    def piece(self, size: int) -> tuple[int, int] | None:
        """First and last byte of the one sound range that is asked for, if any, out of `size`.

        Raises RangeError when it begins after the end of the blob.
        """
        found = _ONE_RANGE.fullmatch(self.request.headers.get("range", "").replace(" ", ""))
        first, last, suffix = found.groups() if found else (None, None, None)
        if found is None or (first and last and int(last) < int(first)):
            return None
        if self.request.headers.get("if-range", self.etag) != self.etag:
            return None
        start = int(first) if first is not None else max(size - int(suffix or 0), 0)
        if start >= size:
            raise RangeError(size)
        return start, min(int(last), size - 1) if last else size - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The way that files take.

    `redirects`: from a bucket by 307 to a signed URL. `accel_prefix`: from the store's folder by
    nginx, whose internal location of that path stands for the folder ``blobs``.
    """

    redirects: bool = False
    accel_prefix: str | None = None

    def answer(self, asked: Asked) -> Response:
        """The answer for one blob.

        Raises RangeError for a range behind its end, StoreError when it is missing.
        """
        if has_already(asked.request, asked.etag):
            return Response(status_code=304, headers=asked.whole())
        if self.redirects:
            return _redirected(asked)
        size = asked.blobs.size(asked.digest)
        piece = asked.piece(size)
        if self.accel_prefix is not None:
            place = f"{self.accel_prefix}/{place_of(asked.digest)}"
            return Response(
                media_type=asked.media, headers=asked.whole(**{"x-accel-redirect": place})
            )
        return _through(asked, piece, size)

    def ready(self, asked: Asked, sent: Callable[[], None] | None) -> Answer | None:
        """An answer that may be kept: the whole blob when it is small, or who sends it."""
        if self.redirects or not asked.blobs.local:
            return None
        size = asked.blobs.size(asked.digest)
        body, lines = b"", {"content-type": asked.media}
        if self.accel_prefix is not None:
            lines["x-accel-redirect"] = f"{self.accel_prefix}/{place_of(asked.digest)}"
        elif size > _SMALL:
            return None
        else:
            body = b"".join(asked.blobs.part(asked.digest, 0, size - 1))
            lines["accept-ranges"] = "bytes"
        lines["content-length"] = f"{len(body)}"
        headers = tuple((k.encode(), v.encode()) for k, v in asked.whole(**lines).items())
        return Answer(etag=asked.etag, headers=headers, body=body, sent=sent)


def has_already(request: Request, etag: str) -> bool:
    """Whether the client has what that ETag is of."""
    return names_etag(request.headers.get("if-none-match", ""), etag)


def _redirected(asked: Asked) -> Response:
    link = asked.blobs.link(asked.digest, asked.request.method, LINK_SECONDS)
    headers = {**asked.headers, "cache-control": _SIGNED}
    return RedirectResponse(link, status_code=307, headers=headers)


def _through(asked: Asked, piece: tuple[int, int] | None, size: int) -> Response:
    """In pieces, as fast as the client reads; a whole blob of a bucket with its digest held."""
    first, last = piece or (0, size - 1)
    headers = asked.whole(**{"accept-ranges": "bytes", "content-length": str(last + 1 - first)})
    if piece:
        headers["content-range"] = f"bytes {first}-{last}/{size}"
    status = 206 if piece else 200
    if asked.request.method == "HEAD":
        return Response(status_code=status, media_type=asked.media, headers=headers)
    in_part = piece is not None or asked.blobs.local
    part, stream = asked.blobs.part, asked.blobs.stream
    body = part(asked.digest, first, last) if in_part else stream(asked.digest)
    return StreamingResponse(body, status_code=status, media_type=asked.media, headers=headers)
