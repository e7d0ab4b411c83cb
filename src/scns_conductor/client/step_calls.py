"""作业步的端点。"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scns_conductor.client.job_calls import JobId
from scns_conductor.client.request import Json, Request, many, one, plain, segment

if TYPE_CHECKING:
    from scns_conductor.client.answers import Acted, JobStep


class StepCalls:
    """作业步，与没有脚本的分配。"""

    @plain
    def create_step(self, job_id: JobId, step: Mapping[str, Any]) -> "Request[Json]":
        """在运行中的作业里建立一个作业步；字段见 docs/api.md。此刻放不下抛 StepBusy。"""
        return _json("POST", f"/jobs/{segment(job_id)}/steps", dict(step))

    @plain
    def create_het_step(self, job_id: JobId, steps: Sequence[tuple[int, Mapping[str, Any]]]) -> "Request[Json]":
        """在异构作业里建立跨几个部分的一步：(第几个部分, 作业步)；都建立或都不建立。"""
        body = {"steps": [{"component": component, "step": dict(step)} for component, step in steps]}
        return _json("POST", f"/jobs/{segment(job_id)}/steps/het", body)

    @many
    def steps(self, job_ids: Sequence[str] | None = None, *, live: bool = False) -> "Request[JobStep]":
        """这些作业的全部作业步；不给作业号是正在运行的全部。live 为真时先请节点采样一次。"""
        query = {} if job_ids is None else {"job_id": ",".join(job_ids), **({"live": "true"} if live else {})}
        return Request("GET", "/jobs/steps", query=query, within="steps")

    @one
    def step(self, job_id: JobId, step_id: int) -> "Request[JobStep]":
        """一个作业步。"""
        return Request("GET", f"/jobs/{segment(job_id)}/steps/{step_id}")

    @plain
    def relaunch_step(self, job_id: JobId, step_id: int) -> "Request[Json]":
        """节点没有按时连过来：把启动的消息再送一遍。"""
        return _json("POST", f"/jobs/{segment(job_id)}/steps/{step_id}/launch")

    @plain
    def attach_step(self, job_id: JobId, step_id: int, connection: Json) -> "Request[Json]":
        """请各节点再连一个客户（sattach）；返回还在跑的节点与任务。"""
        return _json("POST", f"/jobs/{segment(job_id)}/steps/{step_id}/attach", connection)

    @plain
    def signal_step(self, job_id: JobId, step_id: int, signal: str) -> "Request[Json]":
        """给作业步发信号；KILL 结束它。"""
        return _json("POST", f"/jobs/{segment(job_id)}/steps/{step_id}/signal", {"signal": signal})

    @plain
    def update_step(self, job_id: JobId, step_id: int, time_limit: int | None) -> "Request[Json]":
        """改作业步自己的时限（秒，None 是不限）。"""
        return _json("PATCH", f"/jobs/{segment(job_id)}/steps/{step_id}", {"time_limit": time_limit})

    @one
    def release_allocation(self, job_id: JobId, exit_status: int = 0) -> "Request[Acted]":
        """交还没有脚本的分配。"""
        path = f"/jobs/{segment(job_id)}/release_allocation"
        return Request("POST", path, body={"exit_status": exit_status})


def _json(method: str, path: str, body: Any = None) -> "Request[Json]":
    return Request(method, path, body=body, read=lambda answer: dict(answer.json()))
