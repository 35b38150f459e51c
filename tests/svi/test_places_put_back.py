"""Structures of containers and objects, edited at random, are put back as they were."""

from __future__ import annotations

import collections
import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_vae.svi.places import Places

LEAVES = st.one_of(
    st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, -0.0, 1.0, 0.5]), st.text("ab", max_size=2), st.none()
)


class Holder:
    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


STRUCTURES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.lists(inner, max_size=3).map(collections.deque),
        st.sets(st.integers(0, 3), max_size=3),
        st.dictionaries(st.sampled_from("xyz"), inner, max_size=3).map(lambda d: Holder(**d)),
    ),
    max_leaves=8,
)


def inside(thing: Any) -> list[Any]:
    """All that can be edited in it, itself first."""
    if isinstance(thing, Holder):
        return [thing, *(part for value in vars(thing).values() for part in inside(value))]
    if isinstance(thing, (list, dict, collections.deque)):
        values = thing.values() if isinstance(thing, dict) else thing
        return [thing, *(part for value in values for part in inside(value))]
    return [thing] if isinstance(thing, set) else []


def frozen(thing: Any) -> Any:
    """What it holds: numbers by type and sign, the rest by identity."""
    if isinstance(thing, Holder):
        return id(thing), tuple((name, frozen(value)) for name, value in sorted(vars(thing).items()))
    if isinstance(thing, dict):
        return id(thing), tuple((name, frozen(value)) for name, value in thing.items())
    if isinstance(thing, (list, collections.deque)):
        return id(thing), tuple(map(frozen, thing))
    if isinstance(thing, set):
        return id(thing), frozenset(thing)
    return type(thing), repr(thing)


EDITS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["put", "add", "take", "clear"]), st.integers(0, 5), STRUCTURES),
    max_size=6,
)


def edit(thing: Any, how: str, where: int, value: Any) -> None:
    if isinstance(thing, Holder):
        return edit(vars(thing), how, where, value)
    if isinstance(thing, set):
        return {"put": set.add, "add": set.add, "take": set.discard}.get(how, lambda s, _: s.clear())(thing, where)
    if how == "clear":
        return thing.clear()
    if isinstance(thing, dict):
        return thing.pop("abcxyz"[where], None) if how == "take" else thing.update({"abcxyz"[where]: value})
    if how == "add" or not thing:
        return thing.append(value)
    if how == "take":
        del thing[where % len(thing)]
    else:
        thing[where % len(thing)] = value
    return None


@given(STRUCTURES.filter(inside), EDITS)
@settings(max_examples=150, deadline=None)
def test_after_any_edits_all_is_put_back(root, edits):
    """Also what an edit has taken out of the structure, and edited after that."""
    places = Places()
    parts = inside(root)
    for part in {id(part): part for part in parts}.values():
        if isinstance(part, Holder):
            for name in "abcxyz":
                places.attribute(part, name, f"{name!r} of a holder", True)
        else:
            places.container(part, "a container", True)
    places.note()
    before = [frozen(part) for part in parts]
    assert places.same()
    for number, how, where, value in edits:
        now = [*parts, *inside(root)]
        edit(now[number % len(now)], how, where, copy.deepcopy(value))
    after = [frozen(part) for part in parts]
    assert places.same() == (after == before)
    places.restore()
    assert [frozen(part) for part in parts] == before
    assert places.same()
