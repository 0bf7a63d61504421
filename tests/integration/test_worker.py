"""What commands may do, and what becomes of them: promise 4 and the list "Commands" of the promises."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed, TaskFailure
from sshmap.errors import DigestMismatch, OtherReceipt, SshmapError
from sshmap.model import Verb
from tests.conftest import files_below, wait_until
from tests.integration import fleet

_numbers = itertools.count()
HOSTILE = [
    "$(touch pwned)", "`touch pwned`", "a;touch pwned", "a b  c", " lead", "trail ", "-rf", "--", "'quoted'", '"double"', "it's", "*", "[a]", "?",
    "%s%n", "|x", "&", "~", "back\\slash", "\\n", "$HOME", "${PATH}", "!x", "#c", ".hidden", "é", "e\u0301", "日本", "a=b", "<x>", "{a,b}", "0x\u00a0y",
]  # fmt: skip


class Bench(msgspec.Struct, frozen=True):
    """A cluster and a bucket that no other test uses."""

    cluster: Cluster
    bucket: str
    top: Path

    def put(self, name: str, content: bytes = b"content\n") -> str:
        """Store an input."""
        self.cluster.put(content, f"sm://{self.bucket}/in/{name}")
        return f"sm://{self.bucket}/in/{name}"

    def run(self, command: str, *, verb: Verb = Verb.MAP, shipped: tuple[Path, ...] = ()) -> dict[str, bytes]:
        """Run a command on all inputs and return its outputs by their paths below OUTDIR."""
        self.cluster.submit(verb, f"sm://{self.bucket}/in/", f"sm://{self.bucket}/out/", command, shipped=shipped)
        return self.outputs()

    def fail(self, command: str, *, verb: Verb = Verb.MAP) -> TaskFailure:
        """Run a command that has to fail on the one input and return its failure; no output may come of it."""
        with pytest.raises(JobFailed) as caught:
            self.run(command, verb=verb)
        assert not self.outputs()
        (failure,) = caught.value.result.failures
        return failure

    def outputs(self) -> dict[str, bytes]:
        """Return all outputs by their paths below OUTDIR."""
        prefix = f"{self.bucket}/out/"
        names = [row.path for row in self.cluster.ls(f"sm://{prefix}", recursive=True)]
        return {name.removeprefix(prefix): self.cluster.get(f"sm://{name}") for name in names}


@pytest.fixture
def bench(shared: Cluster, bucket: str) -> Bench:
    """A bucket of its own on the shared hosts."""
    return Bench(shared, bucket, Path(shared.inventory.hosts[0].root).parent)


@pytest.mark.parametrize("code", [1, 2, 126, 127, 255])
def test_exit_code_of_a_command_is_reported(bench: Bench, code: int) -> None:
    """A command that exits with a code fails its task with that code, and says no more than that."""
    bench.put("a")
    failure = bench.fail(f"echo because >&2; exit {code}")
    assert (failure.exit_code, failure.kind, failure.attempt) == (code, "CommandsFailed", 1)
    assert "because" in failure.message
    assert "signal" not in failure.message


@pytest.mark.parametrize(
    ("command", "code"),
    [("nosuchprogram", 127), ("/etc/passwd", 126), ("false; true", 1), ("false | cat", 1), ("echo $unset", 1)],
)
def test_bash_is_strict(bench: Bench, command: str, code: int) -> None:
    """`set -euo pipefail` holds; what cannot be run fails as in bash."""
    bench.put("a")
    assert bench.fail(command).exit_code == code


def test_command_sees_nothing_of_the_loop_that_runs_it(bench: Bench) -> None:
    """Neither its variables nor its lines: a failure names the line of the command."""
    bench.put("a")
    assert bench.run('echo "${!_sshmap*}${OLDPWD-}$#"') == {"a": b"0\n"}
    bench.cluster.rm(f"sm://{bench.bucket}/out/", recursive=True)
    assert "line 3: nosuchprogram" in bench.fail("true\ntrue\nnosuchprogram").message


@pytest.mark.parametrize(("signal", "code"), [("TERM", 143), ("KILL", 137), ("SEGV", 139)])
def test_command_killed_by_a_signal_fails(bench: Bench, signal: str, code: int) -> None:
    """A signal is 128 and its number."""
    bench.put("a")
    failure = bench.fail(f"echo partial; kill -{signal} $BASHPID")
    assert failure.exit_code == code
    assert f"signal {code - 128}" in failure.message


def test_kill_of_its_own_group_hits_the_command_alone(bench: Bench) -> None:
    """`kill 0` ends the command; the worker goes on."""
    bench.put("a")
    assert bench.fail("kill 0; cat").exit_code == 143
    assert bench.run("cat") == {"a": b"content\n"}


def test_failed_command_is_not_run_again(bench: Bench, tmp_path: Path) -> None:
    """A failure counts as an answer within a run; the next run of the same command tries again."""
    bench.put("a")
    command = f"echo ran >> {tmp_path}/log; exit 1"
    bench.fail(command)
    assert (tmp_path / "log").read_text() == "ran\n"
    assert bench.fail(command).attempt == 1
    assert (tmp_path / "log").read_text() == "ran\nran\n"


def test_background_children_are_ended(bench: Bench) -> None:
    """Whatever a command leaves running is gone when its task is done: background, new session, double fork."""
    mark = f"1000.{os.getpid()}{next(_numbers)}"
    bench.put("a")
    command = f"sleep {mark} & setsid sleep {mark} & (setsid sleep {mark} &) ; ( (sleep {mark} &) & ) ; nohup sleep {mark} >/dev/null 2>&1 & echo done"
    assert bench.run(command) == {"a": b"done\n"}
    assert not fleet.processes_marked(f"sleep {mark}")


def test_background_child_cannot_write_after_the_command(bench: Bench) -> None:
    """Output is what was written when the command ended."""
    bench.put("a")
    assert bench.run("(for i in {1..2000}; do read -t 0.001 < <(:) || true; done; echo late) & echo early") == {
        "a": b"early\n"
    }
    assert bench.cluster.get(f"sm://{bench.bucket}/out/a") == b"early\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [("echo x", b"x\n"), ("head -c 1", b"z"), ("exec 0<&-; echo closed", b"closed\n"), ("true", b"")],
)
def test_stdin_need_not_be_read(bench: Bench, command: str, expected: bytes) -> None:
    """A command may leave its input alone, read a part of it or close it."""
    bench.put("a", b"z" * 3_000_000)
    assert bench.run(command) == {"a": expected}


def test_stdin_is_no_terminal(bench: Bench) -> None:
    """A command that waits for a terminal gets an error, not a wait."""
    bench.put("a")
    assert bench.run("read -r line < /dev/tty || echo none; test -t 0 || echo no terminal") == {
        "a": b"none\nno terminal\n"
    }


def test_stderr_without_end_is_kept_bounded(bench: Bench) -> None:
    """Of 20 MB on stderr beginning and end are kept, and the worker's memory does not grow by it."""
    bench.put("a")
    failure = bench.fail("echo first >&2; head -c 20000000 /dev/zero | tr '\\0' x >&2; echo last >&2; exit 3")
    assert failure.exit_code == 3
    assert "last" in failure.message
    assert len(failure.message) < 10_000
    for host in bench.cluster.inventory.hosts:
        worker = fleet.process_of(fleet.root_of(bench.cluster.inventory, host.name), "worker")
        status = Path(f"/proc/{worker}/status").read_text(encoding="utf-8")
        assert int(status.split("VmHWM:")[1].split()[0]) < 64 << 10


