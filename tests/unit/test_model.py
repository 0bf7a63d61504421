"""The naming rule of keys, and how INDIR and OUTDIR are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshmap.errors import InvalidKey, UsageError
from sshmap.job_checks import MAX_COMMAND, check_job, parse_indir, parse_outdir
from sshmap.model import (
    JobSpec,
    Maker,
    Verb,
    base_name,
    check_name,
    check_prefix,
    is_remote,
    parse_directory,
    parse_name,
    parse_prefix,
)

GOOD_NAMES = [
    "b/k",
    "b/with space",
    'b/it\'s "quoted"',
    "b/$HOME",
    "b/100%",
    "b/-rf",
    "-b/k",
    "b/*",
    "b/a.b..c",
    "b/...",
    "b/.hidden",
    "b/日本/ü",
    "b/a\\b",
    "b/`id`;|&",
    "b/" + "x" * 255,
    "b/" + "é" * 127,
    "b/" + "😀" * 63,
    "x" * 255 + "/k",
]
BAD_NAMES = [
    "",
    "bucket",
    "b/",
    "/b/k",
    "b//k",
    "b/k/",
    "b/.",
    "b/./k",
    "b/..",
    "../k",
    "b/../k",
    "b/a\x1b[31m",
    "b/a\nb",
    "b/a\tb",
    "b/a\0",
    "b/a\x7f",
    "b/a\x9b",
    "b/" + "x" * 256,
    "b/" + "é" * 128,
    "b/" + "😀" * 64,
    "x" * 256 + "/k",
    "b/\udc80",
]


def short(name: str) -> str:
    return ascii(name)[:30]


def job(indir: str, outdir: str, *, verb: Verb = Verb.MAP, command: str = "cat") -> JobSpec:
    return JobSpec(indir=indir, outdir=outdir, maker=Maker(verb=verb, command=command))


@pytest.mark.parametrize("name", GOOD_NAMES, ids=short)
def test_key_name_may_hold_anything_printable(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", BAD_NAMES, ids=short)
def test_key_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        check_name(name)
    assert caught.value.hint
    assert caught.value.message.isprintable()


def test_name_too_long_for_any_system_call_is_refused() -> None:
    with pytest.raises(InvalidKey, match="longer"):
        check_name("b/" + "/".join(["é" * 120] * 25))


@given(st.text())
def test_accepted_name_stays_below_its_bucket(name: str) -> None:
    try:
        parts = check_name(name).split("/")
    except InvalidKey:
        return
    assert len(parts) > 1
    assert not {"", ".", ".."} & set(parts)
    assert all(len(part.encode()) <= 255 for part in parts)


@pytest.mark.parametrize("prefix", ["", "b", "b/", "b/par", "b/d/.", "b/d/.."])
def test_last_part_of_a_prefix_may_be_unfinished(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/", "/b", "b//", "../", "b/../k", "b/\n"], ids=ascii)
def test_prefix_that_no_key_has_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidKey):
        check_prefix(prefix)


@pytest.mark.parametrize("scheme", ["sm://", "s4://"])
def test_both_schemes_name_the_same_key(scheme: str) -> None:
    assert is_remote(f"{scheme}b/k")
    assert parse_name(f"{scheme}b/k") == "b/k"
    assert parse_indir(f"{scheme}in/").prefix == "in/"


@pytest.mark.parametrize("text", ["b/k", "/b/k", "s3://b/k", "SM://b/k", ""])
def test_other_text_is_no_key_and_the_hint_shows_one(text: str) -> None:
    assert not is_remote(text)
    with pytest.raises(InvalidKey) as caught:
        parse_name(text)
    assert "sm://" in caught.value.hint


def test_base_name_is_the_last_part() -> None:
    assert base_name("b/d/name.csv") == "name.csv"


def test_directory_takes_all_keys_below_it() -> None:
    source = parse_indir("sm://in/2024/")
    assert (source.prefix, source.below, source.pattern) == ("in/2024/", "in/2024/", "")
    assert source.picks("in/2024/a/b")


def test_star_does_not_cross_a_slash() -> None:
    source = parse_indir("sm://in/*/*_5")
    assert source.picks("in/a/b_5")
    assert source.picks("in//_5")
    assert not source.picks("in/a_5")
    assert not source.picks("in/a/b/c_5")
    assert not source.picks("in/a/b_55")


def test_glob_counts_paths_from_the_part_its_first_star_is_in() -> None:
    source = parse_indir("sm://in/day=*/part*")
    assert (source.prefix, source.below) == ("in/day=", "in/")


def test_glob_ending_in_slash_takes_all_below_what_it_matches() -> None:
    source = parse_indir("sm://in/*/")
    assert source.picks("in/a/b")
    assert source.picks("in/a/b/c")
    assert not source.picks("in/a")


def test_only_star_is_special_in_a_glob() -> None:
    source = parse_indir("sm://in/[ab].?+*")
    assert source.picks("in/[ab].?+x")
    assert not source.picks("in/a.xx")


@pytest.mark.parametrize("text", ["sm://in", "sm://in/dir", "sm://"])
def test_indir_without_trailing_slash_is_refused_with_the_slash_in_the_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_indir(text)
    assert caught.value.hint.endswith("/")


def test_outdir_without_trailing_slash_is_refused_with_the_slash_in_the_hint() -> None:
    with pytest.raises(UsageError) as caught:
        parse_outdir("sm://out")
    assert "sm://out/" in caught.value.hint


@pytest.mark.parametrize(
    ("indir", "outdir"),
    [
        ("sm://in/", "sm://out/"),
        ("sm://in/a/", "sm://in/b/"),
        ("sm://in/", "sm://in2/"),
        ("sm://in/*_5", "sm://in/out/"),
    ],
)
def test_outdir_beside_indir_is_fine(indir: str, outdir: str) -> None:
    check_job(job(indir, outdir))


@pytest.mark.parametrize(
    ("indir", "outdir"),
    [("sm://in/", "sm://in/"), ("sm://in/", "sm://in/out/"), ("sm://in/*", "sm://in/"), ("sm://in/*/", "sm://in/out/")],
)
def test_outdir_inside_indir_is_refused(indir: str, outdir: str) -> None:
    with pytest.raises(UsageError, match="inside INDIR"):
        check_job(job(indir, outdir))


@pytest.mark.parametrize(
    ("verb", "indir", "outdir"),
    [(Verb.MAP, "sm://in/*_5", "sm://in/"), (Verb.MERGE, "sm://in/*/*_5", "sm://in/out/")],
)
def test_outputs_that_a_glob_would_pick_up_are_refused(verb: Verb, indir: str, outdir: str) -> None:
    with pytest.raises(UsageError, match="inside INDIR"):
        check_job(job(indir, outdir, verb=verb))


@pytest.mark.parametrize("command", ["", " \n\t"], ids=ascii)
def test_empty_command_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        check_job(job("sm://in/", "sm://out/", command=command))


def test_command_with_nul_is_refused() -> None:
    with pytest.raises(UsageError, match="NUL"):
        check_job(job("sm://in/", "sm://out/", command="cat\0"))


@pytest.mark.parametrize("command", ["x" * (MAX_COMMAND + 1), "echo \udce9"], ids=["long", "not UTF-8"])
def test_command_that_no_host_could_keep_is_refused_with_a_way_out(command: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_job(job("sm://in/", "sm://out/", command=command))
    assert "--with" in caught.value.hint


@pytest.mark.parametrize(("indir", "outdir"), [("sm://", "sm://o/"), ("sm://i/", "sm://"), ("sm://i/", "sm://o*/")])
def test_directory_needs_a_bucket_and_outdir_is_no_glob(indir: str, outdir: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_job(job(indir, outdir))
    assert refused.value.hint


def test_bucket_for_a_key_is_refused_with_the_way_to_all_its_keys() -> None:
    with pytest.raises(InvalidKey) as refused:
        check_name("bucket")
    assert "-r sm://bucket/" in refused.value.hint


@pytest.mark.parametrize(
    ("text", "prefix", "directory"),
    [
        ("sm://", "", ""),
        ("sm://b", "b/", "b/"),
        ("s4://b", "b/", "b/"),
        ("sm://b/", "b/", "b/"),
        ("sm://b/d", "b/d", "b/d/"),
        ("sm://b/d/", "b/d/", "b/d/"),
        ("sm://b/d/e", "b/d/e", "b/d/e/"),
        ("sm://b/.hid", "b/.hid", "b/.hid/"),
    ],
)
def test_bare_bucket_means_that_bucket_and_a_directory_needs_no_slash(text: str, prefix: str, directory: str) -> None:
    assert (parse_prefix(text), parse_directory(text)) == (prefix, directory)


@pytest.mark.parametrize("text", ["sm://b//d", "sm://../b", "sm://b/./d", "sm:///b", "sm://b/\x1b/d", "sm://b\n"])
def test_prefix_or_directory_that_no_key_has_is_refused(text: str) -> None:
    for parse in (parse_prefix, parse_directory):
        with pytest.raises(InvalidKey):
            parse(text)


@pytest.mark.parametrize("text", ["b", "/b", "sm:/b", "S3://b", ""])
def test_prefix_without_its_scheme_is_refused(text: str) -> None:
    for parse in (parse_prefix, parse_directory):
        with pytest.raises(InvalidKey, match="not a key"):
            parse(text)
