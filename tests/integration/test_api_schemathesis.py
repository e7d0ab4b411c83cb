"""按 OpenAPI 文档随机地发请求：没有一个 5xx，错误都是 problem JSON。走遍边界的在 test_api_coverage_*.py。"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from running_system import RunningSystem, start_system

pytestmark = pytest.mark.faults

# 要等调度器按真的队列回答、另起进程算（一次几十毫秒以上）的，另有专门的测试。
SLOW = {"/jobs/plan", "/simulate"}
# 作废的正是这里用的令牌：之后的每个请求都是 401。
OWN_TOKEN = "DELETE /tokens"
# 平常几个就够；要久久地找，SCNS_SCHEMATHESIS_EXAMPLES=200。
EXAMPLES = int(os.environ.get("SCNS_SCHEMATHESIS_EXAMPLES", "4"))


@pytest.fixture
def system() -> Iterator[RunningSystem]:
    """自己的系统：随机的请求会建分区、排空节点，不能与别的测试共用。"""
    scratch = Path(tempfile.mkdtemp(prefix="scns-"))
    with start_system(scratch / "s", "--nodes", "1", "--cpus", "8", "--memory", "16G") as running:
        yield running
    shutil.rmtree(scratch)


def test_no_request_makes_the_server_fail(system: RunningSystem) -> None:
    schema = schemathesis.openapi.from_url(f"{system.url}/openapi.json")
    bearer = {"Authorization": f"Bearer {system.token}"}
    seen: dict[str, set[int]] = {}

    def check_operation(operation: schemathesis.schemas.APIOperation) -> None:
        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate),
        )  # fmt: skip
        def check(case: schemathesis.Case) -> None:
            answer = case.call(headers=bearer, timeout=60)
            seen.setdefault(operation.label, set()).add(answer.status_code)
            assert answer.status_code < 500, f"{operation.label}：{answer.text}"
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == ["application/problem+json"], operation.label
                assert answer.json()["code"]

        check()

    operations = {operation.label: operation for operation in (result.ok() for result in schema.get_all_operations())}
    for operation in operations.values():
        if operation.path not in SLOW and operation.label != OWN_TOKEN:
            check_operation(operation)
    assert len(seen) >= 30
    # 随机的请求里也有真的做成了的，不是全被校验挡在外面；提交的字段多，几个例子未必碰得上。
    for label in ("GET /jobs", "POST /jobs/submit"):
        for _ in range(30):
            if 200 in seen[label]:
                break
            check_operation(operations[label])
        assert 200 in seen[label], label
