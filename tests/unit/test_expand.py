"""A job and a listing become tasks; what lies at their outputs decides what is run."""

from __future__ import annotations

from hypothesis import strategies as st

from sshmap.agent.session.expand import (
    Decision,
    fanout_tasks,
    group_name,
    judge_fanout,
    judge_key,
    map_tasks,
    merge_tasks,
)
from sshmap.agent.shuffle import Holdings, count_outputs
from sshmap.job_checks import parse_indir
from sshmap.model import Receipt
from sshmap.protocol.messages import OutputCount
from sshmap.store.keys import merge_group
from sshmap.store.receipts import digest_inputs, names_digest
from sshmap.store.tasks import NewTask

MAKER, OTHER_MAKER, INPUTS = b"m" * 16, b"o" * 16, b"i" * 16
OURS, THEIRS = Receipt(MAKER, INPUTS), Receipt(OTHER_MAKER, INPUTS)
TASK = NewTask(output="out/x", members=("in/x",), inputs=INPUTS)
FANOUT = NewTask(output="out/x/", members=("in/x",), inputs=INPUTS)
TWO = names_digest(["a", "b"])

base_names = st.text(st.characters(exclude_characters="/", exclude_categories=["C"]), min_size=1, max_size=8)


def judged(record: tuple[Receipt, int, bytes] | None, rows: list[OutputCount], *, replace: bool) -> Decision:
    """Decide about the fan-out by its record and what all hosts hold."""
    holdings = Holdings()
    holdings.add(rows)
    complete = OURS if holdings.is_complete(FANOUT.output, OURS, record) else None
    rivals = holdings.rivals(FANOUT.output, OURS)
    return judge_fanout(FANOUT, complete=complete, rivals=rivals, replace=replace)


def outputs(indir: str, *names: str) -> list[str]:
    return [task.output for task in map_tasks(parse_indir(indir), "out/", [(name, b"") for name in names])]


def merged(*names: str, indir: str = "sm://in/") -> dict[str, tuple[str, ...]]:
    rows = sorted((merge_group(name), name, b"") for name in names)
    return {task.output: task.members for task in merge_tasks(parse_indir(indir), "out/", rows)}


def test_map_keeps_the_path_below_indir() -> None:
    assert outputs("sm://in/2024/", "in/2024/a", "in/2024/d/b") == ["out/a", "out/d/b"]


def test_map_of_a_glob_keeps_the_path_from_the_star_on_and_skips_the_rest() -> None:
    assert outputs("sm://in/*/*_5", "in/a/x_5", "in/a/x_6", "in/b/c/x_5") == ["out/a/x_5"]


def test_map_task_knows_its_input_and_its_digest() -> None:
    (task,) = map_tasks(parse_indir("sm://in/"), "out/", [("in/a", b"digest")])
    assert (task.members, task.inputs) == (("in/a",), digest_inputs([("in/a", b"digest")]))


def test_fanout_has_a_directory_per_input_named_after_it() -> None:
    tasks = fanout_tasks(parse_indir("sm://in/"), "out/", [("in/a", b""), ("in/d/b.csv", b"")])
    assert [(task.output, task.members) for task in tasks] == [("out/a/", ("in/a",)), ("out/b.csv/", ("in/d/b.csv",))]


def test_fanout_skips_what_the_glob_does_not_match() -> None:
    tasks = fanout_tasks(parse_indir("sm://in/*.csv"), "out/", [("in/a.csv", b""), ("in/b.txt", b"")])
    assert [task.output for task in tasks] == ["out/a.csv/"]


def test_merge_groups_equal_base_names() -> None:
    assert merged("in/1/a", "in/2/a", "in/2/b") == {"out/a": ("in/1/a", "in/2/a"), "out/b": ("in/2/b",)}


def test_merge_groups_by_numeric_prefix_and_keeps_a_shared_suffix() -> None:
    assert merged("in/1/003_x", "in/2/003_x") == {"out/003_x": ("in/1/003_x", "in/2/003_x")}


def test_merge_by_numeric_prefix_drops_suffixes_that_differ() -> None:
    assert merged("in/1/003_x", "in/2/003_y") == {"out/003": ("in/1/003_x", "in/2/003_y")}


def test_merge_keeps_prefixes_of_another_spelling_apart() -> None:
    assert set(merged("in/3_x", "in/03_x", "in/3x")) == {"out/3_x", "out/03_x", "out/3x"}


