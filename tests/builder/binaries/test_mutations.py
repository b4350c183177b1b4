"""Damaged files: only BinaryError comes out, nothing cut off is taken, nothing costs too much.

WHEELFARM_MUTATIONS sets how many damaged files are tried (3,000 unless told), and
WHEELFARM_MUTATIONS_SEED where their series starts.
"""

from __future__ import annotations

import os
import random
import struct
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from builder.binaries.cursor import Budget
from builder.binaries.read import read_binary
from builder.errors import BinaryError

TRIES = int(os.environ.get("WHEELFARM_MUTATIONS", "3000"))
SEED = int(os.environ.get("WHEELFARM_MUTATIONS_SEED", "20260901"))
NASTY = (0, 1, 4, 7, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF)
TABLES = 2048
"""Headers, load commands and program headers lie in the first bytes; most damage goes there."""

Damage = Callable[[random.Random, bytearray], None]


def _place(dice: random.Random, data: bytearray) -> int:
    end = len(data) if dice.random() < 0.4 else min(TABLES, len(data))
    return dice.randrange(0, end - 8) & ~3


def flip_bits(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.randint(1, 8)):
        data[_place(dice, data) + dice.randrange(4)] ^= 1 << dice.randrange(8)


def set_word(dice: random.Random, data: bytearray) -> None:
    struct.pack_into(dice.choice("<>") + "I", data, _place(dice, data), dice.choice(NASTY))


def grow_word(dice: random.Random, data: bytearray) -> None:
    """Counts, sizes and offsets become a little or much larger; runs of bytes then overlap."""
    order, at = dice.choice("<>"), _place(dice, data)
    (value,) = struct.unpack_from(order + "I", data, at)
    larger = dice.choice((value + 1, value * 2, value + 4096, value - 1, value + len(data)))
    struct.pack_into(order + "I", data, at, larger & 0xFFFFFFFF)


def copy_bytes(dice: random.Random, data: bytearray) -> None:
    """One part of a table comes to stand where another was."""
    source, target, size = _place(dice, data), _place(dice, data), dice.choice((4, 8, 24, 56))
    data[target : target + size] = data[source : source + size].ljust(size, b"\0")


def point_somewhere(dice: random.Random, data: bytearray) -> None:
    struct.pack_into(dice.choice("<>") + "I", data, _place(dice, data), dice.randrange(len(data)))


DAMAGE: tuple[Damage, ...] = (flip_bits, set_word, grow_word, copy_bytes, point_somewhere)


def damaged(seeds: list[bytes]) -> Iterator[bytes]:
    for turn in range(TRIES):
        dice = random.Random(SEED + turn)
        data = bytearray(seeds[turn % len(seeds)])
        for _ in range(dice.choice((1, 1, 2, 4))):
            dice.choice(DAMAGE)(dice, data)
        yield bytes(data)


def calls_to_read(data: bytes) -> int:
    """How many calls, of Python's and of built-in functions, reading `data` takes."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        read_binary(data)
    except BinaryError:
        pass
    finally:
        sys.setprofile(None)
    return calls


def test_damage_gives_a_record_or_a_binary_error_at_a_bounded_cost(
    binaries: dict[str, bytes],
) -> None:
    refused = 0
    for data in damaged(list(binaries.values())):
        assert calls_to_read(data) < 2000 + Budget(len(data)).allowed
        try:
            read_binary(data)
        except BinaryError:
            refused += 1
    assert refused > TRIES // 20, "the damage does not reach what the readers read"


def lengths(data: bytes, dice: random.Random) -> set[int]:
    """Every word of the tables, a byte to each side, and places all over the file."""
    words = range(8, min(TABLES, len(data)), 16)
    anywhere = (dice.randrange(8, len(data)) for _ in range(150))
    return {near for at in (*words, *anywhere) for near in (at - 1, at, at + 1) if near < len(data)}


@pytest.mark.parametrize("shape", range(12))
def test_no_truncation_is_accepted(binaries: dict[str, bytes], shape: int) -> None:
    name, data = sorted(binaries.items())[shape]
    read_binary(data)
    for length in sorted(lengths(data, random.Random(SEED)) | {len(data) - 1}):
        with pytest.raises(BinaryError):
            pytest.fail(f"{name} cut to {length}: {read_binary(data[:length])}")


def test_bytes_of_nothing_behind_a_magic_are_refused_or_empty(binaries: dict[str, bytes]) -> None:
    dice = random.Random(SEED)
    for data in binaries.values():
        for size in (8, 32, 64, 500, 5000):
            noise = data[:8] + dice.randbytes(size)
            assert calls_to_read(noise) < 2000 + Budget(len(noise)).allowed


def test_bytes_that_say_nothing_are_not_looked_at(binaries: dict[str, bytes]) -> None:
    for name, data in binaries.items():
        assert calls_to_read(data + bytes(20_000_000)) == calls_to_read(data), name
