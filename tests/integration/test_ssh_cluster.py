"""A cluster over real sshd, from its first command to its purge, over both transports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client import setup
from sshmap.errors import HostLost, Refused, RingChanged, SshmapError
from sshmap.inventory import Inventory
from sshmap.model import JobSpec, Maker, Peer, Verb
from sshmap.protocol import messages as m
from sshmap.store.layout import Root
from sshmap.transport import openssh
from sshmap.transport.session import Session
from sshmap.transport.target import Resolved, Target, known_keys
from tests import sshd
from tests.conftest import files_below, processes_below, wait_until
from tests.integration import fleet
from tests.sshd import TRANSPORTS, Sshd, SshdHosts, listeners_of, tree_state, user_name

sshd_hosts, make_sshd_hosts = sshd.sshd_hosts, sshd.make_sshd_hosts

INPUTS = {"000_machine0": b"input_a", "001_machine1": b"input_b"}
SHUFFLE = 'read -r line || true; for n in 0 1 2; do printf "$line$n" > 00${n}_machine$n; echo 00${n}_machine$n; done'
SHUFFLED = {f"{name}/00{n}_machine{n}": content + b"%d" % n for name, content in INPUTS.items() for n in range(3)}


@pytest.fixture(scope="module")
def standing(make_sshd_hosts: Callable[[], SshdHosts]) -> SshdHosts:
    """Three hosts that are up, for tests that leave them so; each works in buckets of its own."""
    hosts = make_sshd_hosts()
    hosts.add(3)
    with Cluster(hosts.inventory()) as cluster:
        assert cluster.up()[1] == {}
    return hosts


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """How the laptop reaches the hosts."""
    return str(request.param)


@pytest.fixture
def cluster(standing: SshdHosts, transport: str) -> Iterator[Cluster]:
    """The standing hosts as a cluster."""
    with Cluster(standing.inventory(transport)) as opened:
        yield opened


def up(inventory: Inventory) -> None:
    """Bring all hosts up."""
    with Cluster(inventory) as cluster:
        statuses, failures = cluster.up()
    assert failures == {}
    assert [*statuses] == [host.name for host in inventory.hosts]


def contents(cluster: Cluster, prefix: str) -> dict[str, bytes]:
    """Return all keys below a prefix, by the rest of their names."""
    return {placed.path.removeprefix(f"{prefix}/"): cluster.get(placed) for placed in cluster.where(f"sm://{prefix}/")}


def test_walk_through_from_files_to_merged_results(standing: SshdHosts, transport: str, tmp_path: Path) -> None:
    inventory = standing.write(standing.inventory(transport))
    (tmp_path / "data").mkdir()
    for name, content in INPUTS.items():
        (tmp_path / "data" / name).write_bytes(content)
    commands = [
        ("up",),
        ("cp", "-r", "data", f"sm://{transport}/in/"),
        ("map", f"sm://{transport}/in/", f"sm://{transport}/mapped/", "sed s/input/output/"),
        ("fanout", f"sm://{transport}/in/", f"sm://{transport}/shuffled/", SHUFFLE),
        ("merge", f"sm://{transport}/shuffled/", f"sm://{transport}/merged/", "xargs cat"),
    ]
    for command in commands:
        code, _, err = fleet.sshmap(inventory, *command)
        assert code == 0, (command, err)
    with Cluster(inventory) as cluster:
        assert contents(cluster, f"{transport}/mapped") == {"000_machine0": b"output_a", "001_machine1": b"output_b"}
        assert contents(cluster, f"{transport}/shuffled") == SHUFFLED
        assert contents(cluster, f"{transport}/merged") == {
            f"00{n}_machine{n}": b"input_a%dinput_b%d" % (n, n) for n in range(3)
        }
    code, out, _ = fleet.sshmap(inventory, "where", f"sm://{transport}/")
    rows = [line.split() for line in out.decode().splitlines()]
    assert len(rows) == 2 + 2 + 6 + 3
    assert [host for host, name in rows] == [f"h{int(name.rpartition('/')[2][:3]) % 3}" for _, name in rows]
    assert code == 0


def test_recipe_counts_on_ssh_hosts_what_it_counts_on_local_ones(
    standing: SshdHosts, transport: str, tmp_path: Path
) -> None:
    local = fleet.write_inventory(fleet.local_inventory(tmp_path / "roots", hosts=2), tmp_path / "local.toml")
    recipe = fleet.PACKAGE / "recipes" / "passenger_counts.py"
    answers = []
    for inventory in (standing.write(standing.inventory(transport)), local):
        argv = [sys.executable, str(recipe), "-i", str(inventory), "--months", "3", "--trips", "300", "--json"]
        done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    with Cluster(local) as cluster:
        cluster.down()
    assert answers[0] == answers[1]
    assert sum(row["trips"] for row in answers[0]) > 300


def test_the_same_job_again_runs_nothing(cluster: Cluster, transport: str) -> None:
    for number in range(20):
        cluster.put(b"%d" % number, f"sm://again-{transport}/in/k{number}")
    jobs = [
        (Verb.MAP, "in", "mapped", "cat"),
        (Verb.FANOUT, "in", "out", "cat > f$filename; echo f$filename"),
        (Verb.MERGE, "out", "merged", "wc -l"),
    ]
    for verb, indir, outdir, command in jobs:
        arguments = (verb, f"sm://again-{transport}/{indir}/", f"sm://again-{transport}/{outdir}/", command)
        assert (cluster.submit(*arguments).done, cluster.submit(*arguments).kept) == (20, 20)


def test_up_again_changes_nothing(standing: SshdHosts, transport: str) -> None:
    def state() -> list[object]:
        return [[tree_state(host.root / part) for part in ("ssh", "runtime")] for host in standing.hosts] + [
            [
                tree_state(host.home / ".ssh"),
                (host.root / "agent").stat().st_mtime_ns,
                Root(host.root).read_cluster(),
                fleet.daemon_of(Root(host.root)),
            ]
            for host in standing.hosts
        ]

    before = state()
    up(standing.inventory(transport))
    assert state() == before


def test_up_looks_every_host_up_once(standing: SshdHosts, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(resolved: Resolved) -> list[str]:
        asked.append(resolved.port)
        return known_keys(resolved)

    monkeypatch.setattr(setup, "known_keys", counted)
    up(standing.inventory())
    assert sorted(asked) == sorted(host.port for host in standing.hosts)


def test_exec_and_eval_pass_on_what_commands_say(cluster: Cluster, standing: SshdHosts, transport: str) -> None:
    spoken = cluster.exec("echo out; echo err >&2; echo $HOME; exit 3")
    assert [(said.exit_code, said.stdout, said.stderr) for said in spoken.values()] == [
        (3, f"out\n{host.home}\n".encode(), b"err\n") for host in standing.hosts
    ]


def test_large_stream_comes_back_as_it_was(cluster: Cluster, transport: str) -> None:
    content = os.urandom(1 << 20) * 8
    cluster.put(content, f"sm://large-{transport}/k")
    assert cluster.get(f"sm://large-{transport}/k") == content


def test_daemons_open_no_port(cluster: Cluster, standing: SshdHosts) -> None:
    cluster.exec("true")
    pids = [pid for host in standing.hosts for pid in [*fleet.tree_of(Root(host.root)), *processes_below(host.root)]]
    assert len(pids) > 3 * len(standing.hosts)
    assert listeners_of(pids) == []
    assert all(len(listeners_of([host.pid])) == 1 for host in standing.hosts), "the scan sees sshd's own"


PEER_MAY_NOT = [
    m.Ls(prefix=""), m.ListBuckets(), m.Get(prefix=""), m.Remove(prefix="a"), m.CountOutputs(outdir="a/"),
    m.Sweep(directories=()), m.GetStatus(), m.Jobs(), m.StartDaemon(),
    m.Eval(name="a/b", command="touch pwned"), m.Exec(command="touch pwned"), m.StopDaemon(purge=True), m.SetPeers(peers=(), known_hosts=(), authorized=()),
    m.Open(job=JobSpec(indir="sm://a/", outdir="sm://b/", maker=Maker(verb=Verb.MAP, command="touch pwned")), run="1"),
    m.Plan(job=JobSpec(indir="sm://a/", outdir="sm://b/", maker=Maker(verb=Verb.MAP, command="touch pwned")), run="1", epoch=1),
    m.Start(job=JobSpec(indir="sm://a/", outdir="sm://b/", maker=Maker(verb=Verb.MAP, command="touch pwned")), run="1", epoch=1),
]  # fmt: skip


def as_peer(standing: SshdHosts, command: list[str], caller: str = "h0", *, ending: bool = False) -> Session:
    """Log in to h1 with the key of h0, as its courier does."""
    one, other = standing.hosts[:2]
    target = Target(
        address="127.0.0.1", port=other.port, user=user_name(), identity_file=str(one.root / "ssh" / "key"),
        known_hosts=str(one.root / "ssh" / "known_hosts"), config="none",
    )  # fmt: skip
    return Session(
        openssh.connect(target, command),
        m.Hello(host="h1", ring=tuple(standing.inventory().ring.members), caller=caller, ending=ending),
    )


ASKED_FOR = {"courier": ["sshmap-peer"], "bash": ["bash", "-c", "touch pwned"], "sh": ["/bin/sh"]}


@pytest.mark.parametrize("command", ASKED_FOR.values(), ids=ASKED_FOR)
def test_key_of_a_peer_brings_files_and_nothing_else(standing: SshdHosts, command: list[str]) -> None:
    session = as_peer(standing, command)
    try:
        assert session.ask(m.Ping(), m.Served) == m.Served()
        assert session.ask(m.Has(name="no/such"), m.Served).count == 0
        for request in PEER_MAY_NOT:
            with pytest.raises(Refused, match=f"peer may not ask for {type(request).__name__}"):
                session.ask(request, m.Served)
        assert session.ask(m.Ping(), m.Served) == m.Served()
    finally:
        session.channel.close()
    assert not [path for path in files_below(standing.top) if path.name == "pwned"]


@pytest.mark.parametrize("caller", ["h2", "h1", ""])
def test_key_of_a_peer_is_of_no_use_under_another_name(standing: SshdHosts, caller: str) -> None:
    with pytest.raises(Refused, match="calls with the key of h0"):
        as_peer(standing, ["sshmap-peer"], caller)


def test_key_of_a_peer_ends_no_daemon(standing: SshdHosts) -> None:
    """It may ask for a session that ends the daemon, and gets an ordinary one."""
    session = as_peer(standing, ["sshmap-peer"], ending=True)
    try:
        with pytest.raises(Refused, match="peer may not ask for StopDaemon"):
            session.ask(m.StopDaemon(purge=True), m.DaemonStopped)
    finally:
        session.channel.close()


def test_key_of_a_peer_forwards_nothing(standing: SshdHosts) -> None:
    one, other, third = standing.hosts
    argv = [
        "ssh", "-F", "none", "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={one.root}/ssh/known_hosts", "-i", str(one.root / "ssh" / "key"),
        "-W", f"127.0.0.1:{third.port}", "-p", str(other.port), "-l", user_name(), "127.0.0.1",
    ]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"SSH-2.0" not in done.stderr


def test_peer_that_places_keys_differently_is_refused(standing: SshdHosts) -> None:
    target = Target(
        address="127.0.0.1", port=standing.hosts[1].port, user=user_name(), identity_file=str(standing.hosts[0].root / "ssh" / "key"),
        known_hosts=str(standing.hosts[0].root / "ssh" / "known_hosts"), config="none",
    )  # fmt: skip
    with pytest.raises(RingChanged):
        Session(openssh.connect(target, ["sshmap-peer"]), m.Hello(host="h1", ring=(("h1", 1.0),), caller="h0"))


def changed(inventory: Inventory, how: str) -> Inventory:
    """Return the inventory with one mistake."""
    from msgspec.structs import replace

    first, *others = inventory.hosts
    return replace(
        inventory,
        hosts={
            "weight": (replace(first, weight=2.0), *others),
            "order": (others[0], first, *others[1:]),
            "renamed": (replace(first, name="new"), *others),
            "removed": tuple(others),
        }[how],
    )


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("weight", "weight of h0 was 1, is 2"),
        ("order", "order was h0 h1 h2, is h1 h0 h2"),
        ("renamed", "h0"),
        ("removed", "h0 is gone"),
    ],
)
def test_changed_inventory_is_refused_with_the_difference_while_data_is_there(
    standing: SshdHosts, how: str, said: str
) -> None:
    keys = {f"00{number}_k": b"content %d" % number for number in range(3)}
    with Cluster(standing.inventory()) as cluster:
        for name, content in keys.items():
            cluster.put(content, f"sm://ring/{name}")
    inventory = changed(standing.inventory(), how)
    with Cluster(inventory) as cluster, pytest.raises(SshmapError, match=said) as refused:
        list(cluster.ls("sm://ring/"))
    assert refused.value.exit_code == 4
    code, _, err = fleet.sshmap(standing.write(inventory), "cp", "-", "sm://ring/new")
    assert (code, said in err.decode()) == (4, True)
    with Cluster(standing.inventory()) as cluster:
        assert contents(cluster, "ring") == keys


def test_two_up_at_once_are_safe(sshd_hosts: SshdHosts) -> None:
    sshd_hosts.add(2)
    inventory = sshd_hosts.inventory("openssh")
    problems: list[BaseException] = []

    def bring_up() -> None:
        try:
            up(inventory)
        except BaseException as exc:  # noqa: BLE001  # shown by the test's own thread
            problems.append(exc)

    threads = [threading.Thread(target=bring_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    for host in sshd_hosts.hosts:
        assert_well_set_up(host, others=1)
    with Cluster(inventory) as cluster:
        for name, content in INPUTS.items():
            cluster.put(content, f"sm://b/in/{name}")
        cluster.fanout("sm://b/in/", "sm://b/out/", SHUFFLE)
        assert contents(cluster, "b/out") == SHUFFLED
        cluster.down(purge=True)
    for host in sshd_hosts.hosts:
        assert "sshmap:" not in host.authorized_keys.read_text(encoding="utf-8")


def assert_well_set_up(host: Sshd, *, others: int) -> None:
    """See that a host has one daemon, a key that fits its public half, and a line per peer."""
    key = host.root / "ssh" / "key"
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(key)], check=True, capture_output=True, text=True
    ).stdout.split()[:2]
    assert public == Path(f"{key}.pub").read_text(encoding="ascii").split()[:2]
    ours = [line for line in host.authorized_keys.read_text(encoding="utf-8").splitlines() if "sshmap:" in line]
    assert len(ours) == len(set(ours)) == others
    assert {line.rpartition(" ")[2] for line in ours} == {f"sshmap:{Root(host.root).read_cluster().root_id}"}
    assert (
        len([pid for pid, line in processes_below(host.root).items() if "sshmap daemon " in line and is_manager(pid)])
        == 1
    )
    assert [path.name for path in (host.root / "runtime").iterdir() if "." in path.name] == []


def is_manager(pid: int) -> bool:
    """Whether a daemon's process has no parent among the daemon's."""
    parent = int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    return "sshmap daemon " not in fleet.arguments_of(parent)


ODD_FILES = {
    "comments and a mode of its own": ("# mine\n\n{key}\nssh-ed25519 AAAA not sshmap:0123456789abcdef really\n", 0o640),
    "no newline at the end": ("{key}", 0o600),
    "line ends of another system": ("# mine\r\n{key}\n# \x0bodd\x85\n", 0o600),
}


Tree = dict[str, tuple[int, bytes]]


@pytest.fixture(scope="module")
def purged(make_sshd_hosts: Callable[[], SshdHosts]) -> dict[str, tuple[Tree, Tree]]:
    """The home of one host per odd file, before `up` and after `down --purge`."""
    hosts = make_sshd_hosts()
    for host, (text, mode) in zip(hosts.add(len(ODD_FILES)), ODD_FILES.values(), strict=True):
        key = host.authorized_keys.read_text(encoding="utf-8").rstrip("\n")
        host.authorized_keys.write_bytes(text.format(key=key).encode())
        host.authorized_keys.chmod(mode)
    before = [fleet.snapshot(host.home) for host in hosts.hosts]
    inventory = hosts.inventory("openssh")
    up(inventory)
    with Cluster(inventory) as cluster:
        cluster.put(b"content", "sm://b/k")
        cluster.map("sm://b/", "sm://out/", "cat")
        cluster.down(purge=True)
    wait_until(lambda: not any(processes_below(host.root) for host in hosts.hosts), what="processes are left")
    after = [fleet.snapshot(host.home) for host in hosts.hosts]
    return dict(zip(ODD_FILES, zip(before, after, strict=True), strict=True))


@pytest.mark.parametrize("kind", ODD_FILES)
def test_purge_leaves_a_host_as_it_was_before_up(purged: dict[str, tuple[Tree, Tree]], kind: str) -> None:
    before, after = purged[kind]
    assert after == before


def test_down_keeps_the_data_and_up_goes_on_with_it(standing: SshdHosts) -> None:
    inventory = standing.inventory("openssh")
    with Cluster(inventory) as cluster:
        cluster.put(b"content", "sm://down/in/k")
        cluster.down()
        assert [condition.daemon for condition in cluster.statuses()[0].values()] == [False] * 3
    up(inventory)
    with Cluster(inventory) as cluster:
        assert cluster.map("sm://down/in/", "sm://down/out/", "tr a-z A-Z").done == 1
        assert cluster.get("sm://down/out/k") == b"CONTENT"


def test_host_that_up_was_not_run_on_says_so(sshd_hosts: SshdHosts, transport: str) -> None:
    (host,) = sshd_hosts.add()
    with Cluster(sshd_hosts.inventory(transport)) as cluster, pytest.raises(HostLost) as refused:
        cluster.put(b"", "sm://b/k")
    assert (refused.value.hint, refused.value.host) == ("sshmap up", host.name)
    assert not host.root.exists()


def test_peer_is_described_without_the_laptop_s_secrets(standing: SshdHosts) -> None:
    peers = Root(standing.hosts[0].root).read_cluster().peers
    assert peers == tuple(
        Peer(name=host.name, connect="ssh", root=str(host.root), address="127.0.0.1", port=host.port, user=user_name())
        for host in standing.hosts[1:]
    )
    secret = standing.identity.read_bytes()
    assert not [
        path
        for host in standing.hosts
        for path in files_below(host.home)
        if path.is_file() and secret in path.read_bytes()
    ]
