"""客户端的类型逐项就是接口的说明；错误码各有类型；三种客户端是同样的方法；导入不带上服务器的库。"""

import copy
import inspect
import json
import pickle
import subprocess
import sys
import typing
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from scns_conductor.client import AsyncClient, Client, JsonClient, Problem, answers, problems
from scns_conductor.client.answer import Answer
from scns_conductor.client.answers import Job, Node, Why
from scns_conductor.client.flow import Streamed, Waited
from scns_conductor.client.request import Call

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
SCHEMAS = DOCUMENT["components"]["schemas"]
SCALARS = {"string": str, "integer": int, "number": float, "boolean": bool}


def expected(kind: dict[str, Any]) -> Any:
    """接口的说明 -> Python 的类型。"""
    if "$ref" in kind:
        return getattr(answers, kind["$ref"].rpartition("/")[2])
    if "anyOf" in kind:
        left = [each for each in kind["anyOf"] if each.get("type") != "null"]
        return expected(left[0]) | None if len(left) == 1 else Any
    if kind.get("format") == "date-time":
        return datetime
    if kind.get("type") in SCALARS:
        return SCALARS[kind["type"]]
    if kind.get("type") == "array":
        return tuple[expected(kind["items"]), ...]  # type: ignore[misc]
    if kind.get("type") != "object":
        return Any
    values = kind.get("additionalProperties")
    if not isinstance(values, dict):
        return Mapping[str, Any]
    inner = expected(values)
    return Mapping[str, list[typing.get_args(inner)[0]] if typing.get_origin(inner) is tuple else inner]  # type: ignore[misc]


@pytest.mark.parametrize("name", answers.__all__)
def test_every_type_is_the_documented_schema(name: str) -> None:
    kind = getattr(answers, name)
    hints = {field: hint for field, hint in typing.get_type_hints(kind).items() if not field.startswith("_")}
    shown = SCHEMAS[name]["properties"]
    assert list(hints) == list(shown)
    assert hints == {field: expected(each) for field, each in shown.items()}
    # 含义与单位写在每个字段下面。
    source = inspect.getsource(kind)
    for each in shown.values():
        if "description" in each:
            assert f'"""{each["description"]}"""' in source


def test_an_answer_is_frozen_typed_and_keeps_what_it_does_not_know() -> None:
    found = Job.from_json(
        {"job_id": "7", "submit_time": "2026-01-31T08:00:00+00:00", "argv": ["a"], "node_list": None, "colour": "红"}
    )
    assert (found.job_id, found.argv, found.node_list) == ("7", ("a",), None)
    assert found.submit_time == datetime.fromisoformat("2026-01-31T08:00:00+00:00")
    assert found.unknown == {"colour": "红"}
    assert found.json["colour"] == "红"
    with pytest.raises(AttributeError):
        found.job_id = "8"  # type: ignore[misc]
    # 没有取的字段不是 None。
    with pytest.raises(AttributeError):
        _ = found.state
    assert found == Job.from_json(found.json)
    assert pickle.loads(pickle.dumps(found)) == copy.copy(found) == found
    assert len({found, Job.from_json(found.json)}) == 1
    assert "submit_time" in repr(found)


def test_nested_answers_are_typed_too() -> None:
    holder = {"job_id": "3", "user_name": "u", "nodes": ["n1"], "amount": 0, "expected_end_time": None}
    why = Why.from_json({"job_id": "7", "state": "PENDING", "reason": "Resources", "text": "", "waiting_for": [holder]})
    assert why.waiting_for[0].nodes == ("n1",)
    assert isinstance(why.waiting_for[0], Answer)


def test_an_answer_written_by_hand_is_the_same_kind_of_thing() -> None:
    shown = {
        name: [] if each.get("type") == "array" else {} if each.get("type") == "object" else None
        for name, each in SCHEMAS["Node"]["properties"].items()
    }
    by_hand = Node(**shown)  # type: ignore[arg-type]
    assert dict(by_hand.json) == shown


def test_every_error_code_has_its_type() -> None:
    body = {"code": "job_not_found", "detail": "没有作业 7", "title": "不存在"}
    found = Problem.from_answer(404, "Not Found", json.dumps(body).encode(), None)
    assert isinstance(found, problems.JobNotFound)
    assert isinstance(found, problems.NotFound)
    # 新版服务器的码：按状态码。
    newer = Problem.from_answer(409, "Conflict", json.dumps({**body, "code": "brand_new"}).encode(), None)
    assert type(newer) is problems.Conflict
    assert newer.code == "brand_new"
    assert type(Problem.from_answer(502, "Bad Gateway", b"<html>", None)) is Problem
    assert {"step_busy", "script_blank", "idempotency_conflict", "admin_required"} <= problems.BY_CODE.keys()


def test_the_clients_have_the_same_surface() -> None:
    def surface(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert surface(Client) == surface(JsonClient) == surface(AsyncClient)
    calls = {name: getattr(Client, name) for name in surface(Client)}
    defined = {name: found for name, found in calls.items() if isinstance(found, Call | Waited | Streamed)}
    assert len(defined) > 60
    for found in defined.values():
        assert found.function.__doc__
    # 类型化的端点都指得出自己的类型。
    for found in defined.values():
        if isinstance(found, Call) and type(found).__name__ != "Plain":
            assert issubclass(found.kind, Answer)


def test_importing_the_client_brings_no_server_library() -> None:
    heavy = {
        "alembic", "asyncio", "asyncpg", "click", "fastapi", "numpy", "prometheus_client", "psycopg", "pydantic",
        "redis", "rq", "sqlalchemy", "sqlmodel", "starlette", "structlog", "uvicorn", "jwt",
    }  # fmt: skip
    script = (
        "import sys\nimport scns_conductor.client as c\nc.Client('http://127.0.0.1:1', 't')\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
        "print(*[name for name in sys.modules if name.startswith('scns_conductor.')])\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    roots, own = printed.splitlines()
    assert not heavy & set(roots.split())
    assert all(name.startswith(("scns_conductor.client", "scns_conductor.language")) for name in own.split())
    # 异步的也只用标准库。
    script = script.replace("c.Client", "c.AsyncClient")
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not (heavy - {"asyncio"}) & set(printed.splitlines()[0].split())
    # 执行器与 @job 要用时才多一个 cloudpickle。
    script = "import sys\nimport scns_conductor.client as c\nc.ConductorExecutor, c.job, c.gantt\nprint(*sys.modules)\n"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    roots = {name.partition(".")[0] for name in printed.split()}
    assert not (heavy | {"cloudpickle", "rich", "matplotlib", "IPython"}) & roots


def test_the_listing_commands_load_nothing_slow() -> None:
    # dataclasses 带来 inspect、ast、tokenize，http.client 带来 email 与 ssl：启动各要多花十几毫秒。
    script = (
        "import sys\nfrom scns_conductor.slurm.accounting import sacct\nfrom scns_conductor.slurm.nodes import sinfo\n"
        "from scns_conductor.slurm.control import scontrol, control_show, control_text\n"
        "from scns_conductor.slurm.queue import squeue\n"
        "print(*{'dataclasses', 'inspect', 'http.client', 'email', 'ssl'} & set(sys.modules))\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == ""
