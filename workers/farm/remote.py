"""The desk of a farm that is somewhere else, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import requests
from pydantic import BaseModel, ValidationError
from requests.auth import AuthBase

from store.digest import Sha256
from store.errors import UsageError
from store.invalidate import Verb
from workers.errors import FarmRefusedError, ServerError
from workers.farm import answers
from workers.farm.calls import SaidAdoption, SaidCall, SaidPromotion, SaidStrike, SaidUndo
from workers.farm.event_stream import ServerEvent, followed, read_events
from workers.farm.listing import Filter
from workers.farm.patience import FOR_A_SERVER, Patience

_CONNECT_SECONDS: Final = 10
_ANSWER_SECONDS: Final = 120
_PLAN_SECONDS: Final = 3_600
_SILENT_SECONDS: Final = 45
"""A stream has a sign of life every 15 seconds."""

_ROUTELESS: Final = frozenset({"not-found", "method-not-allowed"})
_NO_ROUTE: Final = "does the server there serve files only (--no-farm), or is it an older one?"

A = TypeVar("A", bound=BaseModel)


class RemoteDesk:
    """The desk at a server's URL. Methods raise ServerError when it does not answer, and
    FarmRefusedError when it does not do what was asked.

    The token is the password in the URL, else `token`, else what ~/.netrc has for the host.
    """

    def __init__(
        self, url: str, token: str | None = None, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.url, in_url = _split(url)
        self._session = requests.Session()
        if in_url or token:
            self._session.auth = _Bearer(in_url or token or "")
        self._tell = tell

    def patience(self) -> Patience:
        """Patience with this server, which tells of every wait."""
        return Patience(FOR_A_SERVER, tell=self._tell)

    def has_sdist(self, sha256: Sha256, filename: str) -> bool:
        """Whether the farm has that sdist. One that may not be asked is refused at the upload,
        whose answer has a body that says why."""
        with self._send("HEAD", f"sdists/{sha256}/{quote(filename, safe='')}") as answer:
            return answer.ok

    def upload(self, path: Path, sha256: Sha256) -> None:
        """Send an sdist whose digest is known."""
        with path.open("rb") as file:
            place = f"sdists/{sha256}/{quote(path.name, safe='')}"
            with self._send("PUT", place, data=file) as answer:
                _refuse_trouble(answer)

    def submit(self, call: SaidCall) -> answers.Submitted:
        """Submit builds."""
        return self._ask("POST", "submissions", answers.Submitted, data=_json(call))

    def plan(self, call: SaidCall) -> answers.Plan:
        """What a submission would do."""
        return self._ask("POST", "plan", answers.Plan, data=_json(call), seconds=_PLAN_SECONDS)

    def submission(self, submission_id: str) -> answers.Submission:
        """Where a submission stands."""
        return self._ask("GET", f"submissions/{submission_id}", answers.Submission)

    def items(self, submission_id: str, first: int = 0) -> answers.Items:
        """A page of its items, from place `first` on."""
        place = f"submissions/{submission_id}/items"
        return self._ask("GET", place, answers.Items, params={"first": first})

    def events(self, submission_id: str, last: str | None) -> Iterator[ServerEvent]:
        """The progress of a submission behind the event `last`, as long as the connection holds."""
        return self._stream(f"submissions/{submission_id}/events", last)

    def jobs(self, chosen: Filter) -> answers.Jobs:
        """The newest jobs that fit."""
        params: dict[str, Any] = {
            "state": list(chosen.states), "label": chosen.label, "submitter": chosen.submitter,
            "queue": chosen.queue, "before": chosen.before,
        }  # fmt: skip
        return self._ask("GET", "jobs", answers.Jobs, params=params)

    def job(self, job_id: int) -> answers.Job:
        """One job."""
        return self._ask("GET", f"jobs/{job_id}", answers.Job)

    def why(self, job_id: int) -> answers.Reason:
        """Why a job is not running."""
        return self._ask("GET", f"jobs/{job_id}/why", answers.Reason)

    def why_submission(self, submission_id: str) -> answers.Reason:
        """Why a submission has not ended."""
        return self._ask("GET", f"submissions/{submission_id}/why", answers.Reason)

    def log(self, job_id: int, *, follow: bool) -> Iterator[str]:
        """The log of a job, piece by piece; `follow` it to the end of the job."""
        return self._follow_log(job_id) if follow else self._whole_log(job_id)

    def cancel(self, job_id: int) -> answers.Cancelled:
        """Cancel one job, whoever wants it."""
        return self._ask("POST", f"jobs/{job_id}/cancel", answers.Cancelled)

    def cancel_submission(self, submission_id: str) -> answers.Cancelled:
        """Cancel a submission, and the jobs that no other one wants."""
        return self._ask("POST", f"submissions/{submission_id}/cancel", answers.Cancelled)

    def retry(self, job_id: int) -> answers.Retried:
        """Try a failed or cancelled job again, and forget that it failed."""
        return self._ask("POST", f"jobs/{job_id}/retry", answers.Retried)

    def retry_all(self, label: str) -> answers.Retried:
        """Try every failed or cancelled job of ``NAME`` or ``NAME==VERSION`` again."""
        return self._ask("POST", "jobs/retry", answers.Retried, params={"label": label})

    def workers(self) -> answers.Workers:
        """The workers that are there, or were."""
        return self._ask("GET", "workers", answers.Workers)

    def drain(self, worker_id: str) -> answers.Workers:
        """Let a worker take no more jobs."""
        return self._ask("POST", f"workers/{quote(worker_id, safe='')}/drain", answers.Workers)

    def readmit(self, worker_id: str) -> answers.Workers:
        """Let a worker that was drained or set aside take jobs again."""
        return self._ask("POST", f"workers/{quote(worker_id, safe='')}/readmit", answers.Workers)

    def queues(self) -> answers.Queues:
        """The depth and age of every queue."""
        return self._ask("GET", "queues", answers.Queues)

    def strike(self, verb: Verb, call: SaidStrike) -> answers.Strike:
        """Yank or disown releases, or say what that would reach."""
        return self._ask("POST", verb, answers.Strike, data=_json(call))

    def undo(self, verb: Verb, call: SaidUndo) -> answers.Lifted:
        """Undo yanks or disownings."""
        return self._ask("POST", f"{verb}/undo", answers.Lifted, data=_json(call))

    def orders(self) -> answers.Orders:
        """The newest yanks and disownings."""
        return self._ask("GET", "invalidations", answers.Orders)

    def promote(self, call: SaidPromotion) -> answers.Promoted:
        """Have releases of one channel in another one, or say which they would be."""
        return self._ask("POST", "promote", answers.Promoted, data=_json(call))

    def adopt(self, call: SaidAdoption) -> answers.Adoptions:
        """Have wheels of the farm's index upstream taken in."""
        return self._ask(
            "POST", "adopt", answers.Adoptions, data=_json(call), seconds=_PLAN_SECONDS
        )

    def _whole_log(self, job_id: int) -> Iterator[str]:
        with self._send("GET", f"jobs/{job_id}/log", stream=True) as answer:
            _refuse_trouble(answer)
            answer.encoding = "utf-8"
            for piece in answer.iter_content(64 << 10, decode_unicode=True):
                yield str(piece)

    def _follow_log(self, job_id: int) -> Iterator[str]:
        attempt = None
        for event in followed(lambda last: self._log_events(job_id, last), self.patience()):
            if event.kind != "log":
                continue
            piece = _read(event.data, answers.LogPiece, self.url)
            if attempt not in {None, piece.attempt}:
                yield f"\n[try {piece.attempt}]\n"
            attempt = piece.attempt
            yield piece.text

    def _log_events(self, job_id: int, last: str | None) -> Iterator[ServerEvent]:
        return self._stream(f"jobs/{job_id}/log/events", last)

    def _stream(self, place: str, last: str | None) -> Iterator[ServerEvent]:
        headers = {"Last-Event-ID": last} if last else {}
        seconds = _SILENT_SECONDS
        with self._send("GET", place, headers=headers, stream=True, seconds=seconds) as answer:
            _refuse_trouble(answer)
            try:
                yield from read_events(answer.iter_lines())
            except requests.RequestException as error:
                raise ServerError(f"the connection to {self.url} was lost") from error

    def _ask(self, method: str, place: str, model: type[A], **options: Any) -> A:
        with self._send(method, place, **options) as answer:
            _refuse_trouble(answer)
            return _read(answer.content, model, self.url)

    def _send(
        self, method: str, place: str, *, seconds: int = _ANSWER_SECONDS, **options: Any
    ) -> requests.Response:
        if isinstance(options.get("data"), str):
            options["headers"] = {"content-type": "application/json"}
            options["data"] = options["data"].encode()
        url = f"{self.url}/api/{place}"
        try:
            return self._session.request(
                method, url, timeout=(_CONNECT_SECONDS, seconds), **options
            )
        except requests.RequestException as error:
            raise ServerError(
                f"no answer from {self.url}",
                hint="is `wheelfarm serve` running there, and the address right?",
            ) from error


