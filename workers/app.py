"""Celery over Redis: carries pokes from whoever makes a job to whoever can do it.

A message is the number of a job and nothing else, in JSON, acknowledged before anything is done:
it only wakes a worker, which asks the database what to do. So lost, late, repeated and forged
messages do no harm, and neither does a Redis that is away.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Empty
from typing import Any, Final

from celery import Celery
from celery.worker import state
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu.exceptions import KombuError
from kombu.transport import redis as kombu_redis
from kombu.utils.url import sanitize_url
from redis.exceptions import RedisError

from store.errors import UsageError
from workers.farm.poke import Poke
from workers.farm.station import Station
from workers.tasks import POKE, register

_LOG: Final = logging.getLogger("wheelfarm.broker")
_SCHEMES: Final = ("redis://", "rediss://")
_TROUBLE: Final = (KombuError, RedisError, OSError)
_SOCKET_SECONDS: Final = 5
_MOST_WAITING: Final = 10_000
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_SECONDS_TO_FLUSH: Final = 2.0
_SHOWN: Final = 200


def make_app(broker: str, *, visibility_seconds: int = 3600) -> Celery:
    """The Celery application whose broker is the Redis at that URL. Raises UsageError.

    A message that no worker has acknowledged after `visibility_seconds` is given out again.
    """
    if not broker.startswith(_SCHEMES):
        raise UsageError(
            "the broker is no Redis", hint="as in broker = 'redis://host:6379/0' under [farm]"
        )
    app = Celery("wheelfarm", broker=broker, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_consumer=_Consumer,
        broker_transport=_Transport,
        broker_use_ssl=broker.startswith("rediss://") or None,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": visibility_seconds,
            "priority_steps": [0],
            "socket_connect_timeout": _SOCKET_SECONDS,
            "socket_timeout": _SOCKET_SECONDS,
            "socket_keepalive": True,
        },
    )
    return app


class CeleryPoker:
    """Sends pokes from a thread of its own, so that nobody ever waits for the broker.

    When the broker fails, what waits is dropped: workers look by themselves.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._waiting: deque[Poke] = deque(maxlen=_MOST_WAITING)
        self._bell = threading.Condition()
        self._closing = False
        self._pause = 0.0
        self._thread = threading.Thread(target=self._run, name="pokes", daemon=True)
        self._thread.start()

    def poke(self, pokes: Sequence[Poke]) -> None:
        """Send a message for each, soon. Of very many, the oldest are dropped."""
        with self._bell:
            self._waiting.extend(pokes)
            self._bell.notify()

    def close(self) -> None:
        """Send what waits, if that is quick."""
        with self._bell:
            self._closing = True
            self._bell.notify()
        self._thread.join(_SECONDS_TO_FLUSH)

    def _run(self) -> None:
        while (poke := self._next()) is not None:
            try:
                self._send(poke)
            except _TROUBLE as error:
                self._trouble(error)
            else:
                self._well()

    def _next(self) -> Poke | None:
        """The next one to send; None at the end."""
        with self._bell:
            while not self._waiting and not self._closing:
                self._bell.wait()
            return self._waiting.popleft() if self._waiting else None

    def _send(self, poke: Poke) -> None:
        self._app.send_task(POKE, args=[poke.job_id], queue=poke.queue, retry=False)

    def _trouble(self, error: Exception) -> None:
        if not self._pause:
            _LOG.warning("no pokes are sent, workers look by themselves: %s", _told(error))
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        with self._bell:
            self._bell.wait_for(lambda: self._closing, self._pause)
            self._waiting.clear()

    def _well(self) -> None:
        if self._pause:
            _LOG.info("pokes are sent again")
        self._pause = 0.0


@contextmanager
def listening(app: Celery, station: Station, slots: int) -> Iterator[None]:
    """Hear pokes for `station` as long as the ``with`` block lasts; it must be drained by then.

    Whatever happens to the broker stays in here: the station works on by looking.
    """
    register(app, station)
    listener = _Listener(app, station, slots)
    listener.start()
    try:
        yield
    finally:
        listener.stop()


class _Listener(threading.Thread):
    """Celery's own worker, started anew when it ends by itself."""

    def __init__(self, app: Celery, station: Station, slots: int) -> None:
        super().__init__(name="listener", daemon=True)
        self._app = app
        self._station = station
        self._slots = slots
        self._over = threading.Event()

    def run(self) -> None:
        self._app.set_default()  # the threads of Celery's pool look for tasks there
        pause = _FIRST_PAUSE
        while not self._over.is_set():
            self._worker().start()
            if self._over.wait(pause):
                return
            _LOG.warning("listening for pokes ended by itself, and begins anew")
            pause = min(2 * pause, _LONGEST_PAUSE)

    def stop(self) -> None:
        """Hear no more pokes; wait until those that were heard are over."""
        self._over.set()
        state.should_stop = 0
        self.join()
        state.should_stop = None

    def _worker(self) -> Any:
        return self._app.WorkController(
            hostname=self._station.id,
            pool="threads",
            concurrency=self._slots,
            queues=list(self._station.queues),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )


class _Consumer(Consumer):  # type: ignore[misc]  # Celery has no types
    """Celery's consumer, with one line in the log for each thing that happens.

    What is no poke is dropped: nobody could do anything with it.
    """

    _away = False

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, however long that takes."""
        made = conn.ensure_connection(
            lambda error, _interval: self._missed(error),
            callback=state.maybe_shutdown,
            interval_start=1,
            interval_step=2,
            interval_max=int(_LONGEST_PAUSE),
        )
        _LOG.info("listening for pokes at %s", sanitize_url(self.app.conf.broker_url))
        self._away = False
        return made

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._missed(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        self._missed(exc)
        super().on_connection_error_after_connected(exc)

    def on_unknown_message(self, body: object, message: Any) -> None:
        self._drop(message, f"no task: {body!r}")

    def on_unknown_task(self, body: object, message: Any, exc: Exception) -> None:  # noqa: ARG002
        self._drop(message, f"an unknown task: {message.headers.get('task')!r}")

    def on_invalid_task(self, body: object, message: Any, exc: Exception) -> None:  # noqa: ARG002
        self._drop(message, f"an invalid task: {exc}")

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        self._drop(message, str(exc))

    def _missed(self, error: Exception) -> None:
        if not self._away:
            _LOG.warning("the broker is away, looking for jobs instead: %s", _told(error))
        self._away = True

    def _drop(self, message: Any, why: str) -> None:
        _LOG.warning("dropped a message that is no poke: %s", why[:_SHOWN])
        message.ack()


class _Message(kombu_redis.Channel.Message):  # type: ignore[misc]  # kombu has no types
    """A message that cannot be acknowledged costs a line of the log, not a page: it comes again."""

    def ack_log_error(self, logger: object, errors: object, multiple: bool = False) -> None:  # noqa: ARG002
        try:
            self.ack(multiple=multiple)
        except _TROUBLE as error:
            _LOG.warning("a poke that was heard may come again: %s", _told(error))


class _Channel(kombu_redis.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel that survives what is no message at all: kombu's own lets its reader die of it."""

    Message = _Message

    def _brpop_read(self, **options: object) -> object:
        try:
            return super()._brpop_read(**options)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            _LOG.warning("dropped what is no message: %s", str(error)[:_SHOWN])
            raise Empty from error


class _Transport(kombu_redis.Transport):  # type: ignore[misc]  # kombu has no types
    Channel = _Channel


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:_SHOWN] or type(error).__name__
