"""The command line as a user meets it: the walk-through, every kind of mistake, and that README and --help agree."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from sshmap import errors
from tests.acceptance.conftest import COMMAND, LIMIT, CommandLine
from tests.conftest import processes_below, wait_until

README = Path(__file__).parents[2] / "README.md"
FANOUT = (
    'cat > content; for i in {2..3}; do file=$(printf "%03d" $i)_machine$i; '
    'echo -n "$(cat content)$i" > $file; echo $file; done'
)
SHUFFLED = [
    "000_machine0/002_machine2", "000_machine0/003_machine3", "001_machine1/002_machine2", "001_machine1/003_machine3",
]  # fmt: skip
#: arguments, exit code, what the one line of the error must hold
MISTAKES = [
    # nothing matched
    (["cat", "sm://in/none"], 1, ["sm://in/none", "no such key"]),
    (["cp", "sm://in/none", "out"], 1, ["sm://in/none", "no such key"]),
    (["cp", "-r", "sm://none/", "out"], 1, ["sm://none/"]),
    (["eval", "sm://in/none", "cat"], 1, ["sm://in/none", "no such key"]),
    (["ls", "sm://none"], 1, ["sm://none"]),
    (["ls", "-r", "sm://in/none"], 1, ["sm://in/none"]),
    (["where", "sm://in/none"], 1, ["sm://in/none", "local"]),
    (["rm", "sm://in/none"], 1, ["sm://in/none"]),
    (["map", "sm://none/", "sm://out/", "cat"], 1, ["INDIR", "sm://none/"]),
    (["fanout", "sm://in/*_x", "sm://out/", "cat"], 1, ["INDIR", "sm://in/*_x"]),
    (["merge", "sm://none/", "sm://out/", "cat"], 1, ["INDIR", "sm://none/"]),
    # some commands failed
    (["map", "sm://in/", "sm://out/", "echo sorry >&2; exit 7"], 1, ["2 keys on local", "exit 7", "sorry"]),
    (["map", "sm://in/a*", "sm://out/", "kill -9 $BASHPID"], 1, ["sm://in/a", "attempt 1", "137", "signal 9"]),
    (["fanout", "sm://in/a*", "sm://out/", "echo /etc/passwd"], 1, ["sm://in/a", "'/etc/passwd'", "absolute"]),
    (["fanout", "sm://in/a*", "sm://out/", "echo none"], 1, ["sm://in/a", "'none'", "does not exist"]),
    (["merge", "sm://in/", "sm://out/", "false | cat"], 1, ["2 keys on local", "exit 1"]),
    # usage
    (["ls", "in"], 2, ["not a key", "'in'"]),
    (["cp", "file", "file"], 2, ["neither is a key"]),
    (["cp", "sm://in/a", "sm://in/c"], 2, ["both are keys"]),
    (["cp", "missing", "sm://in/"], 2, ["missing", "No such file"]),
    (["cp", "home", "sm://in/"], 2, ["home", "directory"]),
    (["cp", "-", "sm://in/"], 2, ["sm://in/", "directory"]),
    (["cp", "sm://in/", "out"], 2, ["sm://in/", "directory"]),
    (["rm", "-r", "sm://"], 2, ["refusing to delete everything"]),
    (["cp", "file"], 2, ["cp file", "DST is missing"]),
    (["cp", "-r", "", "sm://in/"], 2, ["is empty"]),
    (["cp", "-r", "sm://in", ""], 2, ["is empty"]),
    (["sync", "--delete", "sm://in", ""], 2, ["is empty"]),
    (["sync", "--delete", "", "sm://in"], 2, ["is empty"]),
    (["sync", "--delete", "sm://none", "."], 1, ["sm://none"]),
    (["cp", "sm://in", "-"], 2, ["sm://in", "directory"]),
    (["cp", "sm://in/a", "sm://in/b", "out"], 2, ["one key or directory"]),
    (["cp", "file", "sm://in/a", "sm://x/"], 2, ["both are keys"]),
    (["cp", "file", "-", "sm://in/"], 2, ["'-'", "one stream"]),
    (["cp", "file", "file", "sm://in/k"], 2, ["sm://in/k", "one key"]),
    (["cp", "file", "home", "sm://in/"], 2, ["home", "directory"]),
    (["cp", "-r", "missing", "sm://in/"], 2, ["no such directory", "missing"]),
    (["cp", "-r", "file", "sm://in/"], 2, ["file", "not a directory"]),
    (["cp", "-r", "home", "sm://"], 2, ["sm://", "no bucket"]),
    (["cp", "--include", "x", "file", "sm://in/"], 2, ["--include", "tree"]),
    (["cp", "--number", "file", "sm://in/"], 2, ["--number", "tree"]),
    (["cp", "--replace", "sm://in/a", "out"], 2, ["--replace"]),
    (["sync", "home", "file"], 2, ["sync home file", "directory of keys"]),
    (["sync", "sm://in/", "sm://out/"], 2, ["directory of keys"]),
    (["sync", "missing", "sm://in/"], 2, ["no such directory", "missing"]),
    (["sync", "home", "sm://"], 2, ["sm://", "no bucket"]),
    (["sync", "sm://none", "out"], 1, ["sm://none"]),
    (["cat", "sm://in/a", "sm://in/none"], 1, ["sm://in/none", "no such key"]),
    (["cat", "sm://"], 5, ["sm://damaged/k", "digest"]),
    (["cat", "in"], 2, ["not a key", "'in'"]),
    (["inventory", "from-s4", "missing"], 2, ["cannot read missing"]),
    (["inventory", "from-ssh", "x", "--config", "missing"], 2, ["cannot read missing"]),
    (["inventory", "from-ssh", "x", "--config", "file"], 1, ["no Host of file", "'x'"]),
    (["eval", "sm://in/a", " "], 2, ["command is empty"]),
    (["map", "sm://in/", "sm://out/", ""], 2, ["command is empty"]),
    (["map", "sm://in", "sm://out/", "cat"], 2, ["sm://in", "not a directory"]),
    (["map", "sm://in/", "sm://out", "cat"], 2, ["sm://out", "not a directory"]),
    (["map", "sm://in/", "sm://in/", "cat"], 2, ["OUTDIR", "INDIR", "sm://in/"]),
    (["map", "sm://in/", "sm://in/deep/", "cat"], 2, ["OUTDIR", "INDIR", "sm://in/deep/"]),
    (["map", "--with", "missing", "sm://in/", "sm://out/", "cat"], 2, ["missing", "No such file"]),
    (["--local", "0", "ls"], 2, ["--local 0", "range"]),
    (["--local", "2", "-i", "missing.toml", "ls"], 2, ["-i", "--local"]),
    # inventories
    (["-i", "missing.toml", "ls"], 2, ["missing.toml", "no such inventory"]),
    (["-i", "file", "ls"], 2, ["file", "not TOML"]),
    # key names
    (["cp", "file", "sm://in/../c"], 2, ["sm://in/../c", "'..'"]),
    (["cp", "file", "sm://in//c"], 2, ["sm://in//c", "empty part"]),
    (["cp", "file", "sm://in/new\nline"], 2, ["sm://in/new\\nline", "control character"]),
    (["cp", "file", "sm://in/" + "c" * 256], 2, ["255 bytes"]),
    (["cp", "file", os.fsdecode(b"sm://in/\xff")], 2, ["UTF-8"]),
    # refused, lost, damaged
    (["cp", "file", "sm://in/a"], 4, ["sm://in/a", "exists with other content"]),
    (["map", "sm://in/", "sm://mapped/", "tac"], 4, ["sm://mapped/", "'cat'", "'tac'", "1 more output"]),
    (["-i", "changed.toml", "ls"], 4, ["order was", "local1 local0"]),
    (["-i", "unreachable.toml", "ls"], 3, ["far", "127.0.0.1 port 1"]),
    (["cat", "sm://damaged/k"], 5, ["sm://damaged/k", "digest"]),
    (["eval", "sm://damaged/k", "cat"], 5, ["sm://damaged/k", "digest"]),
    (["map", "sm://damaged/", "sm://out/", "cat"], 5, ["sm://damaged/k", "digest"]),
]  # fmt: skip
UNPARSED = [
    ([], "Usage"), (["nonsense"], "nonsense"), (["ls", "--nonsense"], "--nonsense"), (["map", "sm://in/", "sm://out/"], "CMD"), (["health", "extra"], "extra"),
    (["--local", "many", "ls"], "--local"),
]  # fmt: skip


def test_the_walk_through_says_what_it_always_said(typed: CommandLine) -> None:
    for line in (
        "echo input_a | sshmap --local 4 cp - sm://inputs/000_machine0",
        "echo input_b | sshmap --local 4 cp - sm://inputs/001_machine1",
        'sshmap --local 4 map sm://inputs/ sm://mapped/ "sed s/input/output/"',
    ):
        assert typed.shell(line).code == 0
    for key, content in (("000_machine0", b"output_a\n"), ("001_machine1", b"output_b\n")):
        assert typed.shell(f"sshmap --local 4 eval sm://mapped/{key} cat").out == content

    assert typed.shell(f"sshmap --local 4 fanout sm://inputs/ sm://shuffled/ '{FANOUT}'").code == 0
    assert [line.split()[-1] for line in typed.shell("sshmap --local 4 ls -r sm://shuffled/").lines] == SHUFFLED
    places = [line.split() for line in typed.shell("sshmap --local 4 where sm://shuffled/").lines]
    assert places == [[f"local{int(key.split('/')[1][:3])}", f"sm://shuffled/{key}"] for key in SHUFFLED]

    assert typed.shell('sshmap --local 4 merge sm://shuffled/ sm://merged/ "xargs cat"').code == 0
    for key, content in (("002_machine2", b"input_a2input_b2"), ("003_machine3", b"input_a3input_b3")):
        assert typed.shell(f"sshmap --local 4 eval sm://merged/{key} cat").out == content


@pytest.mark.parametrize(
    ("arguments", "code", "parts"), MISTAKES, ids=lambda value: None if isinstance(value, int) else ascii(value)[:60]
)
def test_a_mistake_has_its_exit_code_and_one_line_that_names_it(
    shared: CommandLine, arguments: list[str], code: int, parts: list[str]
) -> None:
    size = "" if {"-i", "--local"} & set(arguments) else "2"
    done = shared(*arguments, stdin=b"something\n", SSHMAP_LOCAL=size)
    assert done.code == code, done.err
    said = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert any(all(part in line for part in parts) for line in said), done.err
    assert all(line.startswith(("error: ", "hint: ", "done: ")) for line in done.err.splitlines()), done.err


@pytest.mark.parametrize(("arguments", "part"), UNPARSED)
def test_what_cannot_be_parsed_is_a_usage_error(shared: CommandLine, arguments: list[str], part: str) -> None:
    done = shared(*arguments)
    assert done.code == 2
    assert part in done.err + done.out.decode()
    assert "Traceback" not in done.err


def test_after_all_mistakes_only_what_was_meant_is_there(shared: CommandLine) -> None:
    left = {line.split()[-1] for line in shared.succeed("ls", "-r").lines}
    assert left == {"damaged/k", "in/a", "in/b", "mapped/a", "mapped/b"}


def test_commands_pass_on_their_own_exit_code(shared: CommandLine) -> None:
    for code in (0, 3, 126, 255):
        done = shared("eval", "sm://in/a", f"cat; exit {code}")
        assert (done.code, done.out, done.err) == (code, b"one\n", "")


def test_nothing_left_to_do_is_success(shared: CommandLine) -> None:
    done = shared.succeed("map", "sm://in/", "sm://mapped/", "cat")
    assert "0 ok, 0 failed, 2 kept" in done.err
    assert not done.out
    assert shared.succeed("cp", "-", "sm://in/a", stdin=b"one\n").err == ""


def test_quiet_says_nothing_and_json_says_it_for_programs(shared: CommandLine) -> None:
    quiet = shared.succeed("-q", "map", "sm://in/", "sm://mapped/", "cat")
    assert (quiet.out, quiet.err) == (b"", "")
    result = json.loads(shared.succeed("map", "--json", "sm://in/", "sm://mapped/", "cat").out)
    assert (result["ok"], result["failed"], result["kept"], result["failures"]) == (0, 0, 2, [])
    rows = json.loads(shared.succeed("ls", "--json", "sm://in/").out)
    assert [(row["key"], row["size"]) for row in rows] == [("sm://in/a", 4), ("sm://in/b", 4)]
    assert [row["key"] for row in json.loads(shared.succeed("where", "--json", "sm://in/").out)] == [
        "sm://in/a",
        "sm://in/b",
    ]


def test_the_old_scheme_is_a_synonym(shared: CommandLine) -> None:
    assert shared.succeed("cat", "s4://in/a").out == b"one\n"
    assert "0 ok, 0 failed, 2 kept" in shared.succeed("map", "s4://in/", "s4://mapped/", "cat").err


def test_copies_keep_names_trees_and_bytes(typed: CommandLine) -> None:
    tree = {"a": b"", "b/c": b"\0\xff\r\n", "b/d/e": b"no newline"}
    for name, content in tree.items():
        path = typed.folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    typed.succeed("cp", "-r", "tree", "sm://x/y")
    typed.succeed("cp", "tree/b/c", "sm://x/kept/")
    assert [line.split()[-1] for line in typed.succeed("ls", "-r", "sm://x/").lines] == [
        "kept/c",
        *(f"y/{name}" for name in tree),
    ]
    typed.succeed("cp", "-r", "sm://x/y", ".")
    typed.succeed("cp", "-r", "sm://x/y/", "out/")
    typed.succeed("cp", "sm://x/kept/c", "one/")
    typed.succeed("cp", "sm://x/kept/c", ".")
    for name, content in tree.items():
        assert (typed.folder / "y" / name).read_bytes() == (typed.folder / "out" / name).read_bytes() == content
        assert typed.succeed("cp", f"sm://x/y/{name}", "-").out == content
    assert (typed.folder / "one" / "c").read_bytes() == (typed.folder / "c").read_bytes() == tree["b/c"]


def test_a_copy_out_goes_where_a_link_points_and_leaves_nothing_beside_it(typed: CommandLine) -> None:
    typed.succeed("cp", "-", "sm://linked/key", stdin=b"fresh")
    folder = typed.folder / "linked"
    (folder / "elsewhere").mkdir(parents=True)
    (folder / "elsewhere" / "file").write_bytes(b"former")
    (folder / "link").symlink_to("elsewhere/file")
    typed.succeed("cp", "sm://linked/key", "linked/link")
    assert (folder / "link").is_symlink()
    assert (folder / "elsewhere" / "file").read_bytes() == b"fresh"
    assert sorted(path.name for path in folder.rglob("*")) == ["elsewhere", "file", "link"]


def test_a_reader_that_closes_the_pipe_gets_no_complaint(shared: CommandLine) -> None:
    shared.succeed("cp", "-", "sm://large/k", stdin=bytes(5_000_000))
    done = shared.shell("sshmap cat sm://large/k | head -c1")
    assert (done.code, done.out, done.err) == (0, b"\0", "")
    shared.succeed("rm", "sm://large/k")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_it_with_its_code_and_ends_the_command(
    shared: CommandLine, number: signal.Signals, code: int
) -> None:
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # where it is ignored, the child would ignore it too
    try:
        process = subprocess.Popen(
            [*COMMAND, "eval", "sm://in/a", "echo ready; exec tail -f /dev/null"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=shared.folder, env=shared.environment,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(LIMIT) == code
        assert process.stderr
        assert b"Traceback" not in process.stderr.read()
    wait_until(lambda: not any("tail -f" in arguments for arguments in processes_below(shared.folder).values()))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_comes_before_it_has_begun_ends_it_with_its_code(number: signal.Signals, code: int) -> None:
    early = (
        "import os; from sshmap.cli import start\n"
        f"start._prepare_streams = lambda: os.kill(os.getpid(), {int(number)}); start.run(int)"
    )
    done = subprocess.run([COMMAND[0], "-c", early], capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False)


@pytest.fixture(scope="module")
def helps(shared: CommandLine) -> dict[str, str]:
    """What --help says: of the whole under an empty name, of each command under its own."""
    whole = shared.succeed("--help").out.decode()
    names = re.findall(r"^  ([a-z][a-z-]*) ", whole[whole.index("Commands:") :], re.MULTILINE)
    said = {name: shared.succeed(name, "--help").out.decode() for name in names}
    for group in [name for name in names if "Commands:" in said[name]]:
        listed = said[group][said[group].index("Commands:") :]
        for name in re.findall(r"^  ([a-z][a-z0-9-]*) ", listed, re.MULTILINE):
            said[f"{group} {name}"] = shared.succeed(group, name, "--help").out.decode()
    return {"": whole, **said}


def options(text: str) -> list[tuple[set[str], str]]:
    """The options in a --help: the ways to write each, and all that is said about it."""
    _, _, listed = text.partition("\nOptions:\n")
    found = re.split(r"^  (?=-)", listed.split("\n\n", 1)[0], flags=re.MULTILINE)[1:]
    return [
        (set(re.findall(r"(?<!\S)--?[a-z0-9][a-z-]*", text.split("  ", 1)[0])), " ".join(text.split()))
        for text in found
    ]


def code_in_readme() -> tuple[list[str], list[str]]:
    """The README's code: its blocks, and what stands between single backquotes."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return blocks, re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def synopsis() -> list[list[str]]:
    """The lines below the synopsis's first one, split where there is more than one space."""
    blocks, _ = code_in_readme()
    block = next(block for block in blocks if "VERB" in block)
    return [re.split(r"\s{2,}", line.strip()) for line in block.splitlines()[1:]]


