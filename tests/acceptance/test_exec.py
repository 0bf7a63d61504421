"""`exec`: lines as they are said, each with its host; ended when nobody reads."""

from __future__ import annotations

import subprocess

from tests.acceptance.conftest import COMMAND, LIMIT, CommandLine
from tests.conftest import processes_below, wait_until

CUT = "head -c 20000000 /dev/zero | tr '\\0' x"


def ended(commandline: CommandLine, mark: str) -> None:
    """Wait until no process has a mark in its arguments."""
    wait_until(lambda: not any(mark in arguments for arguments in processes_below(commandline.folder).values()))


def test_a_command_ends_when_nobody_reads_what_it_says(shared: CommandLine) -> None:
    done = shared.shell("sshmap exec 'exec yes never-ending' | head -1")
    assert (done.code, done.err) == (0, "")
    assert done.out in (b"local0: never-ending\n", b"local1: never-ending\n")
    ended(shared, "never-ending")


def test_lines_come_as_they_are_said(shared: CommandLine) -> None:
    gate = shared.folder / "gate"
    command = (
        f"echo first; echo second >&2; until [ -e {gate} ]; do read -rt 0.05 <> <(:) || true; done; echo last; exit 3"
    )
    process = subprocess.Popen(
        [*COMMAND, "exec", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=shared.folder,
        env=shared.environment,
    )
    with process:
        assert process.stdout
        assert process.stderr
        first = sorted(process.stdout.readline() for _ in range(2))
        second = sorted(process.stderr.readline() for _ in range(2))
        gate.touch()
        last = sorted(process.stdout.readlines())
        assert process.wait(LIMIT) == 3
    for word, lines in ((b"first", first), (b"second", second), (b"last", last)):
        assert lines == [b"local0: %s\n" % word, b"local1: %s\n" % word]


def test_lines_of_several_hosts_are_never_mixed(shared: CommandLine) -> None:
    done = shared.succeed("exec", "for n in {1..3000}; do echo $SSHMAP_HOST $n; done; printf 'no end'")
    for host in ("local0", "local1"):
        said = [line for line in done.lines if line.startswith(f"{host}: ")]
        assert said == [*(f"{host}: {host} {number}" for number in range(1, 3001)), f"{host}: no end"]
    assert len(done.lines) == 6002


def test_equal_output_is_folded_at_the_end_and_cut_in_words(shared: CommandLine) -> None:
    done = shared.succeed("exec", "-b", "echo out; echo err >&2")
    assert (done.out, done.err) == (b"local[0-1]: out\n", "local[0-1]: err\n")
    done = shared.succeed("exec", "-b", CUT)
    assert done.out.startswith(b"local[0-1]: xxx")
    assert 16_000_000 < len(done.out) < 20_000_000
    assert [("cut" in line, "more were said" in line) for line in done.err.splitlines()] == [(True, True)] * 2
