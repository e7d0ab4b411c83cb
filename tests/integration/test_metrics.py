"""Prometheus 指标：每个进程都采集得到（真的 prometheus 也来）、标签的种类有限；告警与看板用的指标都真的有。"""

import itertools
import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otlp_receiver import Span, otlp_receiver
from running_system import RunningSystem, free_port, wait_until
from scns_conductor.services import queue_metrics
from scns_conductor.tracing import Tracer

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


def pages(system: RunningSystem) -> dict[str, str]:
    """进程 -> 它的指标页的地址（file_sd 的文件）。"""
    found = {}
    for path in sorted((system.data_dir / "metrics").glob("*.json")):
        (group,) = json.loads(path.read_text())
        found[path.stem] = f"http://{group['targets'][0]}/metrics"
    return found


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def value_of(text: str, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_each_process_tells_what_it_did(watched_system: RunningSystem) -> None:
    system = watched_system
    wait_until(lambda: len(pages(system)) == 4, what="四个进程都说了在哪里听")
    # 合用的系统里别的测试也跑过作业：都数过了，再看多了几个。
    earlier = sum(system.call("GET", "/dashboard")[1]["jobs"]["by_state"].values())

    def counted(name: str) -> float:
        return sum(value_of(read(pages(system)[f"agent-{node}"]), name) for node in ("node1", "node2"))

    wait_until(
        lambda: counted("scns_agent_ends_total") == counted("scns_agent_spawn_seconds_count") == earlier,
        what="从前的作业都数过了",
    )
    before = {name: read(url) for name, url in pages(system).items()}
    for node in ("node1", "node2"):
        system.wait_state(system.submit("#!/bin/bash\ntrue\n", required_nodes=node))
    system.wait_state(system.submit("#!/bin/bash\nexit 3\n", required_nodes="node1"))
    assert pages(system).keys() == {"agent-node1", "agent-node2", "scheduler", "web"}
    scheduler = read(pages(system)["scheduler"])
    assert value_of(scheduler, "scns_scheduler_leading") == 1
    for phase in ("inbox", "plan", "commit", "dispatch"):
        assert value_of(scheduler, "scns_scheduler_phase_seconds_count", phase=phase) >= 3
    assert value_of(scheduler, "scns_scheduler_cycle_seconds_count") >= 3
    waits = "scns_scheduler_job_wait_seconds_count"
    assert value_of(scheduler, waits) - value_of(before["scheduler"], waits) == 3
    assert value_of(scheduler, "scns_scheduler_database_seconds_count") > 10
    assert value_of(scheduler, "scns_scheduler_bus_seconds_count") >= 3
    assert value_of(scheduler, "scns_scheduler_bus_errors_total") == 0

    def more(name: str, **labels: str) -> float:
        old, new = before["agent-node1"], read(pages(system)["agent-node1"])
        return value_of(new, name, **labels) - value_of(old, name, **labels)

    wait_until(
        lambda: more("scns_agent_ends_total", state="FAILED") == 1 and more("scns_agent_spawn_seconds_count") == 2
    )
    assert more("scns_agent_ends_total", state="COMPLETED") == 1
    assert more("scns_agent_dispatch_seconds_count") == 2
    agent = read(pages(system)["agent-node1"])
    assert value_of(agent, "scns_agent_messages_total", function="launch") >= 1
    assert value_of(agent, "scns_node_cpus") == 2
    assert value_of(agent, "scns_node_disk_free_bytes", folder="spool") > 0
    assert value_of(agent, "process_resident_memory_bytes") > 0
    running = system.submit("#!/bin/bash\nsleep 60\n", required_nodes="node2")
    wait_until(lambda: value_of(read(pages(system)["agent-node2"]), "scns_agent_jobs") == 1)
    system.call("POST", f"/jobs/cancel/{running}")


STAGES = ("submit", "queue", "plan", "commit", "dispatch", "claim", "spawn", "run", "end")


def test_one_job_is_one_trace(watched_system: RunningSystem, otlp: tuple[str, list[Span]]) -> None:
    system, (_, received) = watched_system, otlp
    job_id = system.submit("#!/bin/bash\nexit 3\n", required_nodes="node1")

    def spans(wanted: str) -> dict[str, Span]:
        return {span.name: span for span in list(received) if span.attributes["scns.job_id"] == wanted}

    wait_until(lambda: spans(job_id).keys() >= {"job", *STAGES}, what="每一段都到了")
    found = spans(job_id)
    root = found.pop("job")
    assert found.keys() == set(STAGES)
    assert {span.trace_id for span in found.values()} == {root.trace_id}
    assert {span.parent_id for span in found.values()} == {root.span_id}
    assert root.parent_id == ""
    assert root.attributes["scns.state"] == "FAILED"
    assert {span.service for span in found.values()} == {"scns-api", "scns-scheduler", "scns-agent-node1"}
    # 一个进程里一段接一段；几个进程之间差着对时的误差，不比。
    for names in (("queue", "plan", "commit", "dispatch"), ("claim", "spawn", "run", "end")):
        assert all(found[one].ended <= found[two].ended + 0.05 for one, two in itertools.pairwise(names)), found
    assert all(span.begun <= span.ended for span in (root, *found.values()))
    assert root.ended == pytest.approx(found["end"].ended, abs=0.05)
    # 重新排队的是另一条，别的作业也是。
    other = system.submit("#!/bin/bash\ntrue\n", required_nodes="node1")
    wait_until(lambda: "job" in spans(other))
    assert spans(other)["job"].trace_id != root.trace_id


def test_nothing_is_imported_while_tracing_is_off() -> None:
    # opentelemetry.sdk 若装着，redis 自己会导入。
    modules = "scns_conductor.worker.agent.process", "scns_conductor.worker.scheduler.process", "scns_conductor.api.app"
    program = f"import sys, {', '.join(modules)}; sys.exit('opentelemetry.exporter' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_sampling_keeps_whole_traces() -> None:
    with otlp_receiver() as (url, received):
        tracers = [Tracer(url, "scns", process, 0.25) for process in ("one", "two")]
        for job_id in range(400):
            for tracer in tracers:
                tracer.span("part", (job_id, 0), 1.0, 2.0)
        for tracer in tracers:
            tracer.close()
    kept = [{span.trace_id for span in received if span.service == f"scns-{name}"} for name in ("one", "two")]
    assert kept[0] == kept[1]
    assert 50 < len(kept[0]) < 150


def test_labels_of_the_processes_are_bounded(watched_system: RunningSystem) -> None:
    system = watched_system
    system.wait_state(system.submit("#!/bin/bash\ntrue\n", name="not-a-label"))
    for url in pages(system).values():
        text = read(url)
        assert "not-a-label" not in text
        own = [
            sample
            for family in text_string_to_metric_families(text)
            if family.name.startswith("scns_")
            for sample in family.samples
        ]
        assert {name for sample in own for name in sample.labels} <= {"phase", "state", "function", "folder", "le"}


def test_everything_alerts_and_boards_ask_for_exists(watched_system: RunningSystem) -> None:
    system = watched_system
    system.wait_state(system.submit("#!/bin/bash\ntrue\n"))
    held = system.submit("#!/bin/bash\ntrue\n", hold=True)
    # 调度器的统计、API 自己的直方图要有过一次才有。
    wait_until(lambda: "scns_scheduler_cycles_total" in scraped(system))
    found = names_in(scraped(system)).union(*(names_in(read(url)) for url in pages(system).values()))
    exprs = [target["expr"] for each in json.loads(BOARD.read_text())["panels"] for target in each["targets"]]
    wanted = set(NAME.findall("\n".join([ALERTS.read_text(), *exprs])))
    assert wanted - found == set()
    system.call("POST", f"/jobs/cancel/{held}")


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="没有装 prometheus")
def test_prometheus_scrapes_every_process(watched_system: RunningSystem, tmp_path: Path) -> None:
    """Debian 的 prometheus，照 deploy/ 的样子：告警装上，每个目标都采集得到，数查得出来。"""
    system, port = watched_system, free_port()
    (tmp_path / "token").write_text(system.token)
    shutil.copy(ALERTS, tmp_path)
    (tmp_path / "prometheus.yml").write_text(
        f"""
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [alerts.yml]
scrape_configs:
  - job_name: scns
    authorization: {{ type: Bearer, credentials_file: token }}
    static_configs: [{{ targets: ["{system.url.removeprefix("http://")}"] }}]
  - job_name: processes
    file_sd_configs: [{{ files: ["{system.data_dir}/metrics/*.json"] }}]
"""
    )
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    command = ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as prometheus:
        try:

            def ask(path: str) -> Any:
                try:
                    return json.loads(read(f"http://127.0.0.1:{port}/api/v1/{path}"))["data"]
                except OSError:
                    return None

            def count(query: str) -> int:
                found = ask(f"query?query={urllib.parse.quote(query)}")
                return 0 if found is None else len(found["result"])

            wait_until(lambda: count("up == 1") == 5, what="五个目标都采集得到")
            assert count('scns_scheduler_leading{process="scheduler"} == 1') == 1
            assert count("scns_agent_jobs") == 2
            assert count("scns_web_tabs") == 1
            assert count('scns_jobs{state="COMPLETED"} > 0') == 1
            groups = ask("rules")["groups"]
            assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
            assert len(groups[0]["rules"]) == ALERTS.read_text().count("- alert:")
        finally:
            prometheus.terminate()


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
        "license",
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