def test_merge_leaves_out_what_the_glob_does_not_match() -> None:
    assert merged("in/1/a_5", "in/2/a_5", "in/a_5", "in/1/b", indir="sm://in/*/*_5") == {
        "out/a_5": ("in/1/a_5", "in/2/a_5")
    }


def test_merge_inputs_are_told_by_name_and_content() -> None:
    rows = [[("a", "in/1/a", b"1")], [("a", "in/1/a", b"2")], [("a", "in/2/a", b"1")]]
    digests = {task.inputs for row in rows for task in merge_tasks(parse_indir("sm://in/"), "out/", row)}
    assert len(digests) == 3


def test_group_of_one_has_its_name() -> None:
    assert group_name(["name.csv"]) == "name.csv"
    assert group_name(["003_x"]) == "003_x"


def test_missing_output_is_run() -> None:
    decision = judge_key(TASK, {}, keeps=MAKER.__eq__, replace=False)
    assert (bool(decision.kept), decision.refused) == (False, False)


def test_output_with_an_equal_receipt_is_kept_even_with_replace() -> None:
    for replace in (False, True):
        decision = judge_key(TASK, {"out/x": OURS}, keeps=MAKER.__eq__, replace=replace)
        assert (bool(decision.kept), decision.refused) == (True, False)


def test_output_of_other_work_is_refused_and_named() -> None:
    decision = judge_key(TASK, {"out/x": THEIRS}, keeps=MAKER.__eq__, replace=False)
    assert (bool(decision.kept), decision.refused, decision.rival) == (False, True, THEIRS)


def test_output_that_was_copied_in_is_refused() -> None:
    decision = judge_key(TASK, {"out/x": None}, keeps=MAKER.__eq__, replace=False)
    assert (bool(decision.kept), decision.refused, decision.rival) == (False, True, None)


def test_replace_runs_what_would_be_refused() -> None:
    for there in (THEIRS, None):
        decision = judge_key(TASK, {"out/x": there}, keeps=MAKER.__eq__, replace=True)
        assert (bool(decision.kept), decision.refused) == (False, False)


def test_fanout_without_outputs_is_run() -> None:
    decision = judged(None, [], replace=False)
    assert (bool(decision.kept), decision.refused, decision.task.stale) == (False, False, False)


def test_fanout_is_kept_if_all_its_files_are_there() -> None:
    assert judged((OURS, 2, TWO), [OutputCount("out/x/", OURS, 2, TWO)], replace=False).kept


def test_fanout_that_made_no_file_is_kept() -> None:
    assert judged((OURS, 0, bytes(16)), [], replace=False).kept


def test_fanout_is_run_again_if_a_file_is_missing_or_another() -> None:
    one, other = names_digest(["a"]), names_digest(["a", "c"])
    for row in (OutputCount("out/x/", OURS, 1, one), OutputCount("out/x/", OURS, 2, other)):
        decision = judged((OURS, 2, TWO), [row], replace=False)
        assert (bool(decision.kept), decision.refused) == (False, False)


def test_fanout_is_run_again_if_its_record_is_of_other_work() -> None:
    assert not judged((THEIRS, 2, TWO), [OutputCount("out/x/", OURS, 2, TWO)], replace=False).kept


def test_fanout_among_files_of_other_work_is_refused() -> None:
    rows = [OutputCount("out/x/", OURS, 2, TWO), OutputCount("out/x/", THEIRS, 1, TWO)]
    decision = judged((OURS, 2, TWO), rows, replace=False)
    assert (bool(decision.kept), decision.refused, decision.rival) == (False, True, THEIRS)


def test_fanout_with_replace_is_marked_so_that_the_others_go() -> None:
    decision = judged(None, [OutputCount("out/x/", None, 1, TWO)], replace=True)
    assert (bool(decision.kept), decision.refused, decision.task.stale) == (False, False, True)


def test_tally_counts_by_directory_and_receipt() -> None:
    keys = [("out/x/a", OURS), ("out/x/b", OURS), ("out/x/c", THEIRS), ("out/y/a", None)]
    assert list(count_outputs("out/", keys)) == [
        OutputCount("out/x/", OURS, 2, TWO),
        OutputCount("out/x/", THEIRS, 1, names_digest(["c"])),
        OutputCount("out/y/", None, 1, names_digest(["a"])),
    ]


def test_tally_leaves_out_keys_directly_in_outdir() -> None:
    assert list(count_outputs("out/", [("out/a", OURS)])) == []
