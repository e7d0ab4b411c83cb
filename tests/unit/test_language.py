"""说哪种语言；填好了的一句话找得到它的译文。"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.api.english import in_english
from scns_conductor.language import accepted_language, environment_language
from scns_conductor.language.catalogue import Catalogue

CATALOGUE = Catalogue(
    {
        "没有分区 {0}": "no partition {0}",
        "{0}：{1}": "{0}: {1}",
        "可用的有 {0}": "there are {0}",
        "没有命令 {0}。": "No command {0}. ",
        "是不是 {0}？": "Did you mean {0}?",
        "作业 {0} 等 {1}": "job {0} waits for {1}",
        "保留的作业": "held jobs",
        "花括号 {{ {0} }}": "braces {{ {0} }}",
        "{1} 在 {0} 里": "{1} is in {0}",
    }
)


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "zh"),
        ({"LANG": "C.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "en_US.UTF-8"}, "en"),
        ({"LC_ALL": "en_US.UTF-8", "SCNS_LANG": "zh"}, "zh"),
        ({"LC_ALL": "", "LC_MESSAGES": "en_GB"}, "en"),
    ],
)
def test_the_environment_says_which_language(environ: dict[str, str], language: str) -> None:
    assert environment_language(environ) == language


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (None, "zh"),
        ("", "zh"),
        ("*", "zh"),
        ("en", "en"),
        ("en-US,en;q=0.9,zh-CN;q=0.8", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("fr, en;q=0.5", "en"),
        ("fr, *;q=0.8, en;q=0.5", "zh"),
        ("en;q=0", "zh"),
        ("en;q=nonsense", "zh"),
    ],
)
def test_accept_language(header: str | None, language: str) -> None:
    assert accepted_language(header) == language


@pytest.mark.parametrize(
    ("chinese", "english_text"),
    [
        ("没有分区 gpu", "no partition gpu"),
        ("没有分区 gpu；可用的有 main、debug", "no partition gpu; there are main, debug"),
        ("job.partition：没有分区 gpu", "job.partition: no partition gpu"),
        ("没有命令 canel。是不是 cancel？", "No command canel. Did you mean cancel?"),
        ("作业 8 等 保留的作业", "job 8 waits for held jobs"),
        ("花括号 { x }", "braces { x }"),
        ("一 在 二 里", "一 is in 二"),
        ("plain English", "plain English"),
        ("没有分区 计算", "no partition 计算"),
    ],
)
def test_a_filled_sentence_finds_its_translation(chinese: str, english_text: str) -> None:
    assert CATALOGUE.translated(chinese) == english_text


@given(st.text(alphabet="作业等没有分区：；。，、（）{0}ab\n ", max_size=3000))
def test_any_text_is_answered_in_bounded_work(text: str) -> None:
    # 目录里没有的、反复自相似的文字也立即有回答，里面的拉丁字一个不丢。
    found = CATALOGUE.translated(text)
    assert [letter for letter in found if letter == "b"].count("b") >= text.count("b")


def test_only_what_is_spoken_is_translated_in_an_answer() -> None:
    said = "没有符合条件的作业"
    job = {"name": said, "error_msg": None, "script": f"echo {said}"}
    told = in_english(json.dumps({"detail": said, "jobs": [job], "reason": said}).encode())
    assert json.loads(told) == {"detail": "no matching jobs", "jobs": [job], "reason": "no matching jobs"}
    listed = {"fields": ["name", "error_msg"], "next_cursor": None}
    for key in ("jobs", "nodes"):
        told = in_english(json.dumps({**listed, key: [[said, said]]}).encode())
        assert json.loads(told) == {**listed, key: [[said, "no matching jobs"]]}
    assert json.loads(in_english(json.dumps({"job_id": "1", "warnings": [said]}).encode()))["warnings"] == [
        "no matching jobs"
    ]
