"""Stands in for the module through which urllib asks macOS for its proxies: there are none."""


def _get_proxy_settings():
    return {}


def _get_proxies():
    return {}