def test_stderr_of_one_command_never_shows_with_the_next(bench: Bench) -> None:
    """Each failure has the lines of its own command."""
    for name in "abc":
        bench.put(name)
    with pytest.raises(JobFailed) as caught:
        bench.run('echo "says $SSHMAP_NAME" >&2; exit 1')
    for failure in caught.value.result.failures:
        assert failure.message == f"exit 1: says {failure.key[-1]}"


_OUTPUT = "pid=$BASHPID; out=$(readlink /proc/$pid/fd/1); "


@pytest.mark.parametrize(
    "instead", ['ln -s {canary}/file "$out"', 'ln -s {canary} "$out"', 'mkdir "$out"', 'mkfifo "$out"', "true"]
)
def test_output_replaced_by_something_else_fails(bench: Bench, canary: Path, instead: str) -> None:
    """Only a plain file becomes a key; nothing outside is read or changed."""
    bench.put("a")
    failure = bench.fail(f'{_OUTPUT} rm "$out"; {instead.format(canary=canary)}')
    assert failure.exit_code in (0, 1)
    assert bench.run("cat") == {"a": b"content\n"}


def test_output_replaced_by_a_hard_link_leaves_the_other_file_alone(bench: Bench, canary: Path) -> None:
    """A file with another name outside is copied: neither mode nor content is shared with the key."""
    bench.put("a")
    assert bench.run(f'{_OUTPUT} ln -f {canary}/file "$out"') == {"a": b"do not touch"}
    assert (canary / "file").stat().st_nlink == 1
    (canary / "file").write_bytes(b"written over")
    assert bench.outputs() == {"a": b"do not touch"}
    (canary / "file").write_bytes(b"do not touch")


