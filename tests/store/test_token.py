"""A token's text: what it looks like, and what is told from one that was cut or made up."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import BadTokenError
from store.token import is_token_id, new_token, parse_token

ROOT = Path(__file__).parents[2]
LETTERS = string.ascii_letters + string.digits


def test_no_two_are_the_same_and_each_is_read_back() -> None:
    made = [new_token() for _ in range(200)]
    assert len({token.text for token in made} | {token.id for token in made}) == 400
    for token in made:
        assert parse_token(token.text) == token
        assert is_token_id(token.id)


def test_the_pattern_for_scanners_in_the_documents_finds_it() -> None:
    text = (ROOT / "docs" / "accounts.md").read_text()
    (pattern,) = re.findall(r"^    (wfm_\[.*)$", text, re.MULTILINE)
    assert re.fullmatch(pattern, new_token().text)


def test_it_is_not_shown_by_accident() -> None:
    token = new_token()
    assert token.text not in repr(token)
    assert token.text not in str(token)


@given(st.integers(4, 57), st.sampled_from(LETTERS))
def test_one_wrong_letter_is_seen(place: int, letter: str) -> None:
    text = new_token().text
    changed = text[:place] + letter + text[place + 1 :]
    if changed == text:
        return
    with pytest.raises(BadTokenError) as caught:
        parse_token(changed)
    assert changed not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda text: text[:-1],
        lambda text: text + "a",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("wfm_", "ghp_"),
        lambda text: text.upper(),
        lambda text: text[:-1] + "é",
        lambda text: text * 1_000,
    ],
)
def test_what_is_no_token(change: object) -> None:
    assert callable(change)
    with pytest.raises(BadTokenError):
        parse_token(change(new_token().text))


@pytest.mark.parametrize(
    "text", ["", "a" * 11, "a" * 13, "a" * 11 + "-", "é" * 12, "a" * 12 + "\n"]
)
def test_what_is_no_id(text: str) -> None:
    assert not is_token_id(text)
