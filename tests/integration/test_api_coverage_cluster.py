"""作业之外的端点：每个字段的边界，文档说的就是服务器做的。"""

from pathlib import Path

import pytest

from schemathesis_run import JOBS, walk

pytestmark = pytest.mark.faults


def test_the_document_says_what_the_server_does_with_the_rest(scratch: Path) -> None:
    walk(scratch, "--exclude-path-regex", JOBS)