class _Bearer(AuthBase):
    """Sends a token, and keeps the session from sending what ~/.netrc has."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _split(url: str) -> tuple[str, str | None]:
    """The URL as it may be shown, and the token in it. Raises UsageError."""
    try:
        parts = urlsplit(url)
        token = unquote(parts.password or parts.username or "") or None
    except ValueError:
        parts, token = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError("not the URL of a farm", hint="http://HOST:8484/")
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return place.rstrip("/"), token


def _json(call: BaseModel) -> str:
    return call.model_dump_json(by_alias=True)


def _refuse_trouble(answer: requests.Response) -> None:
    """Raise what an answer that is no success says. A server's own trouble may pass."""
    if answer.ok:
        return
    status = answer.status_code
    try:
        trouble = answers.Trouble.model_validate_json(answer.content)
    except (ValidationError, requests.RequestException) as error:
        raise ServerError(
            f"{answer.url} answers with status {status}, and not as a farm does",
            hint="is it a wheelfarm server?",
        ) from error
    if status >= 500:
        raise ServerError(f"{trouble.message} ({trouble.code})", hint=trouble.hint)
    hint = _NO_ROUTE if trouble.code in _ROUTELESS else trouble.hint
    raise FarmRefusedError(f"{trouble.message} ({trouble.code})", hint=hint)


def _read(text: str | bytes, model: type[A], url: str) -> A:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise ServerError(
            f"{url} gave an answer of another form than expected",
            hint="is it a wheelfarm of the same version?",
        ) from error
