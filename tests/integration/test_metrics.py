"""Prometheus 指标：采集得到、promtool 认得、标签的种类有限；告警与看板用的指标都真的有。"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from running_system import RunningSystem, wait_until
from scns_conductor.services import queue_metrics

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
BOARD = ROOT / "deploy/grafana/scns-conductor.json"
NAME = re.compile(r"\bscns_[a-z_]+")


def scraped(system: RunningSystem) -> str:
    status, text = system.call("GET", "/metrics")
    assert status == 200
    return str(text)


def names_in(text: str) -> set[str]:
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def test_everything_alerts_and_boards_ask_for_exists(running_system: RunningSystem) -> None:
    running_system.wait_state(running_system.submit("#!/bin/bash\ntrue\n"))
    held = running_system.submit("#!/bin/bash\ntrue\n", hold=True)
    # 调度器的统计、API 自己的直方图要有过一次才有。
    wait_until(lambda: "scns_scheduler_cycles_total" in scraped(running_system))
    found = names_in(scraped(running_system))
    exprs = [panel["expr"] for each in json.loads(BOARD.read_text())["panels"] for panel in each["targets"]]
    wanted = set(NAME.findall("\n".join([ALERTS.read_text(), *exprs])))
    assert wanted - found == set()
    running_system.call("POST", f"/jobs/cancel/{held}")


def test_queue_by_state_partition_reason(running_system: RunningSystem) -> None:
    held = running_system.submit("#!/bin/bash\ntrue\n", array="0-6", hold=True)
    line = 'scns_queue_jobs{partition="main",reason="JobHeldUser",state="PENDING"} 7.0'
    wait_until(lambda: line in scraped(running_system), what=line)
    running_system.call("POST", f"/jobs/cancel/{held}")


def test_labels_are_bounded(running_system: RunningSystem) -> None:
    job_id = running_system.submit("#!/bin/bash\ntrue\n", name="not-a-label", account="not-a-label-either")
    running_system.wait_state(job_id)
    text = scraped(running_system)
    assert "not-a-label" not in text
    families = list(text_string_to_metric_families(text))
    own = [sample for family in families if family.name.startswith("scns_") for sample in family.samples]
    labels = {name for sample in own for name in sample.labels}
    assert labels <= {
        "state",
        "partition",
        "reason",
        "resource",
        "quantile",
        "version",
        "method",
        "route",
        "status",
        "le",
    }
    assert queue_metrics.MOST_SERIES <= 500


@pytest.mark.skipif(shutil.which("promtool") is None, reason="没有装 prometheus")
def test_promtool_accepts(running_system: RunningSystem) -> None:
    linted = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped(running_system), capture_output=True, text=True, timeout=60
    )
    # 3 是有风格上的意见（旧指标没有单位），格式是对的。
    assert linted.returncode in (0, 3), linted.stderr
    rules = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, timeout=60)
    assert rules.returncode == 0, rules.stderr
