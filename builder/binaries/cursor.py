"""Reads that stay inside their bytes, and a limit on how much work one file can cause.

Everything in a binary is hostile: offsets, counts and sizes are checked before they are used, and
each table row and each byte of a name is paid for from a budget that grows with the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from builder.errors import BinaryError

ByteOrder = Literal["<", ">"]
"""Little or big endian, as struct writes them."""

# One unit is some 12 ns. Of 1,500 honest libraries the dearest took 0.4 units for each of its
# bytes; the largest, of 117 MB, took 4.6 million.
_WORK_FOR_EACH_BYTE: Final = 4
_WORK_AT_LEAST: Final = 1 << 16
_WORK_AT_MOST: Final = 1 << 28
_ROW: Final = 8
STEP: Final = 16
"""Units for a name, or for one step along a chain of records."""
# Most names fit the first window; a longer one is tried again with the next, so that a reader
# copies little, and never more than some sixteen times what it was paid for.
_NAME_WINDOWS: Final = (1 << 8, 1 << 12, 1 << 16, 1 << 20)
_BATCH: Final = 1024  # names that are looked for before they are paid for


class Budget:
    """Work that reading may still cost, in units: a byte of a name is one, a table row eight.

    What is allowed grows with the file, up to a limit. Names that share their bytes (the tails of
    a string table, the prefixes of an export trie) can cost more than they take up.
    """

    __slots__ = ("allowed", "left")

    def __init__(self, size: int) -> None:
        self.allowed = min(_WORK_AT_LEAST + _WORK_FOR_EACH_BYTE * size, _WORK_AT_MOST)
        self.left = self.allowed

    @property
    def spent(self) -> int:
        """Units used up so far."""
        return self.allowed - self.left

    def spend(self, units: int, *, offset: int) -> None:
        """Pay `units`. Raises BinaryError when the file has cost more than its size allows."""
        self.left -= units
        if self.left < 0:
            raise BinaryError("reading it costs more work than its size allows", offset=offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A run of bytes of a file, with its byte order; every read stays inside or raises BinaryError.

    `base` is where the run starts in the file. Offsets of the methods count from that start.
    """

    view: memoryview
    base: int
    order: ByteOrder
    budget: Budget

    @property
    def size(self) -> int:
        """How many bytes the run has."""
        return len(self.view)

    def error(self, message: str, offset: int) -> BinaryError:
        """A BinaryError that names the place in the file."""
        return BinaryError(message, offset=self.base + offset)

    def need(self, offset: int, size: int, what: str) -> None:
        """Check that `size` bytes at `offset` are inside."""
        if offset < 0 or size < 0 or offset + size > len(self.view):
            raise self.error(
                f"{what} reaches {offset + size - len(self.view)} bytes beyond its end", offset
            )

    def ordered(self, order: ByteOrder) -> Region:
        """The same bytes, read in another byte order."""
        return Region(view=self.view, base=self.base, order=order, budget=self.budget)

    def accounted(self) -> Region:
        """The same bytes, with a budget of their own."""
        budget = Budget(len(self.view))
        return Region(view=self.view, base=self.base, order=self.order, budget=budget)

    def spend(self, units: int, offset: int) -> None:
        """Pay for work that what stands at `offset` causes."""
        self.budget.spend(units, offset=self.base + offset)

    def part(self, offset: int, size: int, what: str) -> Region:
        """The run of `size` bytes at `offset`."""
        self.need(offset, size, what)
        return Region(
            view=self.view[offset : offset + size],
            base=self.base + offset,
            order=self.order,
            budget=self.budget,
        )

    def rest(self, offset: int, what: str) -> Region:
        """The run from `offset` to the end."""
        self.need(offset, 0, what)
        return self.part(offset, len(self.view) - offset, what)

    def unpack(self, layout: str, offset: int, what: str) -> tuple[Any, ...]:
        """The fields at `offset`, their layout in struct's letters without the byte order."""
        try:
            return struct.unpack_from(self.order + layout, self.view, offset)
        except struct.error:
            raise self.error(f"{what} reaches beyond the end", offset) from None

    def rows(self, layout: str, offset: int, count: int, what: str) -> Iterator[tuple[Any, ...]]:
        """`count` rows of one layout, one after another from `offset` on."""
        size = count * struct.calcsize(self.order + layout)
        self.need(offset, size, what)
        self.spend(_ROW * count, offset)
        return struct.iter_unpack(self.order + layout, self.view[offset : offset + size])

    def text(self, offset: int, what: str) -> str:
        """The C string at `offset`; bytes that are no UTF-8 are given as ``\\xNN``."""
        for window in _NAME_WINDOWS:
            head, end, _ = bytes(self.view[offset : offset + window]).partition(b"\0")
            if end:
                self.spend(STEP + len(head), offset)
                return head.decode("utf-8", "backslashreplace")
        raise self._endless(offset, what)

    def texts(self, offsets: Sequence[int], what: str) -> list[str]:
        """The C strings at `offsets`, in their order; many cost far less than one by one."""
        if len(offsets) * _NAME_WINDOWS[0] < len(self.view):
            return [self.text(offset, what) for offset in offsets]
        table, names = bytes(self.view), list[bytes]()
        for start in range(0, len(offsets), _BATCH):
            names += self._batch(table, offsets[start : start + _BATCH], what)
        # No name holds a NUL, so they can be decoded in one go.
        return b"\0".join(names).decode("utf-8", "backslashreplace").split("\0") if names else []

    def _batch(self, table: bytes, offsets: Sequence[int], what: str) -> list[bytes]:
        """Names by their offsets in `table`; paid for before they are copied."""
        ends = [table.find(0, offset, offset + _NAME_WINDOWS[-1]) for offset in offsets]
        if -1 in ends:
            raise self._endless(offsets[ends.index(-1)], what)
        self.spend(STEP * len(ends) + sum(ends) - sum(offsets), offsets[0])
        return [table[offset:end] for offset, end in zip(offsets, ends, strict=True)]

    def _endless(self, offset: int, what: str) -> BinaryError:
        return self.error(f"{what} has no end inside its table, or is longer than 1 MiB", offset)


def region_of(data: bytes | memoryview, order: ByteOrder) -> Region:
    """All of `data`, with a fresh budget."""
    view = memoryview(data).cast("B") if isinstance(data, memoryview) else memoryview(data)
    return Region(view=view, base=0, order=order, budget=Budget(len(view)))
