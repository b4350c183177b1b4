"""Who may do what: rights, the channels that a grant names, and the rule of every route. Pure.

A *right* is one of four words; a *grant* gives some of them in some channels; a *rule* says which
right a route takes, and where. `RULES` is the one table of them, for the store's pages and for the
farm's API: a route that is not in it cannot be made.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NewType, get_args

from store.channel import Channel, parse_channel
from store.errors import MalformedError, NotAllowedError, TokenNeededError

Right = Literal["read", "submit", "publish", "admin"]
"""To see and install; to have things built; to bring wheels and sdists; to rule over the farm."""

RIGHTS: Final[tuple[Right, ...]] = get_args(Right)

IMPLIED: Final[Mapping[Right, frozenset[Right]]] = {
    "read": frozenset({"read"}),
    "submit": frozenset({"read", "submit"}),
    "publish": frozenset({"read", "publish"}),
    "admin": frozenset(RIGHTS),
}
"""What else a right brings: whoever may change something may see it, an admin may do all."""

ChannelPattern = NewType("ChannelPattern", str)
"""A channel, ``*`` for all, or ``dev/PREFIX*`` for those that begin so; see `parse_pattern`."""

EVERY_CHANNEL: Final = ChannelPattern("*")

Place = Literal[
    "public", "anywhere", "everywhere", "channel", "job", "submission", "call", "uploads"
]
"""Where a right must be held: nowhere, the route is public; in any one channel; in all of them;
in the channel of the path; of the job, or the submission, in the path; of the call in the body; in
the one that uploads go to that name none."""

Anonymous = Literal["read", "none", "all"]
"""What those may do who send no token."""

_PATTERN: Final = re.compile(r"dev/([a-z0-9][a-z0-9._-]{0,62})?\*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Some rights in some channels."""

    scopes: frozenset[Right]
    channels: tuple[ChannelPattern, ...]

    def gives(self, right: Right) -> bool:
        """Whether it gives `right` in any channel."""
        return any(right in IMPLIED[scope] for scope in self.scopes) and bool(self.channels)

    def covers(self, channel: Channel) -> bool:
        """Whether it is a grant for `channel`."""
        return any(fits(pattern, channel) for pattern in self.channels)

    @property
    def covers_all(self) -> bool:
        """Whether it is a grant for every channel there is or will be."""
        return EVERY_CHANNEL in self.channels


