"""What one file name can say: a compressed tag set is all combinations of its parts (PEP 425)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement
from operator import attrgetter

from packaging.tags import Tag

from builder.modules import names_one_abi
from store.errors import MalformedError
from store.tags import tag_set_text


def expressible(tags: frozenset[Tag]) -> tuple[frozenset[Tag], frozenset[Tag]]:
    """The largest part of `tags` that one file name can say, and what of `tags` that leaves out.

    Two ABIs in one name promise each of them to every interpreter. So a set that does not fit is
    also tried as ``cp311.cp312-none``, which says the same as cp311-cp311 and cp312-cp312.
    """
    if _fits(tags):
        return tags, frozenset()
    either = (*_products(tags), *_products(frozenset(map(_without_abi, tags))))
    kept = max(either, key=lambda part: (len(part), part <= tags, sorted(map(str, part))))
    return kept, frozenset(tag for tag in tags if not {tag, _without_abi(tag)} & kept)


def _fits(tags: frozenset[Tag]) -> bool:
    try:
        tag_set_text(tags)
    except MalformedError:
        return not tags
    return True


def _without_abi(tag: Tag) -> Tag:
    """``cp311-none`` for ``cp311-cp311``; from 3.13 on the two differ, and the tag stays."""
    if tag.abi == tag.interpreter and names_one_abi(tag.interpreter):
        return Tag(tag.interpreter, "none", tag.platform)
    return tag


def _products(tags: frozenset[Tag]) -> Iterator[frozenset[Tag]]:
    """Parts of `tags` that are all combinations of their parts; the largest is among them."""
    for one, other in (("abi", "interpreter"), ("interpreter", "abi")):
        groups: dict[str, list[Tag]] = defaultdict(list)
        for tag in tags:
            groups[attrgetter(one)(tag)].append(tag)
        for group in groups.values():
            yield from _rectangles(group, other)


def _rectangles(group: Iterable[Tag], part: str) -> Iterator[frozenset[Tag]]:
    """Every choice of platforms that two rows share, with all rows that have them."""
    rows: dict[str, dict[str, Tag]] = defaultdict(dict)
    for tag in group:
        rows[attrgetter(part)(tag)][tag.platform] = tag
    columns = {frozenset(row) for row in rows.values()}
    for one, other in combinations_with_replacement(columns, 2):
        shared = one & other
        holding = [row for row in rows.values() if row.keys() >= shared]
        yield frozenset(row[platform] for row in holding for platform in shared)
