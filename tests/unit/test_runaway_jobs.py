"""sacctmgr show runawayjobs：记着在运行、节点却都不在了的作业。"""

from types import SimpleNamespace
from typing import Any

import pytest

from scns_conductor.slurm.accounting.sacctmgr_more import runaway_jobs


def job(job_id: str, nodes: str) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "name": "train",
        "partition": "main",
        "state": "RUNNING",
        "node_list": nodes,
        "start_time": "2026-01-02T03:04:05+00:00",
    }


def told(jobs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    nodes = [{"name": "n1", "availability": "UP"}, {"name": "n2", "availability": "DOWN"}]
    client: Any = SimpleNamespace(nodes=lambda: nodes, jobs=lambda **_: jobs)
    runaway_jobs(client)
    return capsys.readouterr().out.splitlines()


def test_a_job_with_a_living_node_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert told([job("1", "n1"), job("2", "n[1-2]")], capsys)[0].startswith("Runaway Jobs: No runaway jobs found")


def test_jobs_whose_nodes_are_all_down_or_gone_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told([job("1", "n1"), job("3", "n2"), job("4", "n[2,9]")], capsys)
    assert [line.split()[0] for line in lines[2:]] == ["3", "4"]
