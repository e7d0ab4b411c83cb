"""牧守进程的日志：读回的就是写下的，坏一行只坏一行，写不完整不留半行。"""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scns_conductor.worker.shepherd import journal as journal_module
from scns_conductor.worker.shepherd.journal import Journal, decode_line, encode_line

RECORDS = st.dictionaries(
    st.text(max_size=8), st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=3), max_size=5
)


def opened(path: Path) -> Journal:
    journal = Journal(str(path))
    journal.open()
    return journal


@given(RECORDS)
def test_line_round_trip(record: dict[str, Any]) -> None:
    line = encode_line(record)
    assert line.count(b"\n") == 1
    assert decode_line(line) == record


@given(RECORDS, st.data())
def test_any_changed_byte_is_noticed(record: dict[str, Any], data: st.DataObject) -> None:
    line = bytearray(encode_line(record))
    at = data.draw(st.integers(9, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    assert decode_line(bytes(line)) is None


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["launch", "end", "ack", "flush", "reopen", "compact"]), st.integers(0, 5))))
def test_reopening_changes_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = opened(path)
    for action, number in steps:
        key = f"{number}.0.batch"
        if action == "launch" and key not in journal.running:
            journal.launch({"key": key, "n": number})
            journal.update(key, pid=number + 100)
        elif action == "end" and key in journal.running:
            journal.end({"key": key, "status": number})
        elif action == "ack":
            journal.ack(list(journal.ends)[:number])
        elif action == "compact":
            journal.compact()
        elif action == "flush":
            journal.flush()
        elif action == "reopen":
            journal.close()
            journal = opened(path)
    running, ends, next_id = dict(journal.running), dict(journal.ends), journal.next_end_id
    journal.close()
    again = opened(path)
    assert (again.running, again.ends, again.next_end_id) == (running, ends, next_id)
    assert again.corrupt_lines == 0
    again.close()


def test_corrupt_line_is_set_aside_and_the_rest_read(tmp_path: Path) -> None:
    path = tmp_path / "j"
    journal = opened(path)
    for number in range(3):
        journal.launch({"key": f"{number}.0.batch"})
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"garbage\n"
    path.write_bytes(b"".join(lines) + encode_line({"t": "from the future"}) + lines[1][:20])
    again = opened(path)
    assert set(again.running) == {"0.0.batch", "2.0.batch"}
    assert again.corrupt_lines == 3
    assert (tmp_path / "j.corrupt").read_bytes().startswith(b"garbage\n")
    again.close()
    assert opened(path).corrupt_lines == 0


def test_short_write_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """磁盘满：真的 write 只写进一半。"""
    path = tmp_path / "j"
    journal = opened(path)
    journal.launch({"key": "1.0.batch"})
    journal.flush()
    whole = path.read_bytes()
    journal.launch({"key": "2.0.batch"})
    real_write = os.write
    monkeypatch.setattr(journal_module.os, "write", lambda fd, data: real_write(fd, bytes(data)[:10]))
    with pytest.raises(OSError, match="磁盘已满"):
        journal.flush()
    monkeypatch.undo()
    assert path.read_bytes() == whole
    journal.flush()
    journal.close()
    assert set(opened(path).running) == {"1.0.batch", "2.0.batch"}


def test_journal_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "COMPACT_BYTES", 20_000)
    journal = opened(tmp_path / "j")
    for number in range(2000):
        key = f"{number}.0.batch"
        journal.launch({"key": key})
        journal.ack([journal.end({"key": key})["id"]])
        journal.flush()
    assert (tmp_path / "j").stat().st_size < 40_000
    assert journal.ends == {}
    journal.close()
