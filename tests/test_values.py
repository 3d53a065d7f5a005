from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from igpt.errors import ConfigError
from igpt.values import LATER, from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    rate: float
    kind: Literal["cosine", "constant"] = "cosine"


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    many: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] = field(default_factory=dict)
    count: int | None = None
    anything: dict[str, Any] = field(default_factory=dict)


WHOLE = Outer(
    name="a",
    inner=Inner(rate=0.5),
    many=(Inner(1.0), Inner(2.0, "constant")),
    by_name={"x": Inner(3.0)},
    count=7,
    anything={"deep": [1, {"more": None}]},
)


def test_what_is_written_is_read_as_what_it_was():
    assert from_dict(Outer, to_dict(WHOLE)) == WHOLE


def test_what_is_written_is_plain():
    assert to_dict(WHOLE)["many"] == [
        {"rate": 1.0, "kind": "cosine"},
        {"rate": 2.0, "kind": "constant"},
    ]


def test_fields_with_a_default_may_be_left_out():
    read = from_dict(Outer, {"name": "a", "inner": {"rate": 1}})
    assert read == Outer("a", Inner(1.0))
    assert type(read.inner.rate) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nam": 1}, "a thing has no setting 'nam'; did you mean 'name'"),
        ({"inner": {"rat": 1.0}}, "no setting 'inner.rat'; did you mean 'rate'"),
        ({"inner": {}}, "a thing lacks 'inner.rate'"),
        ({"inner": {"rate": "2"}}, "inner.rate should be a number, got '2'"),
        ({"inner": {"rate": True}}, "inner.rate should be a number, got True"),
        ({"inner": {"rate": float("nan")}}, "inner.rate should be a number, got nan"),
        ({"inner": {"rate": 10**400}}, "inner.rate should be a number, got 1000"),
        ({"name": ["x"] * 999}, r"name should be a text, got \[.{79}\.\.\.$"),
        ({"inner": [1]}, r"inner should be an object, got \[1\]"),
        ({"inner": {"rate": 1, "kind": "cos"}}, "kind has no choice 'cos'; did you mean 'cosine'"),
        ({"many": [{"rate": 1}, {"rate": None}]}, r"many\[1\].rate should be a number, got None"),
        ({"many": {"rate": 1}}, "many should be a list"),
        ({"by_name": {"x": {"rate": "y"}}}, "by_name.x.rate should be a number"),
        ({"count": 2.0}, "count should be a whole number or null, got 2.0"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(change, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, {"name": "a", "inner": {"rate": 1}} | change, name="a thing")


def test_a_field_that_came_later_tells_values_apart_only_where_it_is_set():
    @dataclass(frozen=True, kw_only=True)
    class Grown:
        old: int = 1
        new: int = field(default=2, metadata=LATER)

    assert to_dict(Grown(), for_record=True) == {"old": 1}
    assert to_dict((Grown(new=3),), for_record=True) == [{"old": 1, "new": 3}]
    assert to_dict(Grown()) == {"old": 1, "new": 2}
