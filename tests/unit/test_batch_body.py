"""批量提交的请求体：怎样切成块都读出同样的作业，说同样的错；大的不占几倍的内存。"""

import itertools
import json
import tracemalloc
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.api.batch_body import BatchBody
from scns_conductor.api.problems import validation_problem
from scns_conductor.core.errors import InvalidRequest, PayloadTooLarge

JOBS = [
    {
        "job": {"name": f"第{index}个 \\u4e2d\"]}}", "environment": {"A": "\\", "B": "[]"}},
        "script": f"#!/bin/sh\necho '{text}'\n",
    }
    for index, text in enumerate(["a", "中文", "😀", '"],[{', "\\\\", "x" * 300])
]  # fmt: skip
BODY = json.dumps({"jobs": JOBS}, ensure_ascii=False)


def feed_often(body: BatchBody, piece: bytes, times: int) -> None:
    """一段接一段地收。"""
    for _ in range(times):
        body.feed(piece)


def read(data: bytes, cuts: list[int], most_jobs: int = 100, most_characters: int = 10_000) -> list[tuple[Any, ...]]:
    body = BatchBody(most_jobs, most_characters)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for first, end in itertools.pairwise(places):
        body.feed(data[first:end])
    return [(draft.job.columns()["name"], draft.job.columns()["environment"], draft.script) for draft in body.finish()]


WANTED = [(each["job"]["name"], each["job"]["environment"], each["script"]) for each in JOBS]  # type: ignore[index]


@given(st.lists(st.integers(0, 10_000), max_size=40), st.booleans(), st.sampled_from(["", " \n\t"]))
def test_any_cutting_reads_the_same(cuts: list[int], escaped: bool, space: str) -> None:
    text = json.dumps({"jobs": JOBS}, ensure_ascii=escaped, indent=1 if space else None)
    assert read(f"{space}{text}{space}".encode(), cuts) == WANTED


def test_one_byte_at_a_time() -> None:
    assert read(BODY.encode(), list(range(len(BODY.encode())))) == WANTED


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("", 400, "JSON"),
        ("nonsense", 400, "JSON"),
        ("[]", 422, "body：必须是 JSON 对象"),
        ("{}", 422, "jobs：缺少这个字段"),
        ('{"jobs": 3}', 422, "jobs：必须是数组"),
        ('{"jobs": []}', 422, "jobs：至少要有 1 项"),
        ('{"other": 1, "jobs": []}', 422, "other：不认识的字段"),
        ('{"jobs": [{"script": "x"}], "other": 1}', 400, "后面多出了东西"),
        ('{"jobs": [{"script": "x"}', 400, "没有完"),
        ('{"jobs": [{"script": "x"}]} x', 400, "后面多出了东西"),
        ('{"jobs": [{"script": "x"} {"script": "y"}]}', 400, "JSON"),
        ('{"jobs": [{"script": "x"},]}', 400, "JSON"),
        ('{"jobs": [{"script": tru}]}', 400, "JSON"),
        ('{"jobs": [7, {"script": 1}]}', 422, "jobs[0]：必须是 JSON 对象；jobs[1].script：必须是文字"),
        ('{"jobs": [{"script": "x"}, {"job": {"nome": "y"}, "script": "x"}]}', 422, "jobs[1].job.nome：不认识的字段"),
        ('{"jobs": [' + "[" * 100_000 + "]}", 400, "JSON"),
        ('{"jobs": [{"script": "\\ud800"}]}', 422, "jobs[0].script：不是合法的 Unicode 文字"),
    ],
)
def test_what_is_wrong_is_told(body: str, status: int, said: str) -> None:
    for cuts in ([], list(range(0, 60, 7))):
        with pytest.raises(RequestValidationError) as refused:
            read(body.encode(), cuts)
        answer = validation_problem(refused.value)
        assert (answer.status_code, said in bytes(answer.body).decode()) == (status, True), bytes(answer.body).decode()


def test_other_encodings_are_refused() -> None:
    with pytest.raises(RequestValidationError):
        read(BODY.encode("utf-16"), [])


def test_too_many_and_too_long_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="一次至多 5 个，给了 6 个") as refused:
        read(BODY.encode(), [], most_jobs=5)
    assert refused.value.code == "batch_too_large"
    body = BatchBody(10, 1000)
    body.feed(b'{"jobs": [{"script": "x"} ')
    # 该是逗号的地方是别的：也不等到收完。
    with pytest.raises(RequestValidationError):
        feed_often(body, b"x" * 10_000, 20)
    body = BatchBody(10, 1000)
    body.feed(b'{"jobs": [{"script": "')
    # 一个没有完的作业：不等到收完。
    with pytest.raises(PayloadTooLarge, match=r"jobs\[0\]"):
        feed_often(body, b"x" * 100, 100)


def test_a_batch_of_big_scripts_takes_no_more_than_its_scripts() -> None:
    """16 MB 的一批：除了脚本本身，只多几 MB。"""
    script = "#!/bin/sh\n" + "中文😀" * 1200
    one = json.dumps({"job": {"name": "n"}, "script": script}, ensure_ascii=False).encode()
    count = 16 * 1024**2 // len(one)
    body = BatchBody(10_000, 1024**2)
    tracemalloc.start()
    body.feed(b'{"jobs": [' + one)
    for _ in range(count - 1):
        body.feed(b"," + one)
    body.feed(b"]}")
    drafts = body.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(drafts) == count
    assert drafts[-1].script == script
    assert peak < 1.3 * count * len(one)