def typed_in_readme() -> list[str]:
    """Calls of sshmap anywhere in the README, without what is quoted in them and without comments."""
    blocks, spans = code_in_readme()
    lines = [line for block in blocks for line in block.splitlines()] + spans
    return [re.sub(r"'[^']*'|\"[^\"]*\"|#.*|\|.*", "", line) for line in lines if re.match(r"sshmap [^\[]", line)]


def commands_in_readme() -> set[str]:
    """Commands the README names: in calls, and in the synopsis, where what stands beside them is capitals and options."""
    cell = re.compile(r"([a-z][a-z-]*)(?: from-[a-z0-9]+)?(?: \[?(?:--?[a-z0-9]+|[A-Z]+)(?: [A-Z]+)?\]?)*")
    listed = {match[1] for cells in synopsis() for text in cells if (match := cell.fullmatch(text))}
    called = [
        re.findall(r"(?<=\s)[a-z][a-z-]*(?=\s|$)", re.sub(r"(-i|--local) \S+", "", line)) for line in typed_in_readme()
    ]
    return listed | {words[0] for words in called if words}


def options_in_readme() -> set[str]:
    """Options the README names: in calls, in the synopsis, and by themselves."""
    blocks, spans = code_in_readme()
    texts = (
        [block for block in blocks if "VERB" in block]
        + typed_in_readme()
        + [span for span in spans if span.startswith("-")]
    )
    return {option for text in texts for option in re.findall(r"(?<![\w-])--?[a-z0-9][a-z-]*", text)}


