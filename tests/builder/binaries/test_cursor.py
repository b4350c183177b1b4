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


@pytest.mark.parametrize("table", [b"\0one\0two\xff\0", b"\0one\0two\xff\0" + bytes(9000)])
def test_many_names_are_read_as_one_by_one(table: bytes) -> None:
    offsets = [1, 5, 0, 3, 1]
    assert region(table).texts(offsets, "a name") == ["one", "two\\xff", "", "e", "one"]
    assert region(table).texts([], "a name") == []


def test_one_bad_name_among_many_is_refused_with_its_place() -> None:
    table = b"\0one\0two"
    for bad in (5, 8, 9, 1 << 32):
        with pytest.raises(BinaryError, match="no end") as caught:
            region(table, base=100).texts([1, bad, 1], "a name")
        assert caught.value.offset == 100 + bad


def test_many_names_are_paid_for_before_they_are_copied() -> None:
    whole = region(b"n" * 60_000 + b"\0")
    with pytest.raises(BinaryError, match="more work"):
        whole.texts([0] * 2000, "a name")


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
