"""Stands in for the module through which urllib asks macOS for its proxies: there are none."""

from __future__ import annotations


def _get_proxy_settings() -> dict[str, str]:
    return {}


def _get_proxies() -> dict[str, str]:
    return {}
