"""A run from the evening to the morning, as it is typed: detached, followed, cancelled, limited, looked at, tried again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import COMMAND, CommandLine, Done, ended
from tests.conftest import wait_until

KEYS = 12
#: fails on one key in four
SOME = 'case $filename in *4|*8|*9) echo "no good: $filename" >&2; exit 3;; esac; cat'


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """Three hosts that all tests here share, with twelve keys."""
    with ended(CommandLine(tmp_path_factory.mktemp("runs"))) as typed:
        typed.environment["SSHMAP_LOCAL"] = "3"
        files = typed.folder / "files"
        files.mkdir()
        for number in range(KEYS):
            (files / f"k{number}").write_text(f"content {number}\n")
        yield typed


@pytest.fixture
def filled(hosts: CommandLine) -> Iterator[CommandLine]:
    """The hosts, with these keys and no others."""
    hosts.succeed("cp", "-r", "files", "sm://b/in")
    yield hosts
    hosts.succeed("rm", "-r", "sm://b/")


def last(done: Done) -> str:
    return done.err.splitlines()[-1]


def rows(commandline: CommandLine, *arguments: str) -> list[dict[str, object]]:
    """Return the table that a command prints as JSON."""
    found: list[dict[str, object]] = json.loads(commandline.succeed(*arguments, "--json").out)
    return found


def held(gate: Path) -> str:
    """Return a command that says where it is and waits for a file."""
    return f"echo $BASHPID > {gate}.$filename; until test -e {gate}; do sleep 0.02; done; cat"


def begun(gate: Path, count: int = 1) -> None:
    wait_until(lambda: len(list(gate.parent.glob(f"{gate.name}.*"))) >= count, what="no task begins")


class Background:
    """An sshmap command that runs beside the test."""

    def __init__(self, commandline: CommandLine, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=commandline.folder, env=commandline.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> Done:
        """Wait for its end."""
        out, err = self.process.communicate(timeout=60)
        return Done(self.process.returncode, out, err.decode())


def state(commandline: CommandLine) -> dict[str, object]:
    """Return what `jobs` says of the newest run."""
    return rows(commandline, "jobs")[0]


def newest(commandline: CommandLine) -> int:
    """Return the number of the newest run; 0 if there is none."""
    return int(str(next((row["number"] for row in rows(commandline, "jobs")), 0)))


def test_detached_job_is_followed_from_elsewhere(filled: CommandLine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    before = newest(filled)
    started = filled.succeed("map", "--detach", "sm://b/in/", "sm://b/out/", held(gate))
    assert started.out.decode() == f"{before + 1}\n"
    begun(gate)
    running = state(filled)
    assert (running["state"], running["done"], running["left"]) == ("running", 0, KEYS)
    assert "@" in str(running["from"])
    attached = Background(filled, "attach", str(before + 1))
    gate.touch()
    done = filled.succeed("wait")
    assert f"done: {KEYS} ok, 0 failed, 0 kept" in last(done)
    assert attached.end().code == 0
    ended = state(filled)
    assert (ended["state"], ended["done"], ended["left"]) == ("done", KEYS, 0)


def test_wait_ends_as_the_run_has_ended(filled: CommandLine) -> None:
    filled.succeed("map", "--detach", "sm://b/in/", "sm://b/out/", SOME)
    waited = filled("wait", "last")
    assert (waited.code, "no good" in waited.err) == (1, True), waited.err
    assert "9 ok, 3 failed" in last(waited)
    assert filled("attach", "last").code == 1
    unknown = filled("wait", "70000")
    assert (unknown.code, "no run '70000' is known" in unknown.err) == (1, True)


def test_runs_are_numbered_over_all_hosts_and_named_by_number_or_id(filled: CommandLine) -> None:
    before = newest(filled)
    for number in range(3):
        filled.succeed("map", "sm://b/in/", f"sm://b/out{number}/", "cat")
    found = rows(filled, "jobs")[:3]
    assert [row["number"] for row in found] == [before + 3, before + 2, before + 1]
    identity = str(found[1]["run"])
    assert json.loads(filled.succeed("wait", identity[:9], "--json").out)["number"] == before + 2
    assert filled.succeed("jobs", str(before + 2)).lines[0].startswith("host")


def test_ctrl_c_cancels_and_the_same_command_goes_on(filled: CommandLine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = ("map", "sm://b/in/", "sm://b/out/", f"test $filename = k1 || {{ {held(gate)}; }}")
    beside = Background(filled, *job)
    begun(gate)
    # a host that has not queued its tasks yet when the cancel arrives queues none
    wait_until(lambda: sum(int(str(state(filled)[name])) for name in ("done", "left")) == KEYS, what="all are queued")
    beside.signal(signal.SIGINT)
    cancelled = beside.end()
    assert cancelled.code == 130, cancelled.err
    assert "the same command goes on" in cancelled.err
    ended = state(filled)
    assert (ended["state"], ended["left"]) == ("cancelled", 0)
    assert int(str(ended["done"])) + int(str(ended["cancelled"])) == KEYS
    head, newest_row = (line.split() for line in filled.succeed("jobs").lines[:2])
    assert dict(zip(head, newest_row, strict=False))["cancelled"] == str(ended["cancelled"])
    for told in tmp_path.glob("gate.*"):
        assert not Path(f"/proc/{told.read_text().strip()}").exists()
    done_before = int(str(ended["done"]))
    gate.touch()
    again = filled.succeed(*job)
    assert f"done: {KEYS - done_before} ok, 0 failed, {done_before} kept" in last(again)


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_command_that_ignores_sigterm_is_killed(filled: CommandLine, tmp_path: Path, *, twice: bool) -> None:
    """After five seconds; at once when Ctrl-C is pressed once more."""
    gate = tmp_path / "gate"
    beside = Background(filled, "map", "sm://b/in/", "sm://b/out/", f"trap '' TERM; {held(gate)}")
    begun(gate)
    began = time.monotonic()
    beside.signal(signal.SIGINT)
    if twice:
        wait_until(
            lambda: state(filled)["state"] != "running" or state(filled)["cancelled"] != 0, what="no cancel arrives"
        )
        beside.signal(signal.SIGINT)
    assert beside.end().code == 130
    assert time.monotonic() - began < (4.5 if twice else 10)
    for told in tmp_path.glob("gate.*"):
        assert not Path(f"/proc/{told.read_text().strip()}").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_terminal_that_is_closed_leaves_the_hosts_going(
    filled: CommandLine, tmp_path: Path, number: int, code: int
) -> None:
    gate = tmp_path / "gate"
    beside = Background(filled, "map", "sm://b/in/", "sm://b/out/", held(gate))
    begun(gate)
    beside.signal(number)
    assert beside.end().code == code
    assert state(filled)["state"] == "running"
    gate.touch()
    assert f"done: {KEYS} ok" in last(filled.succeed("wait"))


def test_ctrl_c_in_attach_ends_only_the_looking(filled: CommandLine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    filled.succeed("map", "--detach", "sm://b/in/", "sm://b/out/", held(gate))
    begun(gate)
    for verb in ("attach", "wait"):
        looking = Background(filled, verb)
        wait_until(lambda looking=looking: b"sshmap" in Path(f"/proc/{looking.process.pid}/cmdline").read_bytes())  # type: ignore[misc]
        wait_until(lambda: state(filled)["state"] == "running")
        looking.signal(signal.SIGINT)
        assert looking.end().code == 130
    assert state(filled)["state"] == "running"
    gate.touch()
    filled.succeed("wait")


def test_cancel_is_seen_by_all_who_follow(filled: CommandLine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    followers = [Background(filled, "map", "sm://b/in/", "sm://b/out/", held(gate)) for _ in range(2)]
    begun(gate)
    assert f"cancelled run {newest(filled)}" in filled.succeed("cancel").err
    for follower in followers:
        ended = follower.end()
        assert (ended.code, "cancelled" in ended.err) == (130, True), ended.err
    again = filled("wait")
    assert (again.code, "nothing to run" in again.err) == (130, False)
    assert len(rows(filled, "jobs", "last")) >= KEYS


def test_failed_command_is_tried_again_as_often_as_allowed(filled: CommandLine, tmp_path: Path) -> None:
    once = f"mkdir {tmp_path}/once.$filename 2>/dev/null && exit 5; cat"
    assert "9 ok" not in last(filled.succeed("map", "--retries", "1", "sm://b/in/", "sm://b/out/", once))
    attempts = rows(filled, "jobs", "last")
    assert sorted((row["attempt"], row["outcome"]) for row in attempts) == [(1, "failed")] * KEYS + [(2, "done")] * KEYS
    never = filled("map", "--retries", "1", "sm://b/in/", "sm://b/never/", "exit 5")
    assert (never.code, f"0 ok, {KEYS} failed" in last(never), "attempt" in never.err or "12 keys" in never.err) == (
        1,
        True,
        True,
    )
    assert len(rows(filled, "jobs", "last")) == 2 * KEYS


def test_command_that_takes_too_long_is_ended_with_its_tree(filled: CommandLine, tmp_path: Path) -> None:
    slow = f"if test $filename = k3; then setsid sleep 300 & echo $! > {tmp_path}/pid; wait; fi; cat"
    done = filled("map", "--timeout", "0.5s", "sm://b/in/", "sm://b/out/", slow)
    assert (done.code, "took longer than 0.5s" in done.err) == (7, True), done.err
    assert f"{KEYS - 1} ok, 1 failed" in last(done)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_timeout_may_be_a_share_of_the_median(filled: CommandLine) -> None:
    slow = "if test $filename = k9; then sleep 300; fi; sleep 0.1; cat"
    done = filled("map", "--timeout", "500%", "sm://b/in/", "sm://b/out/", slow)
    assert (done.code, "took longer than" in done.err) == (7, True), done.err


@pytest.mark.parametrize("halt", ["soon,fail=2", "now,fail=15%"])
def test_too_many_failures_halt_the_run(filled: CommandLine, tmp_path: Path, halt: str) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"n{number}").write_text("x")
    filled.succeed("cp", "-r", str(many), "sm://b/many")
    done = filled("map", "--halt", halt, "sm://b/many/", "sm://b/out/", "sleep 0.05; exit 1")
    ended = state(filled)
    assert (done.code, ended["state"], ended["left"]) == (1, "halted", 0), done.err
    assert int(str(ended["cancelled"])) > 0
    assert int(str(ended["failed"])) + int(str(ended["cancelled"])) == 300


def test_attempts_are_accounted_for(filled: CommandLine) -> None:
    burn = "cat > got; i=0; while test $i -lt 20000; do i=$((i+1)); done; cat got got"
    filled.succeed("map", "sm://b/in/", "sm://b/out/", burn)
    filled.succeed("map", "sm://b/in/", "sm://b/plain/", "sort")
    attempts = rows(filled, "jobs", str(newest(filled) - 1))
    for row in attempts:
        assert (row["outcome"], row["attempt"], row["exit"]) == ("done", 1, 0)
        assert float(str(row["user"])) > 0.01
        assert float(str(row["ran"])) >= float(str(row["user"])) * 0.5
        assert float(str(row["queued"])) <= float(str(row["began"])) <= float(str(row["ended"]))
        assert row["made"] == 2 * int(str(row["received"])) > 0
    assert all(int(str(row["peak"])) > 500_000 for row in rows(filled, "jobs", "last"))


def test_job_log_has_the_columns_of_gnu_parallel(filled: CommandLine) -> None:
    filled("map", "sm://b/in/", "sm://b/out/", SOME)
    heading, *lines = (line.split("\t") for line in filled.succeed("jobs", "last", "--joblog").lines)
    assert heading[:9] == ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"]
    assert sorted(line[6] for line in lines) == ["0"] * 9 + ["3"] * 3
    assert all(line[8] == SOME for line in lines)
    assert all(float(line[2]) > 1e9 and float(line[3]) >= 0 for line in lines)


def test_logs_hold_what_commands_said(filled: CommandLine) -> None:
    filled("map", "sm://b/in/", "sm://b/out/", f"echo hello from $filename >&2; {SOME}")
    everything = filled.succeed("logs").out.decode()
    assert all(f"hello from k{number}\n" in everything for number in range(KEYS))
    failed = filled.succeed("logs", "last", "--failed").out.decode()
    assert (failed.count("hello from"), failed.count("no good"), failed.count("failed, exit 3")) == (3, 3, 3)
    one = filled.succeed("logs", "--key", "sm://b/in/k4").out.decode()
    assert (one.count("==>"), "no good: k4" in one) == (1, True)


def test_control_characters_in_logs_are_escaped(filled: CommandLine) -> None:
    filled.succeed("map", "sm://b/in/", "sm://b/out/", r"printf '\033[2J\n==> fake\n' >&2; cat")
    shown = filled.succeed("logs").out
    assert b"\x1b" not in shown
    assert shown.count(b"\n==> fake") == 0


def test_end_of_a_failed_job_says_why_and_what_to_type(filled: CommandLine) -> None:
    failed = filled("map", "sm://b/in/", "sm://b/out/", SOME)
    *_, hint, done = failed.err.splitlines()
    assert "shell sm://b/in/k" in hint
    assert f"logs {newest(filled)} --failed" in hint
    assert done.startswith("done: 9 ok, 3 failed")
    # typed as it stands
    line = hint.removeprefix("hint: ").split(" opens bash")[0]
    looked = filled.shell(f"{line} -c 'cat; pwd'")
    assert (looked.code, b"content" in looked.out, b"/work" in looked.out) == (0, True, True), looked.err


def test_shell_shows_the_directory_as_the_failed_attempt_left_it(filled: CommandLine) -> None:
    filled("map", "sm://b/in/", "sm://b/out/", f"echo half > part.$filename; {SOME}")
    shown = filled.succeed("shell", "sm://b/in/k4", "--failed", "last", "-c", "cat part.k4; cat; echo $SSHMAP_NAME")
    assert shown.out == b"half\ncontent 4\nk4\n"
    # what is done there changes nothing that is kept
    filled.succeed("shell", "sm://b/in/k4", "--failed", "last", "-c", "rm part.k4")
    assert filled.succeed("shell", "sm://b/in/k4", "--failed", "last", "-c", "ls").out == b"part.k4\n"
    other = filled("shell", "sm://b/in/k1", "--failed", "last", "-c", "ls")
    assert (other.code, "not kept" in other.err) == (1, True), other.err


def test_shell_passes_on_exit_code_and_shipped_files(filled: CommandLine) -> None:
    (filled.folder / "tool.sh").write_text("echo tool")
    filled.succeed("map", "--with", "tool.sh", "sm://b/in/", "sm://b/out/", "sh tool.sh")
    done = filled("shell", "sm://b/in/k1", "--run", "last", "-c", "sh tool.sh; exit 9")
    assert (done.code, done.out) == (9, b"tool\n"), done.err
    assert filled("shell", "sm://b/in/none", "-c", "true").code == 1
    without = filled("shell", "sm://b/in/k1")
    assert (without.code, "-c CMD" in without.err) == (2, True), without.err


def test_shell_is_bash_on_a_terminal(filled: CommandLine) -> None:
    shown = filled.all_on_terminal("shell", "sm://b/in/k1", answer="cat $SSHMAP_FILE; tty; stty size\nexit 4\n")
    assert "content 1" in shown
    assert "/dev/pts/" in shown


def test_retry_runs_what_failed(filled: CommandLine, tmp_path: Path) -> None:
    gate = tmp_path / "mended"
    filled("map", "sm://b/in/", "sm://b/out/", f"test -e {gate} || case $filename in k1|k2) exit 1;; esac; cat")
    assert filled("retry").code == 1
    gate.touch()
    again = filled.succeed("retry", "last")
    assert f"done: 2 ok, 0 failed, {KEYS - 2} kept" in last(again)


def test_retry_needs_the_shipped_files_on_the_hosts_only(filled: CommandLine, tmp_path: Path) -> None:
    tool = filled.folder / "tool.sh"
    tool.write_text(f"test -e {tmp_path}/mended && cat")
    assert filled("map", "--with", "tool.sh", "sm://b/in/", "sm://b/out/", "sh tool.sh").code == 1
    tool.unlink()
    (tmp_path / "mended").touch()
    assert f"done: {KEYS} ok" in last(filled.succeed("retry"))


def test_what_would_be_done_is_said_and_not_done(filled: CommandLine) -> None:
    job, number = ("map", "sm://b/in/", "sm://b/out/", "cat"), newest(filled)
    before = rows(filled, *job, "-n")
    assert (sum(int(str(row["run"])) for row in before), sum(int(str(row["keep"])) for row in before)) == (KEYS, 0)
    assert (filled("ls", "sm://b/out/").code, newest(filled)) == (1, number)
    filled.succeed(*job)
    filled.succeed("rm", "sm://b/out/k5")
    filled.succeed("rm", "sm://b/in/k6")
    filled.succeed("cp", "-", "sm://b/in/k6", stdin=b"changed")
    filled.succeed("cp", "-", "sm://b/in/new", stdin=b"new")
    explained = rows(filled, *job, "--explain", "--replace")
    why = {str(row["output"]).rpartition("/")[2]: (row["does"], row["why"]) for row in explained}
    assert why["k5"] == ("run", "output missing")
    assert why["k6"] == ("run", "input changed")
    assert why["new"] == ("run", "new")
    assert why["k1"] == ("keep", "its output is there")
    other = rows(filled, "map", "sm://b/in/", "sm://b/out/", "tac", "--explain", "--replace")
    assert {str(row["why"]) for row in other if str(row["output"]).endswith("k1")} == {
        "command changed: the command was 'cat', is 'tac'"
    }
    refused = filled.succeed("map", "sm://b/in/", "sm://b/out/", "tac", "-n")
    assert "refuse" in refused.err
    assert "made by other work" in refused.err


def test_sample_is_kept(filled: CommandLine) -> None:
    sample = filled.succeed("map", "--sample", "1", "sm://b/in/", "sm://b/out/", "cat")
    assert "done: 3 ok, 0 failed" in last(sample)
    assert f"done: {KEYS - 3} ok, 0 failed, 3 kept" in last(filled.succeed("map", "sm://b/in/", "sm://b/out/", "cat"))


def test_nice_value_reaches_shell_and_plain_commands(filled: CommandLine) -> None:
    filled.succeed("map", "--nice", "7", "sm://b/in/", "sm://b/a/", "nice; true")
    filled.succeed("map", "sm://b/in/", "sm://b/b/", "nice; true")
    filled.succeed("map", "--nice", "5", "sm://b/in/", "sm://b/c/", "nice")
    assert filled.succeed("cat", "sm://b/a/k1", "sm://b/b/k1", "sm://b/c/k1").out == b"7\n0\n5\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--jobs", "0"], "--jobs 0"), (["--timeout", "soon"], "--timeout soon"), (["--halt", "never"], "--halt never"),
        (["--memfree", "lots"], "--memfree lots"), (["--nice", "20"], "--nice 20"), (["--retries", "-1"], "--retries -1"),
        (["--sample", "-1"], "--sample -1"), (["--detach", "--prune"], "--detach"),
    ],
)  # fmt: skip
def test_limit_that_makes_no_sense_is_refused(filled: CommandLine, options: list[str], said: str) -> None:
    number = newest(filled)
    refused = filled("map", *options, "sm://b/in/", "sm://b/out/", "cat")
    assert (refused.code, said in refused.err, newest(filled)) == (2, True, number), refused.err


def test_other_job_that_makes_the_same_key_is_refused(filled: CommandLine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    number = filled.succeed("map", "-j1", "--detach", "sm://b/in/", "sm://b/out/", held(gate)).out.decode().strip()
    refused = filled("map", "sm://b/in/", "sm://b/out/", "tac", "--replace")
    assert (refused.code, f"being made by run {number}" in refused.err) == (4, True), refused.err
    assert f"cancel {number}" in refused.err
    filled.succeed("map", "sm://b/in/", "sm://b/else/", "tac")
    gate.touch()
    filled.succeed("wait", number)
    filled.succeed("map", "sm://b/in/", "sm://b/out/", "tac", "--replace")


def test_old_runs_are_forgotten_with_what_was_shipped_for_them(filled: CommandLine) -> None:
    (filled.folder / "tool.sh").write_text("cat")
    filled.succeed("map", "--with", "tool.sh", "sm://b/in/", "sm://b/out/", "sh tool.sh")
    assert sum(int(str(row["runs"])) for row in rows(filled, "gc", "--older", "1d")) == 0
    known = len(rows(filled, "jobs"))
    freed = rows(filled, "gc", "--older", "0s")
    assert known > 0 == len(rows(filled, "jobs"))
    assert sum(int(str(row["files"])) for row in freed) >= 3
    assert sum(int(str(row["attempts"])) for row in freed) >= KEYS
    # receipts stay
    kept = filled.succeed("map", "--with", "tool.sh", "sm://b/in/", "sm://b/out/", "sh tool.sh")
    assert f"{KEYS} kept" in last(kept)


def test_end_of_a_run_is_told(filled: CommandLine, tmp_path: Path) -> None:
    said = tmp_path / "said"
    notify = f'echo "$SSHMAP_RUN $SSHMAP_STATE $SSHMAP_EXIT $SSHMAP_DONE $SSHMAP_FAILED" >> {said}'
    assert filled("map", "--notify", notify, "sm://b/in/", "sm://b/out/", SOME).code == 1
    filled("wait", "--notify", notify)
    number = newest(filled)
    assert said.read_text() == f"{number} failed 1 9 3\n" * 2
    broken = filled("wait", "--notify", "exit 9")
    assert (broken.code, "--notify exited with 9" in broken.err) == (1, True)


def test_host_with_most_bytes_and_time_is_named(filled: CommandLine) -> None:
    done = filled.succeed("map", "sm://b/in/", "sm://b/out/", "sleep 0.05; cat")
    (note,) = [line for line in done.err.splitlines() if "has most" in line]
    assert "has most bytes" in note
    assert "has most time" in note
    assert "x the mean" in note


@pytest.mark.parametrize("keys", ["q", "lxq", "cnq"], ids=["quit", "log", "no cancel"])
def test_top_shows_hosts_and_tasks_until_it_is_quit(filled: CommandLine, tmp_path: Path, keys: str) -> None:
    gate = tmp_path / "gate"
    filled.succeed("map", "--detach", "sm://b/in/", "sm://b/out/", held(gate))
    begun(gate)
    with filled.terminal("top", TERM="xterm") as terminal:
        terminal.await_shown(b">sm://b/in/k")
        for key in keys:
            terminal.type(key)
        assert terminal.end() == 0
    for host in ("local0", "local1", "local2"):
        assert host.encode() in terminal.shown
    assert state(filled)["state"] == "running"
    gate.touch()
    filled.succeed("wait")


def test_top_cancels_the_run_of_the_chosen_task(filled: CommandLine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    filled.succeed("map", "--detach", "sm://b/in/", "sm://b/out/", held(gate))
    begun(gate)
    with filled.terminal("top", TERM="xterm") as terminal:
        terminal.await_shown(b">sm://b/in/k")
        terminal.type("cy")
        wait_until(lambda: state(filled)["state"] == "cancelled", what="the run goes on")
        terminal.type("q")
        assert terminal.end() == 0
    assert filled("top").code == 2


def test_first_host_tells_of_the_end_once_also_while_nobody_follows(filled: CommandLine, tmp_path: Path) -> None:
    said = tmp_path / "said"
    tell = f'echo "$SSHMAP_HOST $SSHMAP_RUN $SSHMAP_STATE $SSHMAP_DONE $SSHMAP_FAILED [$SSHMAP_UNKNOWN]" >> {said}'
    number = (
        filled.succeed("map", "--detach", "--notify-host", tell, "sm://b/in/", "sm://b/out/", SOME).out.decode().strip()
    )
    wait_until(lambda: said.exists() and said.read_text().endswith("\n"), what="nobody is told")
    assert said.read_text() == f"local0 {number} failed 9 3 []\n"
    filled("wait", number)
    assert said.read_text().count("\n") == 1


def test_logs_are_followed_until_the_run_is_over(filled: CommandLine, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    filled.succeed("map", "--detach", "sm://b/in/", "sm://b/out/", f"echo hello from $filename >&2; {held(gate)}")
    following = Background(filled, "logs", "--follow")
    begun(gate)
    gate.touch()
    done = following.end()
    assert done.code == 0, done.err
    said = done.out.decode()
    assert sorted(line for line in said.splitlines() if "hello" in line) == sorted(
        f"hello from k{number}" for number in range(KEYS)
    )


def test_attempts_of_the_newest_run_need_no_number(filled: CommandLine) -> None:
    filled.succeed("map", "sm://b/in/", "sm://b/out/", "cat")
    assert len(rows(filled, "jobs", "--tasks")) == KEYS
    assert len(filled.succeed("jobs", "--joblog").lines) == KEYS + 1


def test_run_that_is_over_is_not_called_cancelled(filled: CommandLine) -> None:
    filled.succeed("map", "sm://b/in/", "sm://b/out/", "cat")
    assert "over already" in filled.succeed("cancel", "last").err
    assert state(filled)["state"] == "done"


def test_tasks_that_wait_for_memory_are_no_silent_wait(filled: CommandLine) -> None:
    waiting = Background(filled, "map", "--memfree", "900T", "sm://b/in/", "sm://b/out/", "cat")
    assert waiting.process.stderr is not None
    assert b"wait for memory" in waiting.process.stderr.readline()
    filled.succeed("cancel")
    assert waiting.end().code == 130
