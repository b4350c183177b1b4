from __future__ import annotations

import io

import pytest
from rich.console import Console

from store.verdict import Finding
from workers.matrix import show_end, show_how_to_install, watch
from workers.outcome import Outcome, Status, exit_status


def outcome(status: Status = "built", **more: object) -> Outcome:
    values: dict[str, object] = {
        "package": "six",
        "version": "1.0",
        "target": "native",
        "fingerprint": "cp311-manylinux_2_36_x86_64-0123456789ab",
        "channel": "release",
        "status": status,
    }
    return Outcome(**(values | more))  # type: ignore[arg-type]


def shown(*, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None)
    with watch(console, ["native", "mac[1]"]) as watcher:
        watcher.planned(["six==1.0", "x==2"])
        watcher.started("x==2", "mac[1]")
        watcher.ended(outcome(filename="six-1.0.whl", seconds=3))
    return text.getvalue()


def test_a_terminal_gets_a_matrix_that_shows_what_runs() -> None:
    text = shown(terminal=True)
    assert "mac[1]" in text
    assert "building…" in text
    assert "built 3 s" in text


def test_elsewhere_each_end_is_a_plain_line() -> None:
    text = shown(terminal=False)
    assert text.split() == ["built", "six==1.0", "native", "six-1.0.whl", "(3", "s)"]


def test_the_end_counts_by_target_and_gives_every_reason() -> None:
    text = io.StringIO()
    finding = Finding(
        check="record", severity="error", message="a row is missing", member="a[b].so"
    )
    refused = outcome(
        "refused", package="x", code="verification", message="it was [refused]",
        first_error="e[0]", hint="do it", log="/l.log", findings=(finding,), channel="",
    )  # fmt: skip
    show_end(Console(file=text, width=120), [outcome(), outcome(), refused])
    lines = text.getvalue().splitlines()
    row = next(line for line in lines if "0123456789ab" in line)
    assert row.replace("│", " ").split()[2:] == ["release", "2", "1"]
    assert lines[-6:] == [
        "refused[verification]: x==1.0 for native",
        "  it was [refused]",
        "  first error: e[0]",
        "  record [a[b].so]: a row is missing",
        "  hint: do it",
        "  log: /l.log",
    ]


def test_what_to_type_next_names_the_channel_that_is_not_release() -> None:
    text = io.StringIO()
    ends = [outcome(filename="a.whl"), outcome(filename="b.whl", channel="dev/local"), outcome()]
    show_how_to_install(Console(file=text, width=40), ends)
    local, release = text.getvalue().splitlines()
    assert 'index-url --channel dev/local)"' in local
    assert 'index-url)"' in release


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["hit", "built", "skipped"], 0),
        (["hit", "refused"], 1),
        (["failed", "built"], 1),
        (["failed", "trouble"], 3),
        ([], 0),
    ],
)
def test_the_worst_end_is_the_exit_status(statuses: list[Status], expected: int) -> None:
    assert exit_status([outcome(status) for status in statuses]) == expected
