"""Who may use the farm's API. Today whoever reaches the server; this is the one place to change."""

from __future__ import annotations

from starlette.requests import HTTPConnection


def admit_caller(connection: HTTPConnection) -> None:
    """Let the caller pass, or raise. Every route of the API depends on it."""
    del connection
