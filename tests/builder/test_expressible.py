"""What one file name can say of a set of tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import Tag

from builder.expressible import expressible
from store.tags import parse_tag_set, tag_set_text


def _tags(*texts: str) -> frozenset[Tag]:
    return frozenset().union(*map(parse_tag_set, texts))


@pytest.mark.parametrize(
    ("texts", "kept", "left_out"),
    [
        (("cp311-cp311-linux_x86_64",), ("cp311-cp311-linux_x86_64",), ()),
        (("cp311.cp312-none-a.b",), ("cp311.cp312-none-a.b",), ()),
        (("cp311-cp311-a", "cp312-cp312-a"), ("cp311.cp312-none-a",), ()),
        (("cp312-cp312-a", "cp313-cp313-a"), ("cp313-cp313-a",), ("cp312-cp312-a",)),
        (
            ("cp310.cp311-none-a.b.c", "cp312-none-a"),
            ("cp310.cp311-none-a.b.c",),
            ("cp312-none-a",),
        ),
        (
            ("cp310-none-a.b.c", "cp311-none-a.b.d", "cp312-none-a.b.e"),
            ("cp310.cp311.cp312-none-a.b",),
            ("cp310-none-c", "cp311-none-d", "cp312-none-e"),
        ),
    ],
)
def test_the_largest_part_is_kept(
    texts: tuple[str, ...], kept: tuple[str, ...], left_out: tuple[str, ...]
) -> None:
    assert expressible(_tags(*texts)) == (_tags(*kept), _tags(*left_out))


def test_no_tags_are_no_tags() -> None:
    assert expressible(frozenset()) == (frozenset(), frozenset())


_SOME = st.frozensets(
    st.builds(
        Tag,
        st.sampled_from(["cp310", "cp311", "cp313"]),
        st.sampled_from(["cp310", "cp311", "cp313", "abi3", "none"]),
        st.sampled_from(["a", "b", "c"]),
    ),
    min_size=1,
    max_size=12,
)


@given(_SOME)
def test_what_is_kept_fits_into_one_name_and_nothing_is_made_up(tags: frozenset[Tag]) -> None:
    kept, left_out = expressible(tags)
    assert parse_tag_set(tag_set_text(kept)) == kept
    assert left_out <= tags
    for tag in kept - tags:
        assert tag.abi == "none"
        assert Tag(tag.interpreter, tag.interpreter, tag.platform) in tags