def test_every_command_of_the_readme_exists_and_the_other_way_round(helps: dict[str, str], shared: CommandLine) -> None:
    there = {name for name in helps if name and " " not in name}
    named = commands_in_readme()
    assert there <= named
    for alias in named - there:
        assert shared(alias, "--help").code == 0
    _, spans = code_in_readme()
    for alias in ("map-to-n", "map-from-n"):
        assert alias in spans
        assert shared(alias, "--help").code == 0


def test_every_option_of_the_readme_exists_and_the_other_way_round(helps: dict[str, str]) -> None:
    named = options_in_readme()
    there = [ways for text in helps.values() for ways, _ in options(text)]
    assert named <= set().union(*there)
    assert {min(ways) for ways in there if not ways & named} <= {"--help", "--show-completion"}


def test_every_option_has_an_environment_twin(helps: dict[str, str]) -> None:
    for text in helps.values():
        for ways, said in options(text):
            long = max(ways, key=len)
            if long not in ("--help", "--version", "--install-completion", "--show-completion"):
                assert f"SSHMAP_{long[2:].upper().replace('-', '_')}" in said.replace("- ", "-")


def test_every_exit_code_of_the_readme_exists_and_the_other_way_round(helps: dict[str, str]) -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \| \S", README.read_text(encoding="utf-8"), re.MULTILINE)
    named = {int(number) for row in rows for number in row.split(",")}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SshmapError)]
    assert named == {0, 129, 130, 141, 143} | {kind.exit_code for kind in kinds}
    assert {
        int(number) for text in helps.values() for number in re.findall(r"exit code (\d+)", " ".join(text.split()))
    } <= named


def test_copy_over_a_damaged_key_says_that_it_is_repaired(typed: CommandLine) -> None:
    (typed.folder / "f").write_bytes(b"content")
    typed.succeed("cp", "f", "sm://b/f")
    assert typed.succeed("cp", "f", "sm://b/f").err == ""
    (stored,) = typed.state.rglob("data/b/f")
    stored.unlink()
    assert (
        "sm://b/f: its file on the host was missing or damaged, and is repaired"
        in typed.succeed("cp", "f", "sm://b/f").err
    )
    assert typed.succeed("cat", "sm://b/f").out == b"content"
