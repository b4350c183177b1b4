"""[[trust]] tables: what they must say, and where it stands when they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from store.access import ChannelPattern, Grant
from workers.errors import SettingsError
from workers.settings import load_settings
from workers.trust import parse_trust

GOOD = """
[server]
anonymous = "none"

[[trust]]
issuer = "https://token.actions.example"
audience = "wheelfarm"
claims = { repository = "me/mine", ref = "refs/heads/main" }
scopes = ["submit", "publish"]
channels = ["dev/mine", "dev/ci-*"]

[[trust]]
issuer = "http://127.0.0.1:9"
audience = "x"
claims = { sub = "y" }
scopes = ["read"]
channels = ["*"]
"""


def settings(folder: Path, text: str) -> Any:
    file = folder / "farm.toml"
    file.write_text(text)
    return load_settings(file=file)


def test_two_trusts_are_read(tmp_path: Path) -> None:
    found = settings(tmp_path, GOOD)
    assert found.server.anonymous == "none"
    first, second = found.trusts
    assert first.claims == {"repository": "me/mine", "ref": "refs/heads/main"}
    assert first.grant == Grant(
        scopes=frozenset({"submit", "publish"}),
        channels=(ChannelPattern("dev/mine"), ChannelPattern("dev/ci-*")),
    )
    assert second.issuer == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("https://token.actions.example", "http://token.actions.example", "trust[0].issuer"),
        ("https://token.actions.example", "ftp://token.example", "trust[0].issuer"),
        ("https://token.actions.example", "https://", "trust[0].issuer"),
        ("https://token.actions.example", "https://x/?a=b", "trust[0].issuer"),
        ("https://token.actions.example", "https://me:x@y", "trust[0].issuer"),
        ("https://token.actions.example", "http://127.0.0.1.evil.example", "trust[0].issuer"),
        ("https://token.actions.example", "https://[", "trust[0].issuer"),
        ('audience = "wheelfarm"', 'audience = ""', "trust[0].audience"),
        ('audience = "wheelfarm"', "", "trust[0].audience"),
        ('{ repository = "me/mine", ref = "refs/heads/main" }', "{}", "trust[0].claims"),
        ('{ repository = "me/mine", ref = "refs/heads/main" }', '{ aud = "x" }', "trust[0].claims"),
        ('{ repository = "me/mine", ref = "refs/heads/main" }', "{ ref = 7 }", "trust[0].claims"),
        ('{ repository = "me/mine", ref = "refs/heads/main" }', '{ ref = "" }', "trust[0].claims"),
        ('["submit", "publish"]', "[]", "trust[0].scopes"),
        ('["submit", "publish"]', '["submit", "all"]', "trust[0].scopes[1]"),
        ('["dev/mine", "dev/ci-*"]', '["dev/mine", "de*"]', "trust[0].channels[1]"),
        ('["dev/mine", "dev/ci-*"]', '"*"', "trust[0].channels"),
        ('claims = { sub = "y" }', 'claim = { sub = "y" }', "trust[1].claim"),
        ('anonymous = "none"', 'anonymous = "some"', "server.anonymous"),
        ('anonymous = "none"', "anonymous = true", "server.anonymous"),
        ('anonymous = "none"', 'anyone = "none"', "server.anyone"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in GOOD
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, GOOD.replace(old, new, 1))
    assert caught.value.message.startswith(f"{said}: ")


@pytest.mark.parametrize("text", ["trust = 7", "trust = [7]", "[trust]\na = 1"])
def test_what_is_no_list_of_tables(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="trust"):
        settings(tmp_path, text)


def test_a_trust_is_kept_whole() -> None:
    row = {
        "issuer": "https://x.example/", "audience": "a", "claims": {"sub": "s"},
        "scopes": ["read"], "channels": ["release"],
    }  # fmt: skip
    assert parse_trust(row).issuer == "https://x.example/"
