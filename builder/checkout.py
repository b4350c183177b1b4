"""Fetch one commit of a git repository: what ``git+URL@REVISION`` names (pip's VCS URLs).

git is a foreign program like any other: bounded, asked nothing on a terminal, and given no more of
the caller's environment than it needs to reach the repository.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from builder.diagnose import plain
from builder.environment import SYSTEM_PATH
from builder.errors import CheckoutError
from builder.process import Command, Ended, Limits, output_of, run

_KEPT: Final = frozenset({
    "HOME", "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSL_CAINFO", "SSL_CERT_FILE",
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    "all_proxy", "https_proxy", "http_proxy", "no_proxy",
})  # fmt: skip
_LIMITS: Final = Limits(timeout_seconds=900, silence_seconds=600, log_bytes=4 << 20)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A commit's files at `path`: its full name, and when it was made (seconds since 1970)."""

    path: Path
    commit: str
    moment: int


def check_out(url: str, revision: str | None, path: Path, log: Path) -> Checkout:
    """Clone `url` into the new folder `path` and check `revision` out, with its submodules.

    A revision is a branch, a tag or a commit; None is what the repository says. The history is
    fetched as well, since versions are made from it. Raises CheckoutError.
    """
    git = _Git(folder=path, url=url, log=log)
    git.do(path.parent, "clone", "--no-checkout", "--", url, str(path))
    commit = git.commit_of(revision)
    git.do(path, "checkout", "--detach", commit)
    git.do(path, "submodule", "update", "--init", "--recursive")
    moment = int(git.ask("log", "-1", "--format=%ct", commit))
    return Checkout(path=path, commit=commit, moment=moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Git:
    """git over one clone."""

    folder: Path
    url: str
    log: Path

    def do(self, cwd: Path, *argv: str) -> None:
        """Run ``git ARGV``. Raises CheckoutError."""
        ended = self._run(cwd, argv)
        if not ended.ok:
            raise self._trouble(argv[0], ended)

    def ask(self, *argv: str) -> str:
        """The last line that ``git ARGV`` prints, after its warnings. Raises CheckoutError."""
        ended = self._run(self.folder, argv)
        if not ended.ok:
            raise self._trouble(argv[0], ended)
        return _last_line(output_of(ended, self.log))

    def commit_of(self, revision: str | None) -> str:
        """The full name of the commit that is meant. Raises CheckoutError."""
        name = "HEAD" if revision is None else revision
        found = self._parsed(f"origin/{name}") or self._parsed(name)
        if found is None and _COMMIT.fullmatch(name):  # of no branch: a host may give it
            self._run(self.folder, ["fetch", "origin", name])
            found = self._parsed(name)
        if found is None:
            raise CheckoutError(
                f"{safe_url(self.url)} has no revision {name[:100]!r}",
                hint="name a branch, a tag or a whole commit hash",
            )
        return found

    def _parsed(self, name: str) -> str | None:
        argv = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
        ended = self._run(self.folder, argv)
        said = _last_line(output_of(ended, self.log))
        return said if ended.ok and _COMMIT.fullmatch(said) else None

    def _run(self, cwd: Path, argv: Sequence[str]) -> Ended:
        git = shutil.which("git", path=SYSTEM_PATH)
        if git is None:
            raise CheckoutError("there is no git on this machine", hint="apt install git")
        env = {name: value for name, value in os.environ.items() if name in _KEPT}
        allowed = {"https", "ssh", urlsplit(self.url).scheme}
        env |= {
            "PATH": SYSTEM_PATH,
            "LC_ALL": "C.UTF-8",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": ":".join(sorted(allowed)),
        }
        quiet = ["-c", "advice.detachedHead=false", "-c", "core.hooksPath=/dev/null"]
        return run(Command(argv=[git, *quiet, *argv], cwd=cwd, env=env, limits=_LIMITS), self.log)

    def _trouble(self, verb: str, ended: Ended) -> CheckoutError:
        lines = [plain(line) for line in output_of(ended, self.log).splitlines() if line.strip()]
        said = " ".join(lines[-3:]).replace(self.url, safe_url(self.url))[:400]
        how = said if ended.ending == "exit" else f"it was stopped ({ended.ending})"
        return CheckoutError(
            f"git {verb} of {safe_url(self.url)} failed: {how}",
            hint="is the address right, and may this user read it without a prompt?",
        )


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def safe_url(url: str) -> str:
    """`url` as it may be shown and kept: without a password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url[:500]
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}@{host}").geturl()[:500]
