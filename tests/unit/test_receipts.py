"""What lies digested on people's disks never changes its meaning: golden vectors, and what may be added without a change."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshmap.model import JobSpec, Maker, Shipped, Verb
from sshmap.store.digest import EMPTY, digest_of
from sshmap.store.receipts import canonical, combine, digest_inputs, digest_maker, job_id, names_digest

SHIPPED = (
    Shipped(name="a.py", digest=digest_of(b"a")),
    Shipped(name="run", digest=digest_of(b"b"), executable=True),
)
MAKERS = [
    (Maker(verb=Verb.MAP, command="cat"), "4b55235b0d1c84547f138b20360ce3d4"),
    (Maker(verb=Verb.MAP, command="cat "), "56293fc221ac5e6cf03523b52d13d745"),
    (Maker(verb=Verb.FANOUT, command="split -n 3; ls"), "c4db65d16ab6f48befe421b1cd990c2e"),
    (Maker(verb=Verb.MERGE, command="tr 'ä' '\t' | xargs cat"), "1e4b52a05937a1714f97db1358984670"),
    (Maker(verb=Verb.MAP, command="python3 a.py", shipped=SHIPPED), "b333740142b969f9500603994a723bd2"),
    (Maker(verb=Verb.MAP, command="f()", shipped=SHIPPED, function="a.py:f"), "1d035736ea2df72904b923f2453aabbb"),
    (
        Maker(verb=Verb.MAP, command="f()", shipped=SHIPPED, function="a.py:f", packages=("polars>=1.2",)),
        "669d8fee414081cbd9a9ff9c15292212",
    ),
]
INPUTS = [
    ([("in/a", EMPTY)], "71d684eda2143605db09ad0e933517e2"),
    ([("in/日 本", digest_of(b"x"))], "77056e4b5cf8874de34a1ccc8e70d0ce"),
    ([("in/a", EMPTY), ("in/x/a", digest_of(b"x"))], "4c159cd34b8b4432eb079017336f67e4"),
]
JOBS = [
    (JobSpec(indir="sm://in/", outdir="sm://out/", maker=MAKERS[0][0]), "24d74cac2c25"),
    (JobSpec(indir="sm://in/*/*_5", outdir="sm://out/", maker=MAKERS[4][0]), "c3f82aa33583"),
]
NAMES = [
    ([], "00000000000000000000000000000000"),
    (["a"], "a96faf705af16834e6c632b61e964e1f"),
    (["a", "b", "ü"], "fdbc6d1df7119446ec3424ad56ae554e"),
]

base_names = st.text(st.characters(exclude_characters="/", exclude_categories=["C"]), min_size=1, max_size=8)


class LaterMaker(Maker, frozen=True, kw_only=True):
    """A maker as a later version may have it."""

    image: str = ""
    mounts: tuple[str, ...] = ()
    limits: dict[str, int] = {}  # noqa: RUF012  # msgspec copies the defaults of its structs


@pytest.mark.parametrize(("maker", "digest"), MAKERS, ids=str)
def test_digest_of_a_maker_never_changes(maker: Maker, digest: str) -> None:
    assert digest_maker(maker).hex() == digest


@pytest.mark.parametrize(("members", "digest"), INPUTS, ids=str)
def test_digest_of_inputs_never_changes(members: list[tuple[str, bytes]], digest: str) -> None:
    assert digest_inputs(members).hex() == digest


@pytest.mark.parametrize(("spec", "identity"), JOBS, ids=str)
def test_id_of_a_job_never_changes(spec: JobSpec, identity: str) -> None:
    assert job_id(spec) == identity


@pytest.mark.parametrize(("bases", "digest"), NAMES, ids=str)
def test_digest_of_names_never_changes(bases: list[str], digest: str) -> None:
    assert names_digest(bases).hex() == digest


def test_encoding_never_changes() -> None:
    assert canonical("maker", MAKERS[4][0]) == (
        b'[1,"maker",{"command":"python3 a.py","shipped":'
        b'[{"digest":"qW+vcFrxaDTmxjK2HpZOHw==","name":"a.py"},{"digest":"SyIS4xrJf9RXWgscRNiEPw==","executable":true,"name":"run"}],"verb":"map"}]'
    )


@pytest.mark.parametrize("maker", [maker for maker, _ in MAKERS], ids=str)
def test_field_that_comes_later_changes_no_digest_while_it_is_at_its_default(maker: Maker) -> None:
    values = {field: getattr(maker, field) for field in maker.__struct_fields__}
    assert digest_maker(LaterMaker(**values)) == digest_maker(maker)
    assert digest_maker(LaterMaker(**values, image="debian")) != digest_maker(maker)


@pytest.mark.parametrize("maker", [maker for maker, _ in MAKERS], ids=str)
def test_maker_that_came_over_the_wire_has_the_same_digest(maker: Maker) -> None:
    later = LaterMaker(**{field: getattr(maker, field) for field in maker.__struct_fields__})
    assert digest_maker(msgspec.msgpack.decode(msgspec.msgpack.encode(later), type=LaterMaker)) == digest_maker(maker)


def test_what_a_run_is_allowed_is_no_part_of_its_job() -> None:
    spec = JOBS[0][0]
    assert job_id(msgspec.structs.replace(spec, replace=True)) == job_id(spec)


def test_other_work_is_another_job() -> None:
    specs = [JobSpec(indir="sm://in/", outdir="sm://out/", maker=maker) for maker, _ in MAKERS]
    assert len({job_id(spec) for spec in specs}) == len(specs)
    assert len({digest_maker(spec.maker) for spec in specs}) == len(specs)


@given(st.sets(base_names), st.data())
def test_digests_of_two_halves_combine_to_that_of_the_whole(names: set[str], data: st.DataObject) -> None:
    half = data.draw(st.sets(st.sampled_from(sorted(names)))) if names else set()
    assert combine(names_digest(half), names_digest(names - half)) == names_digest(sorted(names))
