"""scns submit --wait：等作业结束，边等边把它的输出原样写出来，返回它的退出码。"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scns_conductor.cli.job_output import follow_output
from scns_conductor.cli.progress_line import ProgressLine

if TYPE_CHECKING:
    from scns_conductor.client import JsonClient
    from scns_conductor.client.output_calls import Stream

LOOK_S = 0.5
FIRST_LOOK_S = 0.02
LOOK_FIELDS = "job_id,array_job_id,state,reason,node_list,exit_code,standard_output,standard_error"


def exit_code_of(state: str, exit_code: str | None) -> int:
    """作业的结局换成本命令的退出码：退出码原样，被信号杀死是 128 加信号，其余没有成功的是 1。"""
    code, _, number = (exit_code or "0:0").partition(":")
    if number.isdigit() and int(number):
        return 128 + int(number)
    if code.isdigit() and int(code):
        return min(int(code), 255)
    return 0 if state == "COMPLETED" else 1


class _Follower(threading.Thread):
    """跟一个流；出的错留在 error 里。"""

    def __init__(self, client: "JsonClient", job_id: str, stream: "Stream", line: ProgressLine) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self._client, self._job_id, self._stream, self._line = client, job_id, stream, line

    def run(self) -> None:
        def write(data: bytes) -> None:
            self._line.write(data, to_stderr=self._stream == "stderr")

        try:
            follow_output(self._client, self._job_id, self._stream, write)
        except Exception as error:  # 交给主线程去说
            self.error = error


def wait_and_stream(client: "JsonClient", job_id: str, *, quiet: bool = False) -> int:
    """等到作业结束，返回退出码；Ctrl-C 只停止等待，作业照常运行。"""
    line = ProgressLine(quiet=quiet)
    try:
        return _wait(client, job_id, line)
    except KeyboardInterrupt:
        line.finish(f"不再等待；作业 {job_id} 照常运行，用 scns logs -f {job_id} 接着看，用 scns cancel {job_id} 取消")
        return 130


def _wait(client: "JsonClient", job_id: str, line: ProgressLine) -> int:
    from scns_conductor.client import TERMINAL_STATES

    followers: list[_Follower] = []
    pause_s = FIRST_LOOK_S
    began = time.monotonic()
    while True:
        rows = _look(client, job_id)
        if rows and any(row.get("array_job_id") for row in rows):
            if all(row["state"] in TERMINAL_STATES for row in rows):
                return _array_ended(job_id, rows, line)
            line.show(_array_described(job_id, rows), f"{time.monotonic() - began:.0f} 秒")
        elif rows:
            job = rows[0]
            if not followers and job["state"] != "PENDING":
                followers = _start_followers(client, job_id, job, line)
            if job["state"] in TERMINAL_STATES:
                break
            line.show(_described(job_id, job), f"{time.monotonic() - began:.0f} 秒")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LOOK_S)
    for follower in followers:
        # 跟到末尾为止；不限时地 join 收不到 Ctrl-C。
        while follower.is_alive():
            follower.join(1.0)
        if follower.error is not None:
            raise follower.error
    final = client.query(job_id)
    detail = final["detail"]
    told = f"作业 {job_id} {final['state']}，退出码 {detail['exit_code'] or '-'}，用时 {final['time']['elapsed_time']}"
    line.finish(told + (f"：{final['error_msg']}" if final["error_msg"] else ""))
    return exit_code_of(final["state"], detail["exit_code"])


def _look(client: "JsonClient", job_id: str) -> list[dict[str, Any]]:
    """现在的样子，数组有几行；服务器暂时不在（重启）则为空，接着等。"""
    from scns_conductor.client import Problem, Unreachable

    try:
        return list(client.jobs(job_id=job_id, fields=LOOK_FIELDS))
    except Unreachable:
        return []
    except Problem as problem:
        if problem.status in (502, 503, 504):
            return []
        raise


def _described(job_id: str, job: Mapping[str, Any]) -> str:
    state = job["state"]
    if state == "PENDING":
        return f"作业 {job_id} 排队中（{job.get('reason') or 'None'}）"
    return f"作业 {job_id} {state}，在 {job.get('node_list') or '-'}"


def _counts(rows: Sequence[Mapping[str, Any]]) -> str:
    states = [str(row["state"]) for row in rows]
    return "，".join(f"{state} {states.count(state)}" for state in sorted(set(states)))


def _array_described(job_id: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return f"作业数组 {job_id}：{_counts(rows)}"


def _array_ended(job_id: str, rows: Sequence[Mapping[str, Any]], line: ProgressLine) -> int:
    """数组的退出码是各任务里最大的（sbatch(1) 的 --wait）；输出各在各的文件里，不显示。"""
    line.finish(f"作业数组 {job_id} 结束：{_counts(rows)}；用 scns logs {job_id}_任务号 看输出")
    return max(exit_code_of(row["state"], row.get("exit_code")) for row in rows)


def _start_followers(client: "JsonClient", job_id: str, job: Mapping[str, Any], line: ProgressLine) -> list[_Follower]:
    """标准输出与标准错误是同一个文件时只跟一个。"""
    streams: tuple[Stream, ...] = ("stdout",)
    if job.get("standard_error") and job["standard_error"] != job.get("standard_output"):
        streams = ("stdout", "stderr")
    followers = [_Follower(client, job_id, stream, line) for stream in streams]
    for follower in followers:
        follower.start()
    return followers
