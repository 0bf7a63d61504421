"""What a Python function gets that is a step: contents to read and places to write to."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from sshmap.functions import Input, Inputs, Output, Outputs


@pytest.fixture
def source(tmp_path: Path) -> Input:
    path = tmp_path / "k1"
    path.write_bytes(b'a,"b,c"\r\n1,2\n')
    return Input(str(path), "sm://b/in/k1")


def written(output: object) -> bytes:
    """Return what a call writes to an output."""
    file = io.BytesIO()
    assert callable(output)
    output(Output(file))
    return file.getvalue()


def test_content_is_read_as_bytes_text_lines_and_rows(source: Input) -> None:
    assert (source.name, source.key) == ("k1", "sm://b/in/k1")
    assert source.bytes() == b'a,"b,c"\r\n1,2\n'
    assert source.text() == 'a,"b,c"\r\n1,2\n'
    assert list(source.lines()) == ['a,"b,c"', "1,2"]
    assert list(source.csv()) == [["a", "b,c"], ["1", "2"]]


def test_gzip_is_opened_on_the_way(source: Input) -> None:
    content = source.bytes()
    Path(source.path).write_bytes(gzip.compress(content))
    assert source.bytes() == content
    assert list(source.csv(delimiter=",")) == [["a", "b,c"], ["1", "2"]]


@pytest.mark.parametrize("content", [b"", b"\x1f", b"x"])
def test_short_contents_are_no_gzip(source: Input, content: bytes) -> None:
    Path(source.path).write_bytes(content)
    assert source.bytes() == content


def test_bytes_that_are_no_text_are_replaced(source: Input) -> None:
    Path(source.path).write_bytes(b"a\xff\n")
    assert list(source.lines()) == ["a\ufffd"]


def test_json_is_read_and_written_in_order(source: Input) -> None:
    made = written(lambda out: out.json({"b": 1, "a": [2]}))
    assert made == b'{"a": [2], "b": 1}\n'
    Path(source.path).write_bytes(made)
    assert source.json() == {"a": [2], "b": 1}


def test_text_bytes_lines_and_rows_are_written() -> None:
    assert written(lambda out: (out.write("é"), out.write(b"\0"))) == "é\0".encode()
    assert written(lambda out: out.lines(["a", 1])) == b"a\n1\n"
    assert written(lambda out: out.csv([["a", "b,c"], [1, 2]])) == b'a,"b,c"\n1,2\n'


def test_group_is_a_sequence_of_contents(source: Input) -> None:
    group = Inputs([source, source], "sm://b/out/k1")
    assert (len(group), group[0], [one.name for one in group], group.name) == (2, source, ["k1", "k1"], "k1")


def test_fanout_writes_files_by_name(tmp_path: Path) -> None:
    outputs = Outputs(str(tmp_path))
    for number in range(200):
        outputs[f"f{number % 100}"].write(f"{number}\n")
    kept = outputs["f0"]
    for number in range(100):
        outputs[f"g{number}"].write("x")
    kept.write("end\n")
    outputs.close()
    assert (tmp_path / "f7").read_text() == "7\n107\n"
    assert (tmp_path / "f0").read_text() == "0\n100\nend\n"
    assert list(outputs.names)[:2] == ["f0", "f1"]
    assert len(outputs.names) == 200


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\nb", "a\0b"])
def test_what_is_no_name_for_a_file_is_refused(tmp_path: Path, name: str) -> None:
    outputs = Outputs(str(tmp_path))
    with pytest.raises(ValueError, match="no name for a file"):
        outputs[name]
    assert not outputs.names
