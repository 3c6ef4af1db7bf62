from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.passmanager.sample_passes  # noqa: F401
from edgeir.errors import EdgeIRError
from edgeir.passmanager import find_pass, parse_pass, print_pass
from edgeir.passmanager.options import split_top_level


def test_every_kind_of_option() -> None:
    item = parse_pass(
        'test-options{ratio=1e-3, count=-4,score=taylor,flag=true,text="a, {b} \\"c\\"",'
        "max-bytes=7,sizes=[1,2],pair=(x,2)}"
    )
    cls = find_pass("test-options")
    assert item == cls(0.001, -4, "taylor", True, 'a, {b} "c"', 7, (1, 2), ("x", 2.0))  # type: ignore[call-arg]


def test_only_what_differs_from_defaults_is_printed() -> None:
    assert print_pass(parse_pass("test-options{ratio=0.5,count=4}")) == "test-options{count=4}"
    assert str(parse_pass("test-options{max-bytes=none}")) == "test-options"
    assert str(parse_pass("test-required{amount=2}")) == "test-required{amount=2}"


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    ratio=st.floats(allow_nan=False),
    count=st.integers(),
    score=st.sampled_from(("l1", "taylor")),
    flag=st.booleans(),
    text=st.text(max_size=12),
    max_bytes=st.none() | st.integers(),
    sizes=st.lists(st.integers(), max_size=3).map(tuple),
    pair=st.tuples(st.text(max_size=4), st.floats(allow_nan=False)),
)
def test_text_round_trip(**options: object) -> None:
    item = find_pass("test-options")(**options)
    assert parse_pass(print_pass(item)) == item


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("canonicalise", "did you mean canonicalize"),
        ("test-options{ration=1}", "did you mean ratio"),
        ("test-options{count=1.5}", "an integer"),
        ("test-options{count=x}", "option 'count' of pass test-options"),
        ("test-options{flag=1}", "true or false"),
        ("test-options{score=taylr}", "did you mean taylor"),
        ("test-options{sizes=1}", r"\[a,b"),
        ("test-options{pair=[a]}", "2 items"),
        ("test-options{max-bytes=big}", "wrong kind"),
        ("test-options{ratio}", "option=value"),
        ("test-options{ratio=1,ratio=2}", "given twice"),
        ("test-required", "needs options"),
        ("test-options{", "not a pass"),
        ("test-options{text=[}", "brackets"),
        ("", "not a pass"),
    ],
)
def test_errors_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(EdgeIRError, match=message):
        parse_pass(text)


def test_splitting() -> None:
    assert split_top_level('a, b{x=[1,2],y="},"} ,c') == ["a", 'b{x=[1,2],y="},"}', "c"]
    assert split_top_level(" ") == []
    with pytest.raises(EdgeIRError, match="brackets"):
        split_top_level("a{b]")