def test_output_with_a_second_name_leaves_no_temporary_file(bench: Bench) -> None:
    """The copy that is made of it becomes the key and goes from tmp/."""
    bench.put("a")
    assert bench.run(f'echo text; {_OUTPUT} ln "$out" kept') == {"a": b"text\n"}
    wait_until(lambda: not [path for path in bench.top.glob("*/tmp/*/*") if path.name.startswith(("out.", "copy."))])


@pytest.mark.parametrize("content", [b"\0\xff\xfe\r\n no newline at the end", b"", b"\n", b"\0" * 4096])
def test_output_is_bytes(bench: Bench, content: bytes) -> None:
    """Nothing is decoded, stripped or added."""
    bench.put("a", content)
    assert bench.run("cat") == {"a": content}


def test_environment_is_as_documented(bench: Bench) -> None:
    """A task knows its key, file, host, job and attempt, and runs in the C locale."""
    key = bench.put("dir/a b")
    (listing,) = bench.run("env -0").values()
    variables = dict(item.decode().split("=", 1) for item in listing.split(b"\0") if item)
    (job,) = {run.job for run in bench.cluster.jobs() if bench.bucket + "/" in run.indir}
    host = bench.cluster.host_of(key)
    assert Path(variables["SSHMAP_FILE"]) == bench.top / host / "data" / bench.bucket / "in" / "dir" / "a b"
    expected = {
        "SSHMAP_KEY": key,
        "SSHMAP_NAME": "a b",
        "SSHMAP_HOST": host,
        "SSHMAP_JOB": job,
        "SSHMAP_ATTEMPT": "1",
        "filename": "a b",
        "LC_ALL": "C",
    }
    assert {name: variables[name] for name in expected} == expected


def test_environment_of_a_merge_has_the_group(bench: Bench) -> None:
    """A merge has no `filename`; its name is that of the group, its file the list of inputs."""
    bench.put("x/a")
    bench.put("y/a")
    outputs = bench.run('echo "$SSHMAP_NAME ${filename-none}"; cat "$SSHMAP_FILE"; echo --; cat', verb=Verb.MERGE)
    first, *lines = outputs["a"].decode().splitlines()
    assert first == "a none"
    assert lines[:2] == lines[3:]
    assert [line.split("/data/")[1] for line in lines[:2]] == [f"{bench.bucket}/in/x/a", f"{bench.bucket}/in/y/a"]


