"""牧守进程的日志：读回的就是写下的，坏一行只坏一行，写不完整不留半行。"""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.worker.shepherd import journal as journal_module
from scns_conductor.worker.shepherd.journal import Journal, decode_line, encode_line
from scns_conductor.worker.shepherd.records import StepRecord
from scns_conductor.worker.wire.end_record import EndRecord
from scns_conductor.worker.wire.process_usage import Usage

RECORDS = st.dictionaries(
    st.text(max_size=8), st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=3), max_size=5
)


def step(number: int) -> StepRecord:
    return StepRecord(key=f"{number}.0.batch", job_id=number, attempt=0, step="batch")


def end(number: int) -> EndRecord:
    return EndRecord(
        key=f"{number}.0.batch",
        job_id=number,
        attempt=0,
        step="batch",
        cause="exit",
        exit_status=number,
        usage=Usage(user_s=0.25),
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


@given(st.lists(st.tuples(st.sampled_from(["launch", "end", "ack", "flush", "reopen", "compact"]), st.integers(0, 5))))
def test_reopening_changes_nothing(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = opened(path)
    for action, number in steps:
        key = f"{number}.0.batch"
        if action == "launch" and key not in journal.running:
            journal.launch(step(number))
            journal.update(key, pid=number + 100, started_boot_s=1.5, cause=None)
        elif action == "end" and key in journal.running:
            journal.end(end(number))
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
        journal.launch(step(number))
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
    journal.launch(step(1))
    journal.flush()
    whole = path.read_bytes()
    journal.launch(step(2))
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
        journal.launch(step(number))
        ended = journal.end(end(number))
        assert ended.id is not None
        journal.ack([ended.id])
        journal.flush()
    assert (tmp_path / "j").stat().st_size < 40_000
    assert journal.ends == {}
    journal.close()


def test_a_journal_of_the_previous_version_is_read(tmp_path: Path) -> None:
    """第 1 版写下的（每行没有 v，时刻没有单位）：照读，一压缩就成了现在这一版。"""
    path = tmp_path / "j"
    key = "7.1.batch.1764351234567890"
    launch = {"t": "launch", "key": key, "job_id": 7, "attempt": 1, "launch_id": 1764351234567890, "step": "batch"}
    fields = {"pid": 4242, "at": 1764351235.5, "boot": 77.25, "deadline": 177.25, "cgroup": None, "script_inode": None}
    ended = {
        "t": "end",
        "id": 9,
        "key": "3.0.batch",
        "job_id": 3,
        "attempt": 0,
        "launch_id": None,
        "step": "batch",
        "pid": 4,
        "started_at": 10.5,
        "started_boot": 1.5,
        "ended_at": 12.5,
        "ended_boot": 3.5,
        "boot_id": "b",
        "usage": {"user_s": 0.5, "system_s": 0.25, "max_rss_kb": 9, "read_bytes": 1, "written_bytes": 2},
        "exit_status": 3,
        "exit_signal": 0,
        "cause": "exit",
        "message": None,
        "uid": None,
        "gid": None,
        "groups": None,
        "stdout": "/a",
        "stderr": "/a",
    }
    lines = [
        {"t": "header", "boot_id": "b", "next_end_id": 9},
        {**launch, "stdout": "/o", "stderr": "/o", "time_limit_s": 100, "grace_s": 30.0, "warn_before_s": 60.0},
        {"t": "update", "key": key, "fields": fields},
        {"t": "update", "key": key, "fields": {"cause": "cancel", "message": "有人要求", "kill_boot": 99.5}},
        ended,
    ]
    path.write_bytes(b"".join(map(encode_line, lines)))
    for _ in range(2):
        journal = opened(path)
        assert journal.corrupt_lines == 0
        record = journal.running[key]
        assert (record.pid, record.started_unix_s, record.started_boot_s) == (4242, 1764351235.5, 77.25)
        assert (record.deadline_boot_s, record.kill_boot_s, record.cause) == (177.25, 99.5, "cancel")
        end_of = journal.ends[9]
        assert (end_of.started_unix_s, end_of.started_boot_s) == (10.5, 1.5)
        assert (end_of.ended_unix_s, end_of.ended_boot_s, end_of.exit_status) == (12.5, 3.5, 3)
        assert end_of.usage == Usage(user_s=0.5, system_s=0.25, max_rss_kb=9, read_bytes=1, written_bytes=2)
        assert journal.next_end_id == 10
        journal.close()
    assert b'"started_boot":' not in path.read_bytes()
