"""The pages of an index as text: the simple API in HTML and JSON, and a flat list of links.

Pure: records in, text out. Every link is relative, so that a page is right behind any prefix, and
as a file in an exported folder. Every name is escaped, since wheels choose their own.

Simple API: PEP 503 (HTML), 592 (yanks), 629 (version), 658 and 714 (metadata), 691 (JSON),
700 (versions, size, upload time), 792 (project status). What 1.2 and 1.3 of the API brought
(PEP 708, PEP 740) is optional, and not offered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, TypeAlias
from urllib.parse import quote

from packaging.version import Version

from store.attestation import SUFFIX_OF_STATEMENT
from store.catalogue import IndexSummary
from store.digest import JSON
from store.offer import Offer
from store.release import Release, timestamp
from store.sbom import SUFFIX as SUFFIX_OF_SBOM
from store.status import ACTIVE, ProjectStatus

Listed: TypeAlias = Release | Offer
"""A wheel on a page: one of the store, or one that an index upstream offers."""

API_VERSION: Final = "1.4"
"""Version of the simple API (PEP 629, PEP 792)."""

HTML: Final = "text/html"
HTML_V1: Final = "application/vnd.pypi.simple.v1+html"
JSON_V1: Final = "application/vnd.pypi.simple.v1+json"

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;"
    "color:#1d2733;background:#fdfdfb}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #dde1e6}"
    ".n{text-align:right}code{font-size:.9em}a{color:#0b5394}"
    "@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#16191d}"
    "th,td{border-color:#333a42}a{color:#8ab8e6}}"
)
"""The style sheet of the page for people; the server puts its digest into the CSP header."""


def project_list_html(projects: Iterable[str]) -> str:
    """The root page of the simple API: one anchor for each project (PEP 503)."""
    anchors = (_anchor(f"{quote(name, safe='')}/", name) for name in projects)
    return _simple_html("Simple index", anchors)


def project_list_json(projects: Iterable[str]) -> str:
    """The root page in JSON (PEP 691)."""
    return _dump({"meta": _meta(), "projects": [{"name": name} for name in projects]})


def project_html(
    project: str, releases: Iterable[Listed], files: str, status: ProjectStatus = ACTIVE
) -> str:
    """The page of one project: one anchor for each wheel. `files` leads to their folder."""
    anchors = (file_anchor(each, files) for each in releases)
    return _simple_html(f"Links for {project}", anchors, _status_meta(status))


def project_json(
    project: str, releases: Sequence[Listed], files: str, status: ProjectStatus = ACTIVE
) -> str:
    """The page of one project in JSON (PEP 691, PEP 700). `files` leads to their folder."""
    versions: list[str] = sorted({each.version for each in releases}, key=Version)
    return _dump(
        {
            "meta": _meta(),
            "name": project,
            **_status_json(status),
            "versions": versions,
            "files": [_file_json(each, files) for each in releases],
        }
    )


def links_html(title: str, releases: Iterable[Listed], files: str) -> str:
    """All wheels on one page, as ``--find-links`` reads it. `files` leads to their folder."""
    return _simple_html(title, (file_anchor(each, files) for each in releases))


def file_anchor(release: Listed, files: str) -> str:
    """The anchor of one wheel, with what PEP 503, 592, 658 and 714 say about it."""
    known = f"sha256={release.metadata_sha256}" if release.metadata_sha256 else None
    attributes = {
        "data-requires-python": release.requires_python,
        "data-core-metadata": known,
        "data-dist-info-metadata": known,
        "data-yanked": release.yanked,
    }
    href = f"{_file_url(release, files)}#sha256={release.sha256}"
    return _anchor(href, release.filename, attributes)


def home_html(indexes: Sequence[IndexSummary]) -> str:
    """The page for people: every channel and fingerprint, and how to point an installer there."""
    channels = sorted({each.channel for each in indexes}, key=lambda name: ("/" in name, name))
    sections = [
        _channel_section(channel, [each for each in indexes if each.channel == channel])
        for channel in channels
    ]
    body = "".join(sections) or "<p>Nothing is published yet: <code>wheelfarm build</code>.</p>"
    return (
        f"{_head('wheelfarm', f'<style>{STYLE}</style>')}<body><h1>wheelfarm</h1>"
        "<p>Each index serves one environment. Ask which is yours: "
        "<code>wheelfarm index-url</code>, or send what <a href=probe.py>probe.py</a> prints "
        f"to <code>resolve</code>.</p>{body}</body></html>\n"
    )


def _channel_section(channel: str, indexes: Sequence[IndexSummary]) -> str:
    rows = "".join(map(_index_row, indexes))
    return (
        f'<h2>{escape(channel)}</h2><table><tr><th>fingerprint</th><th class="n">projects</th>'
        f'<th class="n">wheels</th><th></th></tr>{rows}</table>'
    )


def _index_row(index: IndexSummary) -> str:
    base = f"./{quote(index.channel)}/{quote(index.fingerprint, safe='')}"
    return (
        f"<tr><td><code>{escape(index.fingerprint)}</code></td>"
        f'<td class="n">{index.projects}</td><td class="n">{index.files}</td>'
        f"<td>{_anchor(f'{base}/simple/', 'index')} {_anchor(f'{base}/links/', 'links')}</td></tr>"
    )


def _status_json(status: ProjectStatus) -> dict[str, JSON]:
    """PEP 792; an active project is so without a word."""
    if status == ACTIVE:
        return {}
    reason: dict[str, JSON] = {"reason": status.reason} if status.reason else {}
    return {"project-status": {"status": status.status, **reason}}


def _status_meta(status: ProjectStatus) -> str:
    if status == ACTIVE:
        return ""
    reason = _meta_tag("pypi:project-status-reason", status.reason) if status.reason else ""
    return _meta_tag("pypi:project-status", status.status) + reason


def _meta_tag(name: str, content: str) -> str:
    return f'<meta name="{name}" content="{escape(content)}">'


def _simple_html(title: str, anchors: Iterable[str], more: str = "") -> str:
    version = _meta_tag("pypi:repository-version", API_VERSION) + more
    lines = "".join(f"{anchor}<br>\n" for anchor in anchors)
    heading = f"<h1>{escape(title)}</h1>"
    return f"{_head(title, version)}\n<body>\n{heading}\n{lines}</body>\n</html>\n"


def _head(title: str, more: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"{more}<title>{escape(title)}</title></head>"
    )


def _anchor(href: str, text: str, attributes: dict[str, str | None] | None = None) -> str:
    given = {"href": href, **(attributes or {})}
    written = "".join(
        f' {name}="{escape(value)}"' for name, value in given.items() if value is not None
    )
    return f"<a{written}>{escape(text)}</a>"


def _file_json(release: Listed, files: str) -> JSON:
    # What an index upstream does not say of a wheel that is not here yet is left out.
    known: dict[str, JSON] = {} if release.size is None else {"size": release.size}
    if release.published_at is not None:
        known["upload-time"] = timestamp(release.published_at)
    known["requires-python"] = release.requires_python
    if release.metadata_sha256 is not None:
        # Only under PEP 714's name: some pips fall over the older one in JSON.
        known["core-metadata"] = {"sha256": release.metadata_sha256}
    return {
        "filename": release.filename,
        "url": _file_url(release, files),
        "hashes": {"sha256": release.sha256},
        **known,
        "yanked": _yanked_json(release.yanked),
        **_papers(release, files),
    }


def _papers(release: Listed, files: str) -> dict[str, JSON]:
    """Where the signed statement and the bill of materials are, under a key of our own: those that
    begin with an underscore are an index's (PEP 691), and PEP 740's `provenance` is another form.
    """
    if isinstance(release, Offer):
        return {}
    url = _file_url(release, files)
    return {"_wheelfarm": {"statement": url + SUFFIX_OF_STATEMENT, "sbom": url + SUFFIX_OF_SBOM}}


def _yanked_json(reason: str | None) -> JSON:
    """False, or the reason; True for an empty one, which JSON readers take for false."""
    return False if reason is None else reason or True


def _file_url(release: Listed, files: str) -> str:
    return files + quote(release.filename, safe="")


def _meta() -> dict[str, JSON]:
    return {"api-version": API_VERSION}


def _dump(page: JSON) -> str:
    return json.dumps(page, ensure_ascii=True, indent=1) + "\n"