def test_working_directory_is_empty_each_time(bench: Bench) -> None:
    """What a command leaves in its directory, hidden, nested or read-only, the next one does not find."""
    for number in range(4):
        bench.put(f"{number}0_x")
    command = "ls -A; pwd | grep -c /tmp/; mkdir -p .d/e; touch .h .d/e/f x; chmod 0 .d/e/f; chmod 500 .d/e .d"
    assert set(bench.run(command).values()) == {b"1\n"}


REACHES = [
    "rm -rf ../*", "rm -rf ../../*", "rm -rf ../../../*", "chmod 000 ..", "touch ../left ../../left", 'mv "$PWD" ../away; mkdir "$PWD"; touch "$PWD/left"',
    'rm -f "$(readlink /proc/$BASHPID/fd/1)"', 'cd ..; rm -rf "$(dirname "$(readlink /proc/$BASHPID/fd/1)")"',
]  # fmt: skip


@pytest.mark.parametrize("reach", REACHES)
def test_what_a_command_does_around_its_directory_touches_no_other_task(bench: Bench, reach: str) -> None:
    """Every other task runs its own command, in an empty directory, also those after it on the same worker."""
    for number in range(9):
        bench.put(f"0_{number}", b"%d" % number)
    names = {f"0_{number}" for number in range(9) if number % 3 != 1}
    for command in (f"case $(cat) in [147]) {reach};; esac; cat $SSHMAP_FILE; ls -A . ..", "cat; echo; ls -A . .."):
        with contextlib.suppress(JobFailed):
            bench.run(command)
        outputs = bench.outputs()
        assert set(outputs) >= names
        assert {name: outputs[name][:1] for name in names} == {name: name[-1:].encode() for name in names}
        assert len({outputs[name][1:] for name in names}) == 1
        bench.cluster.rm(f"sm://{bench.bucket}/out/", recursive=True)


def test_working_directory_may_be_removed(bench: Bench) -> None:
    """A command that removes or shuts its directory harms nobody else."""
    for number in range(3):
        bench.put(f"{number}0_x")
    assert set(bench.run('rmdir "$PWD"; echo gone').values()) == {b"gone\n"}
    assert (
        len(
            bench.cluster.map(
                f"sm://{bench.bucket}/in/", f"sm://{bench.bucket}/o2/", "touch f; chmod 0 .; echo x"
            ).hosts
        )
        == 3
    )
    assert bench.cluster.map(f"sm://{bench.bucket}/in/", f"sm://{bench.bucket}/o3/", "ls -A").done == 3


#: Makes what a command may leave behind, as a user who is not root, and removes it as the worker does.
TIDY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sshmap.store.layout import remove_tree
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
work = Path("work")
(work / "a" / "b").mkdir(parents=True)
(work / "a" / "b" / "file").touch()
(work / "c").mkdir()
(work / "c" / "link").symlink_to("/")
for folder in ("a/b", "a", "c", ""):
    (work / folder).chmod(int(sys.argv[2], 8))