NOTHING: Final = Grant(scopes=frozenset(), channels=())
READ_ALL: Final = Grant(scopes=frozenset({"read"}), channels=(EVERY_CHANNEL,))
EVERYTHING: Final = Grant(scopes=frozenset({"admin"}), channels=(EVERY_CHANNEL,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who does something, for the audit log: a name that is safe to show, a token's public id,
    and the address that it came from."""

    who: str
    token: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks a server for something, and what they may."""

    actor: Actor
    grant: Grant

    @property
    def anonymous(self) -> bool:
        """Whether no token was sent."""
        return self.actor.token is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The right that a route takes, and where. The right of a public route counts for nothing."""

    right: Right
    place: Place

    @property
    def changes(self) -> bool:
        """Whether the route changes something."""
        return self.right != "read"


def _rule(right: Right, place: Place) -> Rule:
    return Rule(right=right, place=place)


_PUBLIC: Final = _rule("read", "public")
_INDEX: Final = "/{channel:channel}/{fingerprint}"

RULES: Final[Mapping[str, Rule]] = {
    "GET /": _rule("read", "anywhere"),
    "GET /healthz": _PUBLIC,
    "GET /probe.py": _PUBLIC,
    "GET /keys.json": _PUBLIC,
    "GET /openapi.json": _PUBLIC,
    "POST /resolve": _rule("read", "channel"),
    "POST /{channel:channel}/resolve": _rule("read", "channel"),
    f"GET {_INDEX}/simple/": _rule("read", "channel"),
    f"GET {_INDEX}/simple/{{project}}/": _rule("read", "channel"),
    f"GET {_INDEX}/links/": _rule("read", "channel"),
    f"GET {_INDEX}/files/{{filename}}": _rule("read", "channel"),
    f"GET {_INDEX}/provenance/{{filename}}": _rule("read", "channel"),
    f"GET {_INDEX}/{{page:path}}": _rule("read", "channel"),
    "POST /legacy/": _rule("publish", "uploads"),
    "POST /{channel:channel}/legacy/": _rule("publish", "channel"),
    "GET /metrics": _rule("read", "everywhere"),
    "GET /api/openapi.json": _PUBLIC,
    "POST /api/oidc/mint": _PUBLIC,  # it holds what it is sent against the settings itself
    "PUT /api/sdists/{sha256}/{filename}": _rule("submit", "anywhere"),
    "HEAD /api/sdists/{sha256}/{filename}": _rule("submit", "anywhere"),
    "POST /api/submissions": _rule("submit", "call"),
    "POST /api/plan": _rule("submit", "call"),
    "GET /api/submissions/{submission_id}": _rule("read", "submission"),
    "GET /api/submissions/{submission_id}/items": _rule("read", "submission"),
    "GET /api/submissions/{submission_id}/why": _rule("read", "submission"),
    "GET /api/submissions/{submission_id}/events": _rule("read", "submission"),
    "POST /api/submissions/{submission_id}/cancel": _rule("submit", "submission"),
    "GET /api/jobs": _rule("read", "anywhere"),  # those of the caller's channels
    "POST /api/jobs/retry": _rule("submit", "anywhere"),  # those of the caller's channels
    "GET /api/jobs/{job_id}": _rule("read", "job"),
    "GET /api/jobs/{job_id}/why": _rule("read", "job"),
    "GET /api/jobs/{job_id}/log": _rule("read", "job"),
    "GET /api/jobs/{job_id}/log/events": _rule("read", "job"),
    "POST /api/jobs/{job_id}/cancel": _rule("submit", "job"),
    "POST /api/jobs/{job_id}/retry": _rule("submit", "job"),
    "GET /api/workers": _rule("read", "everywhere"),
    "POST /api/workers/{worker_id}/drain": _rule("admin", "everywhere"),
    "POST /api/workers/{worker_id}/readmit": _rule("admin", "everywhere"),
    "GET /api/queues": _rule("read", "everywhere"),
    "POST /api/yank": _rule("admin", "everywhere"),  # what is selected may be in any channel
    "POST /api/yank/undo": _rule("admin", "everywhere"),
    "POST /api/disown": _rule("admin", "everywhere"),
    "POST /api/disown/undo": _rule("admin", "everywhere"),
    "GET /api/invalidations": _rule("read", "everywhere"),
    "POST /api/adopt": _rule("publish", "call"),  # in the channel upstream
    "POST /api/promote": _rule("publish", "call"),  # in the target; in the source, to read
}
"""Method and path of a route, as it is declared -> its rule."""


def rule_of(method: str, path: str) -> Rule:
    """The rule of a route. Raises LookupError: a route without a rule cannot be made."""
    if rule := RULES.get(f"{method} {path}"):
        return rule
    raise LookupError(f"the route {method} {path} has no rule in store/access.py")


def parse_pattern(text: str) -> ChannelPattern:
    """`text` as a pattern of channels: ``*``, a channel, or ``dev/PREFIX*``.

    Raises MalformedError.
    """
    if text == EVERY_CHANNEL or _PATTERN.fullmatch(text):
        return ChannelPattern(text)
    try:
        return ChannelPattern(parse_channel(text))
    except MalformedError as error:
        raise MalformedError(
            f"no channel, and no pattern of channels: {text[:80]!r}",
            hint="write *, release, upstream, dev/NAME or dev/PREFIX*",
        ) from error


def parse_right(text: str) -> Right:
    """`text` as a right. Raises MalformedError."""
    if text not in RIGHTS:
        raise MalformedError(f"not a right: {text[:80]!r}", hint=f"one of {', '.join(RIGHTS)}")
    return text


def fits(pattern: ChannelPattern, channel: Channel) -> bool:
    """Whether `pattern` names `channel`."""
    if pattern.endswith("*"):
        return channel.startswith(pattern[:-1])
    return str(pattern) == channel


def anonymous_grant(said: Anonymous | None, *, alone: bool, in_use: bool) -> Grant:
    """What those may do who send no token.

    `said` is the setting. Without it everything is allowed to a program of the machine itself
    (`alone`) as long as no account was ever made (`in_use`), and reading to everybody else.
    """
    if said is None:
        return EVERYTHING if alone and not in_use else READ_ALL
    return {"read": READ_ALL, "none": NOTHING, "all": EVERYTHING}[said]


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine itself, and nothing that others can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check(caller: Caller, right: Right, channels: Iterable[Channel]) -> None:
    """Raise unless `caller` has `right` in each of `channels`.

    TokenNeededError for who sent no token, so that clients offer theirs; else NotAllowedError.
    """
    check_gives(caller, right)
    for channel in sorted(channels):
        if not caller.grant.covers(channel):
            raise _refused(caller, right, f"in the channel {channel}")


def check_everywhere(caller: Caller, right: Right) -> None:
    """Raise as `check` does unless `caller` has `right` in every channel."""
    check_gives(caller, right)
    if not caller.grant.covers_all:
        raise _refused(caller, right, "in every channel")


def check_gives(caller: Caller, right: Right) -> None:
    """Raise as `check` does unless `caller` has `right` in any channel at all."""
    if not caller.grant.gives(right):
        raise _refused(caller, right, "here")


def _refused(caller: Caller, right: Right, where: str) -> TokenNeededError | NotAllowedError:
    if caller.anonymous:
        return TokenNeededError(
            f"it takes a token with the right to {right} {where}",
            hint="$WHEELFARM_TOKEN, ~/.netrc, or the user __token__ with the token as password; "
            "on the server `wheelfarm token create` makes one",
        )
    return NotAllowedError(
        f"the token {caller.actor.token} does not give the right to {right} {where}",
        hint=f"it gives {_said(caller.grant.scopes)} in {_said(caller.grant.channels)}",
    )


def _said(words: Collection[str]) -> str:
    return ", ".join(sorted(words)[:8]) or "nothing"
