"""scns simulate，像使用者那样用：踪迹、线上系统自己的历史、坏输入。"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import warm_commands
from running_system import RunningSystem
from scns_conductor.client import Client

SCNS = str(Path(sys.executable).parent / "scns")
DATA = Path(__file__).parent.parent / "data"
CUT = str(DATA / "kth-sp2-cut.swf")
LUBLIN = str(DATA / "lublin_256.swf.gz")


def simulate(*arguments: str, code: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
    answer = warm_commands.run([SCNS, "simulate", *arguments], env={**os.environ, **environment})
    assert answer.returncode == code, answer
    assert "Traceback" not in answer.stderr
    return answer


def test_power_saving_beside_the_plain_policy() -> None:
    answer = simulate(CUT, "--nodes", "100:1", "--power", "5m", "--boot-time", "90s", "--limit", "60", "--json")
    found = json.loads(answer.stdout)["policies"]
    assert list(found) == ["easy", "easy@5m"]
    use = found["easy@5m"]["power"]
    assert 0 < use["off_s"] < use["total_s"]
    assert use["boots"] > 0
    assert found["easy@5m"]["avg_wait_s"] >= found["easy"]["avg_wait_s"]
    assert "--nodes" in simulate(CUT, "--power", "5m", code=2).stderr
    assert "--power" in simulate(CUT, "--nodes", "2:1", "--power", "never", code=2).stderr


def test_policies_side_by_side_in_json_csv_and_start_files(tmp_path: Path) -> None:
    starts, jobs, users = (tmp_path / name for name in ("starts.csv", "jobs.csv", "users.csv"))
    outputs = ["--starts", str(starts), "--csv", str(jobs), "--users", str(users)]
    answer = simulate(CUT, "--policy", "easy,fifo", "--limit", "300", "--json", "--parallel", "2", *outputs)
    found = json.loads(answer.stdout)["policies"]
    assert list(found) == ["easy", "fifo"]
    assert found["easy"]["avg_bounded_slowdown"] < found["fifo"]["avg_bounded_slowdown"]
    assert all(policy["jobs"] == 300 and 0 < policy["utilization"] <= 1 for policy in found.values())
    one_by_one = json.loads(simulate(CUT, "--policy", "fifo", "--limit", "300", "--json").stdout)["policies"]["fifo"]
    assert {**one_by_one, "elapsed_s": 0} == {**found["fifo"], "elapsed_s": 0}
    rows = list(csv.DictReader(starts.open()))
    assert {row["policy"] for row in rows} == {"easy", "fifo"}
    assert len(rows) == len(list(csv.DictReader(jobs.open()))) == 600
    by_user = list(csv.DictReader(users.open()))
    assert sum(int(row["jobs"]) for row in by_user if row["policy"] == "easy") == 300


def test_the_start_file_of_one_policy_has_the_two_fixed_columns(tmp_path: Path) -> None:
    starts = tmp_path / "starts.csv"
    simulate(CUT, "--limit", "20", "--procs", "64", "--starts", str(starts), "--json")
    lines = starts.read_text().splitlines()
    assert lines[0] == "job,start_s"
    assert len(lines) == 21
    assert all(len(line.split(",")) == 2 for line in lines)


def test_what_if_there_were_more_nodes_a_shorter_limit_or_more_load() -> None:
    def waited(*arguments: str) -> float:
        answer = json.loads(simulate(CUT, "--limit", "800", "--json", *arguments).stdout)
        return float(answer["policies"]["easy"]["avg_wait_s"])

    base = waited()
    assert waited("--add-nodes", "4:32") < base
    assert waited("--cap-time-limit", "1h") < base
    assert waited("--scale-load", "1.5") > base


def test_the_what_if_example_runs() -> None:
    example = Path(__file__).parents[2] / "examples" / "what_if.sh"
    path = f"{Path(SCNS).parent}:{os.environ['PATH']}"
    answer = subprocess.run(
        [example], capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PATH": path}
    )
    assert answer.returncode == 0, answer
    machines = [line for line in answer.stdout.splitlines() if line.startswith("机器：")]
    assert len(machines) == 4
    assert "4 个节点 × 8 CPU" in machines[1]


def test_plots_are_drawn_in_either_format(tmp_path: Path) -> None:
    beginnings = {"svg": b"<?xml", "png": b"\x89PNG"}
    for form, beginning in beginnings.items():
        folder = tmp_path / form
        simulate(CUT, "--limit", "300", "--policy", "easy,fifo", "--plots", str(folder), "--plot-format", form)
        names = {f"{name}.{form}" for name in ("utilization", "queue", "gantt-easy", "gantt-fifo")}
        assert {path.name for path in folder.iterdir()} == names
        assert all(path.read_bytes().startswith(beginning) for path in folder.iterdir())


def test_without_matplotlib_the_remedy_is_told_before_the_replay(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError\n")
    answer = simulate(CUT, "--plots", str(tmp_path / "plots"), code=1, PYTHONPATH=str(tmp_path))
    assert "scns-conductor[plots]" in answer.stderr
    assert not (tmp_path / "plots").exists()


def test_the_rlscheduler_table_is_one_command() -> None:
    found = json.loads(simulate(LUBLIN, "--rlscheduler", "--json").stdout)["rlscheduler"]
    assert round(found["none"]["FCFS"]["avg_bounded_slowdown"], 2) == 7273.77
    assert round(found["backfill"]["F1"]["utilization"], 3) == 0.840


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "是空的"),
        ("; MaxProcs: 8\n", "没有一个可读的作业"),
        ("1 2 3\n", "应有 18 个字段"),
        ("1 -5 -1 60 4 -1 -1 4 60 -1 1 1 1 -1 -1 -1 -1 -1\n", "没有剩下作业"),
    ],
)
def test_a_trace_without_jobs_is_one_message(tmp_path: Path, content: str, told: str) -> None:
    trace = tmp_path / "trace.swf"
    trace.write_text(content)
    answer = simulate(str(trace), code=1)
    assert told in answer.stderr
    assert answer.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["/nonexistent.swf"], "不存在"),
        ([], "要么写 TRACE"),
        ([CUT, "--live"], "要么写 TRACE"),
        ([CUT, "--policy", "best"], "不认识的策略"),
        ([CUT, "--procs", "0"], "--procs"),
        ([CUT, "--procs", "8", "--nodes", "2:4"], "只能写一个"),
        ([CUT, "--add-nodes", "4"], "无法识别的节点"),
        ([CUT, "--cap-time-limit", "soon"], "--cap-time-limit"),
        ([CUT, "--scale-load", "nan"], "--scale-load"),
        ([CUT, "--starts", "/nonexistent/starts.csv"], "没有目录"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(arguments: list[str], told: str) -> None:
    assert told in simulate(*arguments, code=2).stderr


def test_bad_lines_are_counted_and_the_rest_is_replayed(tmp_path: Path) -> None:
    trace = tmp_path / "trace.swf"
    good = "1 0 -1 60 4 -1 -1 400 60 -1 1 1 1 -1 -1 -1 -1 -1\n"
    trace.write_text(f"; MaxProcs: 8\n{good}broken\n{good.replace(' 60 4', ' -60 4')}")
    answer = simulate(str(trace))
    assert "坏行，已跳过：1" in answer.stderr
    assert "第 3 行" in answer.stderr
    assert "截到机器大小：1" in answer.stderr
    assert "运行时间 <= 0 或未知，已去掉：1" in answer.stderr


def test_a_progress_bar_only_where_it_is_wanted() -> None:
    assert "重放" not in simulate(CUT, "--limit", "50").stderr
    answer = simulate(CUT, "--limit", "50", "--policy", "easy,sjf", "--progress", "--json")
    assert "重放" in answer.stderr
    json.loads(answer.stdout)


def test_the_history_of_the_live_system_is_replayed_on_its_own_nodes(running_system: RunningSystem) -> None:
    with Client(running_system.url, running_system.token) as client:
        jobs = [{"name": "simulated", "cpus_per_task": cpus, "time_limit": "2"} for cpus in (1, 2, 4)]
        ids = client.submit_batch([{"job": job, "script": "true\n"} for job in jobs])
        for job_id in ids:
            client.wait(job_id, timeout_s=60)
        submitted = client.job(ids[0]).submit_time.isoformat()
    live = ["--live", "--since", submitted, "--policy", "easy,fifo", "--json"]
    found = json.loads(simulate(*live, **running_system.environment).stdout)
    assert found["machine"] == {"nodes": 1, "cpus": 8, "gpus": 0}
    assert found["trace"]["jobs"] >= 3
    assert found["policies"]["easy"]["jobs"] == found["trace"]["jobs"]
    more = json.loads(simulate(*live, "--add-nodes", "4:8:gpu:2:mem:16G", **running_system.environment).stdout)
    assert more["machine"] == {"nodes": 5, "cpus": 40, "gpus": 8}
