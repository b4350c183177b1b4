"""Bounds, numbers, names and the budget of the reads that everything else is made of."""

from __future__ import annotations

import pytest

from builder.binaries.cursor import Budget, Region, region_of
from builder.errors import BinaryError


def region(data: bytes, base: int = 0) -> Region:
    return Region(view=memoryview(data), base=base, order="<", budget=Budget(len(data)))


def test_a_part_inside_keeps_its_place_in_the_file() -> None:
    part = region(b"0123456789", base=100).part(4, 3, "it")
    assert (bytes(part.view), part.base) == (b"456", 104)


@pytest.mark.parametrize(("offset", "size"), [(8, 3), (11, 0), (0, 11), (1 << 64, 1), (4, -1)])
def test_a_part_outside_is_refused_with_its_place(offset: int, size: int) -> None:
    with pytest.raises(BinaryError) as caught:
        region(b"0123456789", base=100).part(offset, size, "it")
    assert caught.value.offset == 100 + offset


def test_a_number_that_is_cut_off_is_refused() -> None:
    with pytest.raises(BinaryError, match="beyond the end"):
        region(b"\1\2\3").unpack("I", 0, "a word")


def test_rows_need_all_their_bytes_before_the_first_is_given() -> None:
    assert list(region(b"\1\0\2\0").rows("H", 0, 2, "a table")) == [(1,), (2,)]
    with pytest.raises(BinaryError, match="a table reaches 2 bytes"):
        region(b"\1\0\2\0").rows("H", 0, 3, "a table")


@pytest.mark.parametrize("length", [0, 5, 255, 256, 4096, 70_000])
def test_a_name_of_any_window_is_read_to_its_end(length: int) -> None:
    assert region(b"x" + b"n" * length + b"\0tail").text(1, "a name") == "n" * length


@pytest.mark.parametrize("data", [b"abc", b"", b"a" * 300])
def test_a_name_without_an_end_is_refused(data: bytes) -> None:
    with pytest.raises(BinaryError, match="no end"):
        region(data).text(0, "a name")


def test_a_name_that_is_no_utf8_can_be_printed() -> None:
    assert region(b"a\xff\0").text(0, "a name") == "a\\xff"


@pytest.mark.parametrize(
    ("data", "value", "after"),
    [(b"\x00", 0, 1), (b"\x7f", 127, 1), (b"\xe5\x8e\x26", 624485, 3), (b"\x80\x00", 0, 2)],
)
def test_uleb(data: bytes, value: int, after: int) -> None:
    assert region(data).uleb(0, "a number") == (value, after)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80" * 11 + b"\0"])
def test_a_uleb_without_an_end_is_refused(data: bytes) -> None:
    with pytest.raises(BinaryError, match="does not end"):
        region(data).uleb(0, "a number")


def test_work_is_paid_from_one_budget_by_all_parts() -> None:
    whole = region(b"name\0" * 10)
    whole.part(0, 5, "a part").text(0, "a name")
    assert whole.budget.spent > 0
    whole.spend(whole.budget.left - 1, 0)
    with pytest.raises(BinaryError, match="more work"):
        whole.text(0, "a name")


def test_what_may_be_spent_grows_with_the_file_up_to_a_limit() -> None:
    small, large, giant = Budget(1000), Budget(10**6), Budget(10**12)
    assert small.allowed < large.allowed < giant.allowed == Budget(10**13).allowed


def test_a_view_of_anything_is_read_as_bytes() -> None:
    assert region_of(memoryview(b"abcd").cast("I"), "<").size == 4
