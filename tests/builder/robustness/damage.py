"""Ways to damage a file with tables: bits, words, counts, offsets, lengths, whole runs of bytes.

Each takes the dice and the bytes, which it changes in place; what it does is decided by the dice
alone, so that a number of a series always stands for the same damaged file.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from functools import cache

Damage = Callable[[random.Random, bytearray], None]

NASTY = (0, 1, 4, 7, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF)
TABLES = 4096
"""Headers and tables lie in the first and in the last bytes; most damage goes there."""
_STRUCTURES = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07")


def _place(dice: random.Random, data: bytearray) -> int:
    last = max(0, len(data) - 8)
    where = dice.random()
    if where < 0.5:
        return dice.randint(0, min(TABLES, last))
    return dice.randint(max(0, last - TABLES), last) if where < 0.8 else dice.randint(0, last)


def _word(dice: random.Random, data: bytearray) -> tuple[str, int]:
    """Format and place of a field: two, four or eight bytes of either order, mostly aligned."""
    place = _place(dice, data)
    form = dice.choice("<>") + dice.choice("HIIIQ")
    return form, place & ~3 if dice.random() < 0.7 else place


def _put(form: str, data: bytearray, at: int, value: int) -> None:
    size = struct.calcsize(form)
    if at + size <= len(data):
        struct.pack_into(form, data, at, value & ((1 << 8 * size) - 1))


def _get(form: str, data: bytearray, at: int) -> int:
    if at + struct.calcsize(form) > len(data):
        return 0
    (value,) = struct.unpack_from(form, data, at)
    return int(value)


def flip_bits(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.randint(1, 8)):
        data[_place(dice, data)] ^= 1 << dice.randrange(8)


def set_word(dice: random.Random, data: bytearray) -> None:
    form, at = _word(dice, data)
    _put(form, data, at, dice.choice(NASTY))


def grow_count(dice: random.Random, data: bytearray) -> None:
    """A count, size or offset becomes a little or much larger."""
    form, at = _word(dice, data)
    value = _get(form, data, at)
    grown = (value + 1, value * 2, value + 4096, value - 1, value + len(data), value << 16)
    _put(form, data, at, dice.choice(grown))


def overlap(dice: random.Random, data: bytearray) -> None:
    """One field takes another's value: two runs of bytes come to lie over each other."""
    form, at = _word(dice, data)
    _, other = _word(dice, data)
    _put(form, data, at, _get(form, data, other) + dice.choice((0, 0, 1, 8)))


def point_somewhere(dice: random.Random, data: bytearray) -> None:
    form, at = _word(dice, data)
    _put(form, data, at, dice.randrange(len(data)))


def copy_bytes(dice: random.Random, data: bytearray) -> None:
    """One part of a table comes to stand where another was."""
    source, target, size = _place(dice, data), _place(dice, data), dice.choice((4, 8, 24, 46, 56))
    piece = data[source : source + size]
    data[target : target + len(piece)] = piece


def insert_bytes(dice: random.Random, data: bytearray) -> None:
    at = _place(dice, data)
    data[at:at] = dice.randbytes(dice.choice((1, 4, 16, 200)))


def remove_bytes(dice: random.Random, data: bytearray) -> None:
    at = _place(dice, data)
    del data[at : at + dice.choice((1, 4, 16, 200))]


KINDS: tuple[Damage, ...] = (
    flip_bits,
    set_word,
    grow_count,
    overlap,
    point_somewhere,
    copy_bytes,
    insert_bytes,
    remove_bytes,
)


def damaged(seed: bytes, number: int) -> bytes:
    """The damaged form of `seed` that has this number in its series."""
    dice = random.Random(number)
    data = bytearray(seed)
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        dice.choice(KINDS)(dice, data)
    return bytes(data)


@cache
def boundaries(data: bytes) -> tuple[int, ...]:
    """Lengths at which a part of the file ends or begins: what its tables name, a byte each side.

    Every word of the first and last bytes that could be an offset counts as one.
    """
    found = {0, 1, 2, 4, 8, *range(16, min(len(data), 512), 4)}
    for start in (0, max(0, len(data) - TABLES) & ~3):
        found |= set(_offsets(data, start))
    for magic in _STRUCTURES:
        found |= {at for at in range(len(data)) if data.startswith(magic, at)}
    near = {place + step for place in found for step in (-1, 0, 1)}
    return tuple(sorted(place for place in near if 0 <= place < len(data)))


def _offsets(data: bytes, start: int) -> Iterator[int]:
    end = min(len(data), start + TABLES) & ~3
    for order in ("little", "big"):
        for at in range(start, end, 4):
            value = int.from_bytes(data[at : at + 4], "little" if order == "little" else "big")
            if 0 < value < len(data):
                yield value
