"""scns health、scns nodes NODE：没有做到的约束说得出为什么、怎样补上。"""

import json

from scns_conductor.api.english import in_english
from scns_conductor.cli.containment_text import shortfall, weak_nodes
from scns_conductor.cli.health import _row
from scns_conductor.language.catalogue import english

WEAK = {"not_enforced": ["内存上限靠每秒采样，短时间可以超过"], "detail": "没有可用的 cgroup：没有挂载"}
STRONG = {"not_enforced": [], "detail": "cgroup v2：cpuset、memory、pids"}


def test_only_what_is_missing_is_told_with_its_cause_and_remedy() -> None:
    (told,) = weak_nodes({"n1": WEAK, "n2": STRONG, "n3": None})
    assert told == "n1：内存上限靠每秒采样，短时间可以超过（没有可用的 cgroup：没有挂载）"
    name, status, text = _row("containment", {"n1": WEAK, "n2": STRONG})
    assert (name, status) == ("containment", "weak")
    assert told in text
    assert "shepherd.lock" in text
    assert _row("containment", {"n2": STRONG}) == ("containment", "ok", "")


def test_it_is_told_in_english_too() -> None:
    text = english(shortfall({"n1": WEAK}))
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in text), text


def test_the_answers_of_the_api_are_english_where_asked() -> None:
    """节点页照 API 的话写没有做到的约束。"""
    body = json.dumps({"containment": WEAK}, ensure_ascii=False).encode()
    told = json.loads(in_english(body))["containment"]["not_enforced"]
    assert told == [english(WEAK["not_enforced"][0])]
    assert told[0].isascii()
