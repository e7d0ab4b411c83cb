"""输出文件名的模式（sbatch(1) 的 filename pattern）。"""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.core.output_path import (
    OutputFields,
    expand_output_path,
    job_output_paths,
    left_by_others,
    output_mode,
)

PLAIN = OutputFields(job_id=128, job_name="train", user_name="alice", node_name="gpu7.lab.example")
TASK = OutputFields(
    job_id=131, job_name="sweep", user_name="alice", node_name="n1", array_job_id=128, array_task_id=17, restart_count=2
)


@pytest.mark.parametrize(
    ("pattern", "fields", "expected"),
    [
        ("job%j.out", PLAIN, "/w/job128.out"),
        ("job%4j.out", PLAIN, "/w/job0128.out"),
        ("job%J.out", PLAIN, "/w/job128.out"),
        ("%x-%u-%N.log", PLAIN, "/w/train-alice-gpu7.log"),
        ("%A_%a", TASK, "/w/128_17"),
        ("%A_%4a.%r", TASK, "/w/128_0017.2"),
        ("%b", TASK, "/w/7"),
        ("%A_%a", PLAIN, "/w/128_4294967294"),
        ("100%%/%n-%t", PLAIN, "/w/100%/0-0"),
        ("%z %", PLAIN, "/w/%z %"),
        ("/abs/%j", PLAIN, "/abs/128"),
        ("sub/dir/%s", PLAIN, "/w/sub/dir/batch"),
        ("\\\\%j", PLAIN, "/w/%j"),
        ("%99999999999999999999j", PLAIN, "/w/0000000128"),
    ],
)
def test_patterns(pattern: str, fields: OutputFields, expected: str) -> None:
    assert expand_output_path(pattern, fields, "/w") == expected


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_cannot_climb_out_of_the_directory(job_name: str, user_name: str) -> None:
    fields = OutputFields(job_id=1, job_name=job_name, user_name=user_name, node_name="n")
    for pattern in ("%x", "%u", "%x/%u.out"):
        path = expand_output_path(pattern, fields, "/w/dir")
        assert os.path.normpath(path).startswith("/w/dir/")


def test_defaults_and_shared_stream() -> None:
    assert job_output_paths(None, None, PLAIN, "/w") == ("/w/slurm-128.out", None)
    assert job_output_paths(None, None, TASK, "/w") == ("/w/slurm-128_17.out", None)
    assert job_output_paths("a%j", "a%j", PLAIN, "/w") == ("/w/a128", None)
    assert job_output_paths("a", "b", PLAIN, "/w") == ("/w/a", "/w/b")


@pytest.mark.parametrize(
    ("open_mode", "restarts", "expected"),
    [(None, 0, "truncate"), (None, 1, "append"), ("truncate", 1, "truncate"), ("append", 0, "append")],
)
def test_the_first_run_truncates_and_later_ones_append(open_mode: str | None, restarts: int, expected: str) -> None:
    assert output_mode(open_mode, restarts) == expected


def test_only_a_file_nobody_truncated_yet_holds_the_output_of_others() -> None:
    assert left_by_others(50.0, "truncate", None, running=False)
    assert left_by_others(99.9, "truncate", 100.0, running=False)
    # 内核的粗钟比写的那一刻早一点。
    assert not left_by_others(99.99, "truncate", 100.0, running=False)
    assert not left_by_others(50.0, "append", 100.0, running=False)
    # 文件服务器的钟慢：进程号写进来之后就不再看它。
    assert not left_by_others(50.0, "truncate", 100.0, running=True)
