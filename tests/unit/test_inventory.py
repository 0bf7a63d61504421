"""The inventory is read strictly: every mistake is one line that names file, table and field."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sshmap.errors import InvalidInventory, UsageError
from sshmap.inventory import Host, Inventory, builtin, discover, load
from sshmap.inventory.ranges import expand, fold

#: text of an inventory, what its one line must name
MISTAKES = [
    ("not toml", ["not TOML"]),
    ('[[hosts]]\nname = "h1"\nname = "h2"', ["not TOML"]),
    ("", ["no hosts"]),
    ("hosts = []", ["no hosts"]),
    ('hosts = "h1"', ["no hosts"]),
    ("hosts = [1]", ["[[hosts]] 1", "table"]),
    ('cluster = "x"\n[[hosts]]\nname = "h1"', ["[cluster]"]),
    ('[[host]]\nname = "h1"', ["top level", "'host'"]),
    ('[cluster]\nshufle = "auto"\n[[hosts]]\nname = "h1"', ["[cluster]", "'shufle'"]),
    ('[cluster]\nshuffle = "x"\n[[hosts]]\nname = "h1"', ["[cluster]", "shuffle", "'x'"]),
    ('[defaults]\nname = "h"\n[[hosts]]\nname = "h1"', ["[defaults]", "'name'"]),
    ('[defaults]\nport = "22"\n[[hosts]]\nname = "h1"', ["[defaults]", "port"]),
    ('[[hosts]]\naddress = "10.0.0.1"', ["[[hosts]] 1", "'name'"]),
    ('[[hosts]]\nname = "h1"\nwieght = 2', ["[[hosts]] 1 (h1)", "'wieght'"]),
    ('[[hosts]]\nname = "h1"\nport = "22"', ["[[hosts]] 1 (h1)", "port", "int"]),
    ("[[hosts]]\nname = 5", ["[[hosts]] 1", "name", "str"]),
    ('[[hosts]]\nname = ""', ["[[hosts]] 1", "name"]),
    ('[[hosts]]\nname = "h1"\ngroups = "big"', ["[[hosts]] 1 (h1)", "groups"]),
    ('[[hosts]]\nname = "h1"\nconnect = "telnet"', ["[[hosts]] 1 (h1)", "connect", "telnet"]),
    ('[[hosts]]\nname = "h1"\nport = 70000', ["[[hosts]] 1 (h1)", "port", "70000"]),
    ('[[hosts]]\nname = "h1"\nport = -1', ["[[hosts]] 1 (h1)", "port", "-1"]),
    ('[[hosts]]\nname = "h1"\nweight = 0', ["[[hosts]] 1 (h1)", "weight"]),
    ('[[hosts]]\nname = "h1"\nweight = nan', ["[[hosts]] 1 (h1)", "weight"]),
    ('[[hosts]]\nname = "h1"\nworkers = -1', ["[[hosts]] 1 (h1)", "workers"]),
    ('[[hosts]]\nname = "h1"\nidle_stop = -1', ["[[hosts]] 1 (h1)", "idle_stop"]),
    ('[[hosts]]\nname = "h1"\nidle_stop = nan', ["[[hosts]] 1 (h1)", "idle_stop"]),
    ('[[hosts]]\nname = "h1"\nscrub = "often"', ["[[hosts]] 1 (h1)", "scrub", "'often'"]),
    ('[[hosts]]\nname = "h1"\nscrub = "0d"', ["[[hosts]] 1 (h1)", "scrub", "'0d'"]),
    ('[[hosts]]\nname = "h1"\nscrub = "9999d"', ["[[hosts]] 1 (h1)", "scrub", "ten years"]),
    ('[[hosts]]\nname = "h1"\nscrub = 30', ["[[hosts]] 1 (h1)", "scrub", "str"]),
    ('[[hosts]]\nname = "h1"\naddress = "-oProxyCommand=x"', ["[[hosts]] 1 (h1)", "address", "-oProxyCommand=x"]),
    ('[[hosts]]\nname = "h1"\naddress = "a;b"', ["[[hosts]] 1 (h1)", "address", "a;b"]),
    ('[[hosts]]\nname = "h1"\nuser = "a;b"', ["[[hosts]] 1 (h1)", "user", "a;b"]),
    ('[[hosts]]\nname = "h1"\nuser = "-l"', ["[[hosts]] 1 (h1)", "user", "-l"]),
    ('[[hosts]]\nname = "h1"\ngateway = "-oProxyCommand=x"', ["[[hosts]] 1 (h1)", "gateway"]),
    *[
        (f'[[hosts]]\nname = "h1"\ngateway = "{gateway}"', ["[[hosts]] 1 (h1)", "gateway", "user@host:port"])
        for gateway in (
            "a,-oProxyCommand=x",
            "a,,b",
            "a;b",
            "$(x)@a",
            "a b",
            "fe80::1",
            "[fe80::1",
            "a:port",
            "me@-x",
            "@a",
            "a%h",
        )
    ],
    ('[[hosts]]\nname = "h1"\ngateway = "a,b:70000"', ["[[hosts]] 1 (h1)", "gateway", "'b:70000'", "out of range"]),
    *[
        (f"[[hosts]]\nname = 'h1'\nroot = '/r{strange}'", ["[[hosts]] 1 (h1)", "root", strange.replace("\\", "\\\\")])
        for strange in (" ", "$", "`", '"', ";", "%", "\\", "!", "*", "ü", "(", "&", "#", ":")
    ],
    ('[[hosts]]\nname = "h1"\nroot = "relative"', ["[[hosts]] 1 (h1)", "root", "relative"]),
    ('[[hosts]]\nname = "h1"\nroot = "/"', ["[[hosts]] 1 (h1)", "root", "'/'", "for sshmap alone"]),
    ('[[hosts]]\nname = "h1"\nroot = "//."', ["[[hosts]] 1 (h1)", "root", "for sshmap alone"]),
    ('[[hosts]]\nname = "h1"\nroot = "~/"', ["[[hosts]] 1 (h1)", "root", "for sshmap alone"]),
    ('[[hosts]]\nname = "a\\nb"', ["[[hosts]] 1", "name"]),
    ('[[hosts]]\nname = "h1"\n"a\\nb" = 1', ["[[hosts]] 1 (h1)", "unknown"]),
    ('[[hosts]]\nname = "h1"\nconnect = "local"', ["[[hosts]] 1 (h1)", "root"]),
    ('[[hosts]]\nname = "h[3-1]"', ["[[hosts]] 1", "h[3-1]"]),
    ('[[hosts]]\nname = "h[1-3]"\naddress = "10.0.0.[1-2]"', ["[[hosts]] 1", "3 hosts", "address 2"]),
    ('[[hosts]]\nname = "h1"\n[[hosts]]\nname = "h1"\naddress = "x"', ["'h1'", "named"]),
    ('[[hosts]]\nname = "h1"\naddress = "x"\n[[hosts]]\nname = "h2"\naddress = "x"', ["'h1'", "'h2'", "address"]),
    ('[[hosts]]\nname = "h[1-2]"\nconnect = "local"\nroot = "/r"', ["'h1'", "'h2'", "root"]),
    (
        '[[hosts]]\nname = "h1"\nconnect = "local"\nroot = "/r"\n[[hosts]]\nname = "h2"\nconnect = "local"\nroot = "/r/"',
        ["'h1'", "'h2'", "root"],
    ),
    (
        '[[hosts]]\nname = "h1"\nconnect = "local"\nroot = "/x/../r"\n[[hosts]]\nname = "h2"\nconnect = "local"\nroot = "/r"',
        ["'h1'", "'h2'", "same root"],
    ),
    (
        '[[hosts]]\nname = "h1"\nconnect = "local"\nroot = "/r/inner"\n[[hosts]]\nname = "h2"\nconnect = "local"\nroot = "/r"',
        ["'h1'", "'h2'", "inside"],
    ),
]

THREE = Inventory(
    hosts=(
        Host(name="h01", groups=("big",)),
        Host(name="h02", groups=("big", "ssd")),
        Host(name="h03"),
    ),
    origin="test",
)


def loaded(text: str) -> Inventory:
    path = Path("inventory.toml")
    path.write_text(text, encoding="utf-8")
    return load(path)


def names(hosts: tuple[Host, ...]) -> list[str]:
    return [host.name for host in hosts]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_mistake_is_one_line_with_its_place(text: str, words: list[str]) -> None:
    with pytest.raises(InvalidInventory) as caught:
        loaded(text)
    message = caught.value.message
    assert message.isprintable()
    assert [word for word in ["inventory.toml", *words] if word not in message] == []


def test_missing_file_is_named() -> None:
    with pytest.raises(InvalidInventory, match=r"nowhere\.toml: no such inventory"):
        load(Path("nowhere.toml"))


def test_directory_is_no_inventory(tmp_path: Path) -> None:
    with pytest.raises(InvalidInventory, match="cannot read"):
        load(tmp_path)


def test_file_that_is_not_utf8_is_refused() -> None:
    Path("inventory.toml").write_bytes(b'[[hosts]]\nname = "\xff"')
    with pytest.raises(InvalidInventory, match="not TOML"):
        load(Path("inventory.toml"))


def test_file_may_begin_with_a_byte_order_mark() -> None:
    Path("inventory.toml").write_bytes(b'\xef\xbb\xbf[[hosts]]\nname = "h1"')
    assert [host.name for host in load(Path("inventory.toml")).hosts] == ["h1"]


def test_misspelled_field_gets_the_right_one_in_the_hint() -> None:
    with pytest.raises(InvalidInventory) as caught:
        loaded('[[hosts]]\nname = "h1"\nadress = "x"')
    assert caught.value.hint == "did you mean 'address'?"


def test_host_needs_no_more_than_a_name() -> None:
    (host,) = loaded('[[hosts]]\nname = "h1"').hosts
    assert host == Host(name="h1", address="h1", root="~/.sshmap")


def test_defaults_hold_where_a_host_says_nothing() -> None:
    inventory = loaded(
        '[defaults]\nuser = "me"\nport = 2222\n[[hosts]]\nname = "h1"\n[[hosts]]\nname = "h2"\nport = 22'
    )
    assert [(host.user, host.port) for host in inventory.hosts] == [("me", 2222), ("me", 22)]


def test_inventory_knows_where_each_value_came_from() -> None:
    inventory = loaded('[defaults]\nuser = "me"\n[[hosts]]\nname = "h1"\nport = 22')
    assert [inventory.sources["h1"][field] for field in ("user", "port", "weight")] == [
        "[defaults]",
        "[[hosts]] 1",
        "built in",
    ]


def test_cluster_table_sets_shuffle_and_transport() -> None:
    inventory = loaded('[cluster]\nshuffle = "relay"\ntransport = "openssh"\n[[hosts]]\nname = "h1"')
    assert (inventory.shuffle, inventory.hosts[0].transport) == ("relay", "openssh")


def test_address_range_runs_alongside_the_name_range() -> None:
    inventory = loaded('[[hosts]]\nname = "h[01-03]"\naddress = "10.0.0.[9-11]"')
    assert [(host.name, host.address) for host in inventory.hosts] == [
        ("h01", "10.0.0.9"),
        ("h02", "10.0.0.10"),
        ("h03", "10.0.0.11"),
    ]


@pytest.mark.parametrize(
    "gateway", ["a", "me@a", "a:22", "me@a.b:22,c_d", "[fe80::1%eth0]:22", "me@[::1]", "10.0.0.1:2222"]
)
def test_gateway_may_be_several_hosts_with_users_and_ports(gateway: str) -> None:
    assert loaded(f'[[hosts]]\nname = "h1"\ngateway = "{gateway}"').hosts[0].gateway == gateway


@pytest.mark.parametrize("root", ["/srv/a_b.c-d+e@f/~g", "~/.sshmap2"])
def test_root_may_hold_what_no_shell_takes_for_more(root: str) -> None:
    assert loaded(f'[[hosts]]\nname = "h1"\nroot = "{root}"').hosts[0].root == root


@pytest.mark.parametrize(
    "python", ["$(touch x)", "/opt/my python/bin/python3", "python3;reboot", "`id`", "python3 -c x"]
)
def test_python_may_hold_nothing_that_a_shell_takes_for_more(python: str) -> None:
    with pytest.raises(InvalidInventory, match=r"python: .* holds"):
        loaded(f'[[hosts]]\nname = "h1"\npython = "{python}"')


def test_hosts_may_share_an_address_if_their_roots_differ() -> None:
    text = '[[hosts]]\nname = "h1"\naddress = "x"\nroot = "/1"\n[[hosts]]\nname = "h2"\naddress = "x"\nroot = "/2"'
    assert names(loaded(text).hosts) == ["h1", "h2"]


def test_order_of_hosts_is_that_of_the_file() -> None:
    assert loaded('[[hosts]]\nname = "z"\n[[hosts]]\nname = "a"').ring.members == (("z", 1.0), ("a", 1.0))


def test_local_host_stops_itself_when_long_idle() -> None:
    (host,) = loaded('[[hosts]]\nname = "h1"\nconnect = "local"\nroot = "~/r"').hosts
    assert host.is_local
    assert host.idle_stop > 0
    assert Path(host.root) == Path.home() / "r"


def test_scrub_is_a_time_and_off_unless_said_otherwise() -> None:
    text = '[defaults]\nscrub = "30d"\n[[hosts]]\nname = "h1"\n[[hosts]]\nname = "h2"\nscrub = ""'
    assert [host.scrub_seconds for host in loaded(text).hosts] == [30 * 86400, 0]


def test_inventory_in_the_directory_is_found() -> None:
    loaded('[[hosts]]\nname = "here"')
    assert names(discover().hosts) == ["here"]


def test_without_an_inventory_there_is_a_local_cluster(tmp_path: Path) -> None:
    inventory = discover()
    assert 2 <= len(inventory.hosts) <= 8
    assert all(host.is_local and host.root.startswith(str(tmp_path)) for host in inventory.hosts)


@pytest.mark.parametrize("count", [0, -1, 65])
def test_local_cluster_has_1_to_64_hosts(count: int) -> None:
    with pytest.raises(UsageError, match="out of range"):
        builtin(count)


@pytest.mark.parametrize(
    ("only", "without", "left"),
    [
        ("", "", ["h01", "h02", "h03"]),
        ("h02", "", ["h02"]),
        ("h03,h01", "", ["h01", "h03"]),
        ("h[01-02]", "", ["h01", "h02"]),
        ("h[01,03]", "", ["h01", "h03"]),
        ("@big", "", ["h01", "h02"]),
        ("@ssd,h03", "", ["h02", "h03"]),
        ("@big", "h02", ["h01"]),
        ("", "@ssd", ["h01", "h03"]),
    ],
)
def test_hosts_are_selected_by_name_range_and_group(only: str, without: str, left: list[str]) -> None:
    assert names(THREE.select(only, without)) == left


@pytest.mark.parametrize(
    ("only", "without"), [("h9", ""), ("h[01-04]", ""), ("@none", ""), ("h01", "@big"), ("h[", ""), ("", "h1")]
)
def test_selecting_what_is_not_there_is_refused(only: str, without: str) -> None:
    with pytest.raises(UsageError):
        THREE.select(only, without)


@pytest.mark.parametrize(
    ("text", "written_out"),
    [
        ("h1", ["h1"]),
        ("h[1-3]", ["h1", "h2", "h3"]),
        ("h[08-10]", ["h08", "h09", "h10"]),
        ("h[1,3-4].example", ["h1.example", "h3.example", "h4.example"]),
    ],
)
def test_range_is_written_out(text: str, written_out: list[str]) -> None:
    assert expand(text) == written_out


@pytest.mark.parametrize(
    "text", ["h[", "h]", "h[]", "h[a-b]", "h[1-]", "h[-1]", "h[3-1]", "h[1-2][3-4]", "h[1,,2]", "h[0-99999999999]"]
)
def test_bad_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        expand(text)


@pytest.mark.parametrize(
    ("hosts", "short"),
    [
        ([], ""),
        (["h1"], "h1"),
        (["h1", "h3", "h4", "h5"], "h[1,3-5]"),
        (["h5", "h4", "h3"], "h[3-5]"),
        (["h01", "h02"], "h[01-02]"),
        (["a", "h1", "h2", "b"], "a,b,h[1-2]"),
    ],
)
def test_many_hosts_are_written_shortly(hosts: list[str], short: str) -> None:
    assert fold(hosts) == short


@given(st.lists(st.from_regex(r"[a-z]{1,2}[0-9]{0,4}", fullmatch=True), min_size=1, max_size=12, unique=True))
def test_selection_understands_what_fold_writes(hosts: list[str]) -> None:
    inventory = Inventory(hosts=tuple(Host(name=name) for name in hosts), origin="test")
    assert names(inventory.select(fold(hosts))) == hosts


def named(*names: str, weights: tuple[float, ...] = ()) -> Inventory:
    hosts = [Host(name=name, weight=weight) for name, weight in zip(names, weights or [1.0] * len(names), strict=True)]
    return Inventory(hosts=tuple(hosts), origin="test")


@pytest.mark.parametrize(
    ("names", "called"),
    [(("w1", "w2", "w3"), "w[1-3]"), (("big", "w1"), "big,w1"), (("one",), "one"), (("a01", "a02", "b"), "b,a[01-02]")],
)
def test_hosts_are_called_shortly(names: tuple[str, ...], called: str) -> None:
    assert named(*names).called == called


def test_builtin_cluster_is_called_so_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert builtin(3).called == "the built-in local cluster of 3"
    assert discover().called.endswith(" (no inventory was found)")


def test_shares_go_by_weight() -> None:
    assert named("a", "b").shares() == {"a": 0.5, "b": 0.5}
    assert named("a", "b", weights=(3.0, 1.0)).shares() == {"a": 0.75, "b": 0.25}


def test_inventory_of_the_configuration_directory_is_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = tmp_path / "config" / "sshmap"
    configured.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (configured / "lab.toml").write_text('[[hosts]]\nname = "configured"\n', encoding="utf-8")
    assert [host.name for host in discover(Path("lab")).hosts] == ["configured"]
    with pytest.raises(InvalidInventory, match="no such inventory"):
        discover(Path("lob"))
    with pytest.raises(InvalidInventory, match="no such inventory"):
        discover(Path("./elsewhere/lab"))
    (tmp_path / "lab").write_text('[[hosts]]\nname = "beside"\n', encoding="utf-8")
    assert [host.name for host in discover(Path("lab")).hosts] == ["beside"]