remove_tree(work)
assert not work.exists()
"""


@pytest.mark.parametrize("mode", ["0500", "0300", "0100", "0000"])
def test_directories_shut_by_a_command_are_removed(tmp_path: Path, mode: str) -> None:
    """Also where the user is not root: a read-only directory must stop neither worker nor session."""
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, 65534 if os.geteuid() == 0 else -1, -1)
    done = subprocess.run(
        [sys.executable, "-c", TIDY, str(fleet.PACKAGE), mode], cwd=place, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_shipped_files_stand_in_the_directory(bench: Bench, tmp_path: Path) -> None:
    """`--with` files have their base names and stay executable; a task that removes them or shuts them harms no other one."""
    tool, table = tmp_path / "tool.sh", tmp_path / "table with space"
    tool.write_text('#!/bin/bash\necho "tool $1"\n')
    tool.chmod(0o755)
    table.write_bytes(b"row\0\xff")
    for number in range(4):
        bench.put(f"{number}_x")
    command = "./tool.sh yes; ls -A; cat 'table with space'; test ! -x table*; rm -f table*; chmod 0 tool.sh"
    outputs = bench.run(command, shipped=(tool, table))
    assert set(outputs.values()) == {b"tool yes\ntable with space\ntool.sh\nrow\0\xff"}
    assert len(outputs) == 4


CHANGES = [
    "echo more >> table",
    "sed -i s/row/ROW/ table; cp table x; cat x > table",
    "printf XXX 1<> table; touch -d @1 table",
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_task_does_to_its_shipped_file_no_other_one_sees(bench: Bench, tmp_path: Path, change: str) -> None:
    """It fails by name where the file could not be cloned for it; every other one has the file as it was shipped."""
    table = tmp_path / "table"
    table.write_bytes(b"row\n")
    for number in range(12):
        bench.put(f"0_{number}", b"%d" % number)
    command = f"cat table; if [ $(( $(cat) % 3 )) = 1 ]; then {change}; fi"
    try:
        bench.run(command, shipped=(table,))
    except JobFailed as failed:
        assert {failure.key[-1] for failure in failed.result.failures} <= {"1", "4", "7", "0"}  # noqa: PT017
        assert all("changed its shipped file 'table'" in failure.message for failure in failed.result.failures)  # noqa: PT017
    outputs = bench.outputs()
    assert set(outputs) >= {f"0_{number}" for number in range(12) if number % 3 != 1}
    assert set(outputs.values()) == {b"row\n"}


def test_input_cannot_be_written_through_its_file(bench: Bench) -> None:
    """A command that opens its input for writing changes no key (as root it can; the digest finds it)."""
    bench.put("a")
    with contextlib.suppress(JobFailed):
        bench.run('echo evil > "$SSHMAP_FILE"')
    with contextlib.suppress(DigestMismatch):
        assert bench.cluster.get(f"sm://{bench.bucket}/in/a") == b"content\n"


def test_fanout_places_printed_files(bench: Bench) -> None:
    """Printed files become keys, each on the host of its name; empty lines are skipped, unprinted files dropped."""
    bench.put("a")
    command = "for n in 0 1 2 3; do echo $n > ${n}_f; done; mkdir d; echo deep > d/0_g; echo no > unprinted; printf '0_f\\n\\n1_f\\n2_f\\n\\nd/0_g\\n'"
    assert bench.run(command, verb=Verb.FANOUT) == {
        "a/0_f": b"0\n",
        "a/0_g": b"deep\n",
        "a/1_f": b"1\n",
        "a/2_f": b"2\n",
    }
    placed = {row.name.rsplit("/", 1)[1]: row.host for row in bench.cluster.where(f"sm://{bench.bucket}/out/")}
    assert placed == {"0_f": "h0", "0_g": "h0", "1_f": "h1", "2_f": "h2"}


def test_fanout_of_no_files_is_fine(bench: Bench) -> None:
    """Zero files is a result, and is kept the second time."""
    bench.put("a")
    assert bench.run("echo dropped > f", verb=Verb.FANOUT) == {}
    again = bench.cluster.fanout(f"sm://{bench.bucket}/in/", f"sm://{bench.bucket}/out/", "echo dropped > f")
    assert (again.done, again.kept) == (0, 1)


def test_fanout_output_needs_no_last_newline(bench: Bench) -> None:
    """The last name counts without a newline; content is bytes."""
    bench.put("a")
    assert bench.run(r"printf '\0\377' > f; printf f", verb=Verb.FANOUT) == {"a/f": b"\0\xff"}


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("echo {canary}/file", "absolute"), ("echo ../../f", "'..'"), ("mkdir d; touch f; echo d/../f", "'..'"), ("echo missing", "not exist"),
        ("mkdir d; echo d", "plain"), ("ln -s {canary}/file l; echo l", "link"), ("ln -s {canary} d; echo d/file", "link"), ("mkfifo p; echo p", "plain"),
        ("touch f; echo f; echo f", "twice"), ("mkdir d; touch f d/f; echo f; echo d/f", "twice"), ("echo ./", ""), ("echo .", ""),
        (r"printf '\377\n'", "UTF-8"),
        ("touch $'a\\tb'; echo $'a\\tb'", "control"), ("printf 'x%.0s' {{1..300}}", ""), ("touch f; echo f//", ""), ("touch f; echo f; exit 4", "exit 4"),
    ],
)  # fmt: skip
def test_fanout_refuses_names_that_lead_elsewhere(bench: Bench, canary: Path, command: str, word: str) -> None:
    """A name that is absolute, climbs, is missing, no plain file, a link or printed twice fails the task; no other file of it is placed."""
    bench.put("a")
    failure = bench.fail(
        f"echo good > 0_good; echo good > 1_good; echo 0_good; echo 1_good; {command.format(canary=canary)}",
        verb=Verb.FANOUT,
    )
    assert word in failure.message
    assert not list(bench.top.glob("*/tmp/outbox/*"))


def test_fanout_of_a_hard_link_leaves_the_outside_file_alone(bench: Bench, canary: Path) -> None:
    """Mode and content of the file outside stay, and later writes to it do not reach the keys."""
    bench.put("a")
    command = f"for n in 0_f 1_f 2_f; do ln {canary}/file $n; echo $n; done"
    expected = {"a/0_f": b"do not touch", "a/1_f": b"do not touch", "a/2_f": b"do not touch"}
    assert bench.run(command, verb=Verb.FANOUT) == expected
    (canary / "file").write_bytes(b"written over")
    assert bench.outputs() == expected
    (canary / "file").write_bytes(b"do not touch")


def test_fanout_files_may_be_links_of_each_other(bench: Bench) -> None:
    """Two names of one file become two keys, also where a name looks like a copy of the other."""
    bench.put("a")
    outputs = bench.run("echo x > f; ln f g; echo y > f.copy; ls", verb=Verb.FANOUT)
    assert outputs == {"a/f": b"x\n", "a/f.copy": b"y\n", "a/g": b"x\n"}


def test_fanout_refused_by_one_peer_leaves_nothing_in_the_outbox(bench: Bench, tmp_path: Path) -> None:
    """When a file is refused because its key came meanwhile, the task fails and its other files do not lie about."""
    bench.put("a")
    away = next(number for number in range(3) if f"h{number}" != bench.cluster.host_of("sm://b/a"))
    command = f"touch {tmp_path}/begun; while ! test -e {tmp_path}/go; do read -t 0.02 < <(:) || true; done; "
    command += "for n in 0 1 2; do for m in {1..40}; do echo $m > ${n}_$m; echo ${n}_$m; done; done"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bench.run, command, verb=Verb.FANOUT)
        wait_until((tmp_path / "begun").exists)
        with Cluster(bench.cluster.inventory) as other:
            other.put(b"mine", f"sm://{bench.bucket}/out/a/{away}_7")
        (tmp_path / "go").touch()
        with pytest.raises(JobFailed) as caught:
            running.result()
    assert caught.value.exit_code == OtherReceipt.exit_code == 4
    assert bench.cluster.get(f"sm://{bench.bucket}/out/a/{away}_7") == b"mine"
    wait_until(lambda: not list(bench.top.glob("*/tmp/outbox/*")), limit=3, what="files are left in the outbox")


def test_many_fanout_files_arrive(bench: Bench) -> None:
    """A thousand files of one task are all placed."""
    bench.put("a")
    outputs = bench.run("seq 1000 | while read -r n; do echo $n > f$n; echo f$n; done", verb=Verb.FANOUT)
    assert outputs == {f"a/f{number}": b"%d\n" % number for number in range(1, 1001)}


@pytest.mark.parametrize("verb", [Verb.MAP, Verb.FANOUT, Verb.MERGE])
def test_hostile_names_are_never_interpreted(bench: Bench, canary: Path, verb: Verb) -> None:
    """Names with quotes, substitutions, dashes and spaces are names and nothing else."""
    for name in HOSTILE:
        bench.put(name, name.encode())
    commands = {
        Verb.MAP: 'cat; printf "|%s" "$SSHMAP_NAME"; cmp "$SSHMAP_FILE" /dev/stdin < "$SSHMAP_FILE"',
        Verb.FANOUT: 'cat > "./$filename"; printf "%s\\n" "$filename"',
        Verb.MERGE: 'while IFS= read -r path; do cat "$path"; done; printf "|%s" "$SSHMAP_NAME"',
    }
    outputs = bench.run(commands[verb], verb=verb)
    if verb is Verb.FANOUT:
        assert outputs == {f"{name}/{name}": name.encode() for name in HOSTILE}
    else:
        assert outputs == {name: f"{name}|{name}".encode() for name in HOSTILE}
    assert not [path for path in files_below(bench.top) if path.name == "pwned"]
    assert not Path("pwned").exists()
    assert canary.exists()


def test_key_replaced_by_a_link_is_not_followed(bench: Bench, canary: Path) -> None:
    """A link planted at a key's place is damage, whoever reads the key."""
    key = bench.put("a", (canary / "file").read_bytes())
    path = bench.top / bench.cluster.host_of(key) / "data" / key.removeprefix("sm://")
    path.unlink()
    path.symlink_to(canary / "file")
    with pytest.raises(DigestMismatch):
        bench.cluster.get(key)
    assert bench.fail("cat").kind == "DigestMismatch"
    bench.cluster.rm(key)
    assert not path.is_symlink()


