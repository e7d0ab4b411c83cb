"""slurmrestd 的接口与它自己的说明（/openapi/v3）：照说明随机地发，答的合乎说明。"""

import os
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from running_system import RunningSystem, start_system

pytestmark = pytest.mark.faults

# 要久久地找，SCNS_SCHEMATHESIS_EXAMPLES=200。
EXAMPLES = int(os.environ.get("SCNS_SCHEMATHESIS_EXAMPLES", "2"))


@pytest.mark.timeout(600)
def test_the_document_describes_the_answers(scratch: Path) -> None:
    """schemathesis 照 /openapi/v3 随机地发：没有 5xx，200 的回答合乎说明。"""
    with start_system(scratch / "restdoc", "--nodes", "1", "--cpus", "8", "--memory", "16G") as system:
        for version in ("v0.0.40", "v0.0.44"):
            _check_document(system, version)


def _check_document(system: RunningSystem, version: str) -> None:
    schema = schemathesis.openapi.from_url(f"{system.url}/openapi/v3?version={version}")
    headers = {"X-SLURM-USER-TOKEN": system.token}
    seen: dict[str, set[int]] = {}

    def check_operation(operation: schemathesis.schemas.APIOperation) -> None:
        @given(case=operation.as_strategy())
        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck),
                  phases=(Phase.explicit, Phase.generate))  # fmt: skip
        def check(case: schemathesis.Case) -> None:
            answer = case.call(headers=headers, timeout=60)
            seen.setdefault(operation.label, set()).add(answer.status_code)
            assert answer.status_code < 500 or answer.status_code in (503, 504), f"{operation.label}：{answer.text}"
            if answer.status_code == 200:
                operation.validate_response(answer)

        check()

    for result in schema.get_all_operations():
        check_operation(result.ok())
    assert len(seen) >= 50
    good = {label for label, statuses in seen.items() if 200 in statuses}
    assert {f"GET /slurm/{version}/jobs", f"GET /slurmdb/{version}/config", f"GET /slurm/{version}/nodes"} <= good
