"""CONTRIBUTING「加一个作业的字段」照做一遍：模型里加两行、一份迁移，请求、修改、回答、列表、数组任务就都有了。"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scns_conductor
from running_system import RunningSystem, start_system
from scns_conductor.core.schema_version import wanted_version

pytestmark = pytest.mark.faults

SOURCE = Path(scns_conductor.__file__).parent
SCRIPTS = Path(__file__).parents[2] / "scripts"
# 写在 JobSpec 里的。
FIELDS = """
    project: str | None = Field(None, description="项目")
    scratch_per_node: int = Field(
        0, sa_column_kwargs={"server_default": "0"}, description="每节点的本地暂存（MiB）"
    )
"""
MIGRATION = '''"""项目与暂存。"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    """旧的作业没有。"""
    op.add_column("jobs", sa.Column("project", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("scratch_per_node", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """丢掉。"""
    op.drop_column("jobs", "scratch_per_node")
    op.drop_column("jobs", "project")
'''


@pytest.fixture(scope="module")
def changed(scratch: Path) -> Path:
    """照着改过的一份源码。"""
    root = scratch / "changed"
    shutil.copytree(SOURCE, root / "scns_conductor", ignore=shutil.ignore_patterns("__pycache__"))
    model = root / "scns_conductor" / "core" / "models" / "job.py"
    text = model.read_text()
    last = next(line for line in text.splitlines(True) if line.startswith("    command: str | None"))
    model.write_text(text.replace(last, last + FIELDS))
    before = wanted_version()
    revision = f"{int(before) + 1:04}"
    versions = root / "scns_conductor" / "migrations" / "versions"
    (versions / f"{revision}_project.py").write_text(MIGRATION.format(revision=revision, before=before))
    # make openapi 里写源码的那一份。
    command = [sys.executable, str(SCRIPTS / "table_columns.py")]
    subprocess.run(command, env={"PYTHONPATH": str(root)}, check=True)
    return root


@pytest.fixture(scope="module")
def system(scratch: Path, changed: Path) -> Iterator[RunningSystem]:
    environment = {"PYTHONPATH": str(changed)}
    with start_system(scratch / "project", "--nodes", "1", "--cpus", "4", environment=environment) as running:
        yield running


def test_the_field_is_asked_answered_listed_and_changed(system: RunningSystem) -> None:
    job_id = system.submit("#!/bin/bash\ntrue\n", hold=True, project="apollo", scratch_per_node="2G")
    _, found = system.call("GET", f"/jobs/{job_id}")
    assert (found["project"], found["scratch_per_node"]) == ("apollo", 2048)
    status, _ = system.call("PATCH", f"/jobs/{job_id}", {"project": "gemini"})
    assert status == 200
    _, page = system.call("GET", f"/jobs?job_id={job_id}&fields=project,scratch_per_node")
    assert page["jobs"] == [{"job_id": job_id, "project": "gemini", "scratch_per_node": 2048}]
    # 没有写的是缺省值。
    plain = system.submit("#!/bin/bash\ntrue\n", hold=True)
    _, found = system.call("GET", f"/jobs/{plain}")
    assert (found["project"], found["scratch_per_node"]) == (None, 0)


def test_the_tasks_of_an_array_have_it_too(system: RunningSystem) -> None:
    job_id = system.submit("#!/bin/bash\ntrue\n", array="0-2", project="mercury")
    system.wait_state(f"{job_id}_1")
    _, found = system.call("GET", f"/jobs/{job_id}_1")
    assert found["project"] == "mercury"


def test_the_documents_have_it_with_its_unit(changed: Path) -> None:
    script = (
        "import json, tempfile, pathlib\n"
        "from scns_conductor.api.app import build_app\n"
        "from scns_conductor.core.settings import Settings\n"
        "app = build_app(Settings(data_dir=pathlib.Path(tempfile.mkdtemp())))\n"
        "print(json.dumps(app.openapi()['components']['schemas']))\n"
    )
    command = [sys.executable, "-c", script]
    printed = subprocess.run(command, env={"PYTHONPATH": str(changed)}, capture_output=True, check=True).stdout
    schemas = json.loads(printed)
    for name in ("Job", "JobRequest"):
        assert schemas[name]["properties"]["project"]["description"] == "项目"
        assert schemas[name]["properties"]["scratch_per_node"]["x-unit"] == "MiB"
