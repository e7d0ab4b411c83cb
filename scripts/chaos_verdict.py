"""混沌测试的核对：每个被接受的作业，数据库里的历史、脚本自己写下的、节点上留下的，三者必须相符。"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg
from chaos_jobs import Expected, Workload
from chaos_system import ChaosSystem
from psycopg.rows import dict_row

from scns_conductor.core.states import TERMINAL_STATES, TRANSITIONS, JobState

SHOWN = 20


@dataclass
class Verdict:
    """lost：没有终态、该跑没跑、历史断了；doubled：一次尝试跑了两遍、同一个提交成了两个作业；leaked：资源、进程、文件没有归还；
    wrong：结局与脚本不符。每一条是一句话。"""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    # 节点接力启动的有几次：是零就没有试到。
    relayed: int = 0

    @property
    def good(self) -> bool:
        """什么问题也没有。"""
        return not (self.lost or self.doubled or self.leaked or self.wrong)

    def complaints(self) -> list[str]:
        """每一类的前若干条。"""
        return [
            f"{kind}：{text}" for kind in ("lost", "doubled", "leaked", "wrong") for text in getattr(self, kind)[:SHOWN]
        ]


def unfinished(connection: "psycopg.Connection[Any]") -> int:
    """还没有终态的作业数。"""
    row = connection.execute("SELECT count(*) FROM jobs WHERE state IN ('PENDING', 'RUNNING', 'SUSPENDED')").fetchone()
    assert row is not None
    return int(row[0])


def judge(system: ChaosSystem, workload: Workload) -> Verdict:
    """系统还在运行、作业都该结束了的时候核对。"""
    verdict = Verdict()
    started, finished = _marks(workload)
    with system.database() as connection, connection.cursor(row_factory=dict_row) as cursor:
        jobs = {row["job_id"]: row for row in cursor.execute("SELECT * FROM jobs")}
        events: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in cursor.execute("SELECT * FROM job_events ORDER BY event_id"):
            events[row["job_id"]].append(row)
            verdict.relayed += row["cause"] == "start" and row["actor"].startswith("agent@")
        _judge_resources(cursor, verdict)
    tasks: dict[int, list[int]] = defaultdict(list)
    for row in jobs.values():
        if row["array_job_id"] is not None:
            tasks[row["array_job_id"]].append(row["job_id"])
    strangers = set(jobs)
    for job_id, expected in workload.accepted.items():
        if job_id not in jobs:
            verdict.lost.append(f"作业 {job_id} 被接受了，数据库里没有")
            continue
        mine = tasks[job_id] if expected.tasks else [job_id]
        if expected.tasks:
            _judge_array(verdict, job_id, expected, [jobs[each]["array_task_id"] for each in mine])
        strangers -= {job_id, *mine}
        for each in mine:
            verdict.states[jobs[each]["state"]] += 1
            _judge_outcome(verdict, jobs[each], expected, started, finished)
            _judge_history(verdict, jobs[each], events[each])
    for job_id in sorted(strangers):
        verdict.doubled.append(f"作业 {job_id} 没有人提交（多半是重送的提交成了两个作业）")
    for (job_id, attempt), times in started.items():
        if times > 1:
            verdict.doubled.append(f"作业 {job_id} 的第 {attempt} 次尝试跑了 {times} 遍")
    verdict.attempts = len(started)
    return verdict


def _marks(workload: Workload) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
    started: Counter[tuple[int, int]] = Counter()
    finished: Counter[tuple[int, int]] = Counter()
    for line in workload.runs.read_text().splitlines():
        job_id, attempt, word = line.split()
        (started if word == "start" else finished)[(int(job_id), int(attempt))] += 1
    return started, finished


def _judge_outcome(
    verdict: Verdict,
    job: dict[str, Any],
    expected: Expected,
    started: Counter[tuple[int, int]],
    finished: Counter[tuple[int, int]],
) -> None:
    job_id, state = job["job_id"], job["state"]
    told = f"作业 {job_id}（第 {job['restart_count']} 次尝试）是 {state} {job['exit_status']}:{job['exit_signal']}"
    if state not in TERMINAL_STATES:
        verdict.lost.append(f"{told}，没有终态，原因 {job['reason']}")
        return
    last = (job_id, job["restart_count"])
    if state in ("COMPLETED", "FAILED"):
        wanted = "FAILED" if expected.exit_status else "COMPLETED"
        if (state, job["exit_status"], job["exit_signal"]) != (wanted, expected.exit_status, 0):
            verdict.wrong.append(f"{told}，应为 {wanted} {expected.exit_status}:0；{job['error_msg']}")
        elif not started[last] or not finished[last]:
            verdict.lost.append(f"{told}，脚本却没有跑到底")
    elif state == "CANCELLED":
        if not expected.cancelled:
            verdict.wrong.append(f"{told}，没有人取消它；{job['error_msg']}")
    elif state == "NODE_FAIL":
        if expected.requeue:
            verdict.wrong.append(f"{told}，它允许重新排队；{job['error_msg']}")
        elif job["restart_count"]:
            verdict.wrong.append(f"{told}，它不许重新排队")
    else:
        verdict.wrong.append(f"{told}；{job['error_msg']}")
    if job["end_time"] is None or (job["start_time"] and job["end_time"] < job["start_time"]):
        verdict.wrong.append(f"{told}，时刻不对：{job['start_time']} 到 {job['end_time']}")


def _judge_array(verdict: Verdict, job_id: int, expected: Expected, task_ids: list[int | None]) -> None:
    """数组的每个任务恰好一行。"""
    counts = Counter(task_ids)
    for task_id in range(expected.tasks):
        if not counts[task_id]:
            verdict.lost.append(f"数组 {job_id} 的任务 {task_id} 没有了")
        elif counts[task_id] > 1:
            verdict.doubled.append(f"数组 {job_id} 的任务 {task_id} 有 {counts[task_id]} 行")
    for stranger in counts.keys() - set(range(expected.tasks)):
        verdict.wrong.append(f"数组 {job_id} 多出了任务 {stranger}")


def _judge_history(verdict: Verdict, job: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """事件首尾相接、都在转移表里、终态恰好一次、每次重新排队加一。"""
    job_id, requeues, endings = job["job_id"], 0, 0
    state: str | None = None
    if job.get("array_task_id") is not None and events and events[0]["from_state"] == "PENDING":
        # 数组任务在启动时才有自己的行，提交记在数组行上。
        state = "PENDING"
    for event in events:
        if event["from_state"] != state:
            verdict.lost.append(f"作业 {job_id} 的历史断了：{event['from_state']} 接在 {state} 之后")
            return
        target = event["to_state"]
        if state is not None and target != state and JobState(target) not in TRANSITIONS[JobState(state)]:
            verdict.wrong.append(f"作业 {job_id} 有非法的转移 {state} → {target}")
        if target != state:
            requeues += state is not None and target == "PENDING"
            endings += JobState(target) in TERMINAL_STATES
        state = target
    if state != job["state"]:
        verdict.lost.append(f"作业 {job_id} 的历史停在 {state}，状态却是 {job['state']}")
    if endings > 1:
        verdict.doubled.append(f"作业 {job_id} 有 {endings} 个终态")
    if requeues != job["restart_count"]:
        verdict.wrong.append(f"作业 {job_id} 重新排队 {requeues} 次，计数却是 {job['restart_count']}")


def _judge_resources(cursor: "psycopg.Cursor[dict[str, Any]]", verdict: Verdict) -> None:
    for row in cursor.execute("SELECT job_id, node_name FROM resource_allocations WHERE released_at IS NULL"):
        verdict.leaked.append(f"作业 {row['job_id']} 在 {row['node_name']} 上的分配没有释放")
    for row in cursor.execute(
        "SELECT name, allocated_cpus, allocated_memory, state, drain, reason FROM nodes ORDER BY name"
    ):
        if row["allocated_cpus"] or row["allocated_memory"]:
            verdict.leaked.append(f"节点 {row['name']} 的计数不是零：{row}")
        if row["state"] != "UP" or row["drain"]:
            verdict.wrong.append(f"节点 {row['name']} 没有回来：{row}")


def judge_nodes(system: ChaosSystem, verdict: Verdict, *, stopped: bool) -> None:
    """节点上留下的：作业进程、脚本、cgroup；stopped 为真时系统已停，牧守进程与节点目录也不该在。"""
    verdict.leaked += [f"进程 {pid} 还活着" for pid in system.job_processes()]
    verdict.leaked += [f"脚本 {path} 还在" for path in system.scripts()]
    verdict.leaked += [f"cgroup {path} 还在" for path in system.cgroups(nodes_too=stopped)]
    if stopped:
        verdict.leaked += [f"牧守进程 {pid} 还在" for pid in system.pids("shepherd")]
