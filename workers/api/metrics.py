"""The farm's figures for Prometheus (text format 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from workers.farm.answers import Queues, Worker

Labels = Mapping[str, str]


def metrics_text(queues: Queues, workers: Iterable[Worker], jobs: Mapping[str, int]) -> str:
    """Depth, age and takers of every queue; jobs and workers by state."""
    by_state = Counter(worker.state for worker in workers)
    families = [
        *_queue_families(queues),
        _family("jobs", "Jobs by state.", [({"state": s}, n) for s, n in sorted(jobs.items())]),
        _family(
            "workers", "Workers by state.", [({"state": s}, n) for s, n in sorted(by_state.items())]
        ),
        _family("submissions_unplanned", "Submissions to be planned.", [({}, queues.unplanned)]),
    ]
    return "".join(line + "\n" for family in families for line in family)


def _queue_families(queues: Queues) -> Iterator[Iterator[str]]:
    told = {
        "queue_waiting": ("Jobs that wait.", "waiting"),
        "queue_held": ("Waiting jobs that are held back for a while.", "held"),
        "queue_oldest_seconds": ("Age of the job that waits longest.", "oldest_seconds"),
        "queue_running": ("Jobs that run.", "running"),
        "queue_workers": ("Workers that take jobs of the queue.", "workers"),
        "queue_slots": ("Jobs that those workers do at a time.", "slots"),
    }
    for name, (text, field) in told.items():
        values = [({"queue": each.queue}, getattr(each, field)) for each in queues.queues]
        yield _family(name, text, values)


def _family(name: str, text: str, values: Iterable[tuple[Labels, int]]) -> Iterator[str]:
    yield f"# HELP wheelfarm_{name} {text}"
    yield f"# TYPE wheelfarm_{name} gauge"
    for labels, value in values:
        # No label needs an escape: names of queues and states are of letters, digits, "-_.".
        shown = ",".join(f'{key}="{each}"' for key, each in labels.items())
        yield f"wheelfarm_{name}{{{shown}}} {value}" if shown else f"wheelfarm_{name} {value}"
