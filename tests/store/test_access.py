"""The rules of who may do what, as tables: each right, pattern and setting, allowed and refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.access import (
    EVERYTHING,
    IMPLIED,
    NOTHING,
    READ_ALL,
    RIGHTS,
    RULES,
    Actor,
    Anonymous,
    Caller,
    ChannelPattern,
    Grant,
    Right,
    anonymous_grant,
    check,
    check_everywhere,
    check_gives,
    fits,
    is_loopback,
    parse_pattern,
    parse_right,
    rule_of,
)
from store.channel import RELEASE, Channel
from store.errors import MalformedError, NotAllowedError, TokenNeededError

DEV = Channel("dev/me")


def caller(*scopes: Right, channels: tuple[str, ...] = ("*",), token: str | None = "id") -> Caller:
    grant = Grant(scopes=frozenset(scopes), channels=tuple(map(ChannelPattern, channels)))
    return Caller(actor=Actor(who="me", token=token), grant=grant)


@pytest.mark.parametrize(
    ("scope", "brings"),
    [
        ("read", {"read"}),
        ("submit", {"read", "submit"}),
        ("publish", {"read", "publish"}),
        ("admin", {"read", "submit", "publish", "admin"}),
    ],
)
def test_what_each_right_brings_and_what_not(scope: Right, brings: set[Right]) -> None:
    for right in RIGHTS:
        if right in brings:
            check(caller(scope), right, [DEV])
        else:
            with pytest.raises(NotAllowedError, match=f"the right to {right}"):
                check(caller(scope), right, [DEV])


@pytest.mark.parametrize(
    ("pattern", "named", "not_named"),
    [
        ("*", ["release", "dev/a"], []),
        ("release", ["release"], ["dev/release", "dev/a"]),
        ("dev/a", ["dev/a"], ["dev/ab", "dev/b", "release"]),
        ("dev/*", ["dev/a", "dev/b.c"], ["release"]),
        ("dev/a*", ["dev/a", "dev/ab"], ["dev/b", "release"]),
        ("dev/a.b*", ["dev/a.b-c"], ["dev/acb"]),
    ],
)
def test_whom_a_pattern_names_and_whom_not(
    pattern: str, named: list[str], not_named: list[str]
) -> None:
    parsed = parse_pattern(pattern)
    for channel in named:
        assert fits(parsed, Channel(channel))
        check(caller("submit", channels=(pattern,)), "submit", [Channel(channel)])
    for channel in not_named:
        assert not fits(parsed, Channel(channel))
        with pytest.raises(NotAllowedError, match=f"in the channel {channel}"):
            check(caller("submit", channels=(pattern,)), "submit", [Channel(channel)])


@pytest.mark.parametrize(
    "text",
    ["", "**", "dev", "dev/", "d*", "*/a", "dev/*a", "dev/A*", "rel*", "release*", "dev/a b", "?",
     "dev/a**", "dev/-*", "dev/" + "a" * 64 + "*"],
)  # fmt: skip
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(MalformedError, match="no channel, and no pattern"):
        parse_pattern(text)


@given(st.text(max_size=80))
def test_a_pattern_is_kept_as_it_was_said_or_refused(text: str) -> None:
    with suppress(MalformedError):
        assert parse_pattern(text) == text


def test_what_is_no_right() -> None:
    assert [parse_right(right) for right in RIGHTS] == list(RIGHTS)
    with pytest.raises(MalformedError, match="not a right"):
        parse_right("write")


def test_every_channel_must_be_covered_of_several() -> None:
    mine = caller("submit", channels=("dev/me", "release"))
    check(mine, "submit", [DEV, RELEASE])
    with pytest.raises(NotAllowedError, match="dev/you"):
        check(mine, "submit", [DEV, Channel("dev/you")])


def test_everywhere_takes_a_star() -> None:
    check_everywhere(caller("admin"), "admin")
    for channels in (("dev/*", "release"), ("dev/me",)):
        with pytest.raises(NotAllowedError, match="every channel"):
            check_everywhere(caller("admin", channels=channels), "admin")
    with pytest.raises(NotAllowedError):
        check_everywhere(caller("submit"), "admin")


def test_a_grant_without_channels_gives_nothing() -> None:
    with pytest.raises(NotAllowedError):
        check_gives(caller("admin", channels=()), "read")


def test_who_has_no_token_is_told_to_send_one_and_who_has_to_get_another() -> None:
    with pytest.raises(TokenNeededError) as needed:
        check(caller("read", token=None), "submit", [DEV])
    with pytest.raises(NotAllowedError) as refused:
        check(caller("read"), "submit", [DEV])
    assert (needed.value.http_status, refused.value.http_status) == (401, 403)
    assert "WHEELFARM_TOKEN" in (needed.value.hint or "")
    assert refused.value.hint == "it gives read in *"


@pytest.mark.parametrize(
    ("said", "alone", "in_use", "grant"),
    [
        (None, True, False, EVERYTHING),  # one machine, no token: nothing to set up
        (None, True, True, READ_ALL),
        (None, False, False, READ_ALL),
        (None, False, True, READ_ALL),
        *[("read", a, u, READ_ALL) for a in (True, False) for u in (True, False)],
        *[("none", a, u, NOTHING) for a in (True, False) for u in (True, False)],
        *[("all", a, u, EVERYTHING) for a in (True, False) for u in (True, False)],
    ],
)
def test_what_those_may_do_who_send_no_token(
    said: Anonymous | None, alone: bool, in_use: bool, grant: Grant
) -> None:
    assert anonymous_grant(said, alone=alone, in_use=in_use) == grant


@given(
    st.sets(st.sampled_from(RIGHTS)),
    st.sampled_from(RIGHTS),
    st.sampled_from(["*", "release", "dev/*", "dev/me", "dev/you"]),
    st.sampled_from([RELEASE, DEV]),
)
def test_nobody_passes_but_by_a_scope_that_brings_the_right_in_a_pattern_that_names_the_channel(
    scopes: set[Right], right: Right, pattern: str, channel: Channel
) -> None:
    mine = caller(*scopes, channels=(pattern,))
    may = any(right in IMPLIED[scope] for scope in scopes) and fits(
        ChannelPattern(pattern), channel
    )
    if may:
        check(mine, right, [channel])
    else:
        with pytest.raises(NotAllowedError):
            check(mine, right, [channel])


def test_a_route_without_a_rule_cannot_be_made() -> None:
    with pytest.raises(LookupError, match="DELETE /everything has no rule"):
        rule_of("DELETE", "/everything")


def test_whatever_changes_something_takes_more_than_to_read() -> None:
    harmless = {"POST /resolve", "POST /{channel:channel}/resolve", "POST /api/oidc/mint"}
    for route, rule in RULES.items():
        changes = not route.startswith(("GET ", "HEAD ")) and route not in harmless
        assert rule.changes or not changes, route


@pytest.mark.parametrize(
    ("host", "so"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, so: bool) -> None:
    assert is_loopback(host) is so
