"""Which form of a page a client gets."""

from __future__ import annotations

import pytest

from store.errors import NotAcceptableError
from store.negotiation import choose_coding, choose_form
from store.pages import HTML, HTML_V1, JSON_V1

PIP = f"{JSON_V1}, {HTML_V1}; q=0.1, text/html; q=0.01"
UV = f"{JSON_V1}, {HTML_V1};q=0.2, text/html;q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, HTML),
        ("", HTML),
        ("*/*", HTML),
        ("text/*", HTML),
        (BROWSER, HTML),
        (PIP, JSON_V1),
        (UV, JSON_V1),
        (JSON_V1, JSON_V1),
        (HTML_V1, HTML_V1),
        ("application/vnd.pypi.simple.latest+json", JSON_V1),
        ("application/vnd.pypi.simple.latest+html", HTML_V1),
        ("APPLICATION/vnd.pypi.simple.v1+JSON", JSON_V1),
        (f"text/html;q=0.5, {JSON_V1};q=0.6", JSON_V1),
        (f"text/html;q=0.600, {JSON_V1};q=0.599", HTML),
        (f"text/html;q=0, */*;q=0.1, {JSON_V1};q=0.2", JSON_V1),
        ("text/html;q=0, */*", HTML_V1),
        ("application/*", HTML_V1),
        (f"text/html;q=high, {JSON_V1};q=0.001", JSON_V1),
        (f" , ;;, {JSON_V1}", JSON_V1),
    ],
)
def test_the_best_form_that_the_client_takes(accept: str | None, form: str) -> None:
    assert choose_form(accept) == form


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "text/html;q=0",
        "*/*;q=0",
        "application/vnd.pypi.simple.v2+json",
        "text/html;q=2",
        "nonsense",
        "x" * 100_000,
    ],
)
def test_a_client_that_takes_none(accept: str) -> None:
    with pytest.raises(NotAcceptableError) as caught:
        choose_form(accept)
    assert caught.value.http_status == 406


@pytest.mark.parametrize(
    ("wanted", "form"),
    [
        (JSON_V1, JSON_V1),
        (JSON_V1.replace("+", " "), JSON_V1),
        ("application/vnd.pypi.simple.latest+html", HTML_V1),
        ("text/html", HTML),
    ],
)
def test_the_query_beats_the_header(wanted: str, form: str) -> None:
    assert choose_form("image/png", wanted) == form


@pytest.mark.parametrize("wanted", ["", "json", "text/plain", "*/*"])
def test_a_format_that_no_page_has(wanted: str) -> None:
    with pytest.raises(NotAcceptableError, match="no page has the format"):
        choose_form(None, wanted)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.5", "gzip"),
        ("gzip;q=0.5, zstd;q=0.5", "zstd"),
        ("gzip;q=0", "identity"),
        ("*", "zstd"),
        ("*;q=0.1, zstd;q=0", "gzip"),
        ("*;q=0", "identity"),
        ("identity", "identity"),
        ("identity;q=0", "identity"),
        ("identity;q=0.5, gzip;q=1", "gzip"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("br, deflate", "identity"),
        ("GZIP ; Q=1", "gzip"),
        ("gzip;q=nonsense", "identity"),
        ("gzip" + " " * 3_000, "identity"),
    ],
)
def test_a_page_is_packed_as_the_client_likes_it(accepted: str | None, coding: str) -> None:
    assert choose_coding(accepted) == coding
