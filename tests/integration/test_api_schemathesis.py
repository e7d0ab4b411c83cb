"""按 OpenAPI 文档随机地发请求：没有一个 5xx，错误都是 problem JSON。"""

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from running_system import RunningSystem

# 要等调度器按真的队列回答（一次几十毫秒以上）的，另有专门的测试。
SLOW = {"/jobs/plan"}
EXAMPLES = 8


def test_no_request_makes_the_server_fail(running_system: RunningSystem) -> None:
    schema = schemathesis.openapi.from_url(f"{running_system.url}/openapi.json")
    bearer = {"Authorization": f"Bearer {running_system.token}"}
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

    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path not in SLOW:
            check_operation(operation)
    assert len(seen) >= 30
    assert 200 in seen["GET /jobs"]
    assert 200 in seen["POST /jobs/submit"]