def test_link_planted_as_directory_leads_nowhere(bench: Bench, canary: Path) -> None:
    """Neither an upload nor an output nor a removal goes through a link below data/."""
    key = bench.put("a")
    for host in ("h0", "h1", "h2"):
        (bench.top / host / "data" / bench.bucket).mkdir(exist_ok=True)
        (bench.top / host / "data" / bench.bucket / "out").symlink_to(canary / "folder")
        (bench.top / host / "data" / f"{bench.bucket}-linked").symlink_to(canary)
    with pytest.raises(JobFailed):
        bench.run("cat")
    for name in ("file", "folder/inner", "new"):
        with pytest.raises(SshmapError):
            bench.cluster.put(b"evil", f"sm://{bench.bucket}-linked/{name}")
    assert bench.cluster.get(key) == b"content\n"


def test_directory_of_keys_replaced_by_a_link_leads_nowhere(bench: Bench, canary: Path) -> None:
    """Keys whose directory became a link are missing, and removing them removes nothing behind it."""
    bench.put("dir/inner", b"nor this")
    bench.put("dir/inner2", b"nor this")
    for host in ("h0", "h1", "h2"):
        folder = bench.top / host / "data" / bench.bucket / "in" / "dir"
        if folder.exists():
            folder.rename(folder.parent / "moved")
            folder.symlink_to(canary / "folder")
    with Cluster(bench.cluster.inventory) as fresh, pytest.raises(SshmapError):
        fresh.get(f"sm://{bench.bucket}/in/dir/inner")
    with pytest.raises(JobFailed):
        bench.run("cat")
    bench.cluster.rm(f"sm://{bench.bucket}/in/", recursive=True)
    assert (canary / "folder" / "inner").exists()


def test_quick_tasks_are_not_held_up_by_output_polling(bench: Bench) -> None:
    """Two hundred empty tasks take seconds, not minutes."""
    for number in range(60):
        bench.put(f"k{number}")
    began = time.monotonic()
    assert len(bench.run("true")) == 60
    assert time.monotonic() - began < 20


def test_eval_on_a_fresh_cluster_is_left_alone(roots: Path) -> None:
    """The daemon that starts beside a first `eval` does not take its command for a stray."""
    with Cluster(fleet.local_inventory(roots, hosts=1)) as cluster:
        cluster.put(b"content", "sm://in/a")
        out, err = io.BytesIO(), io.BytesIO()
        code = cluster.eval("sm://in/a", "sleep 2; cat", out, err)
        assert (code, out.getvalue()) == (0, b"content")
        cluster.down()
