"""Client：SCNS-Conductor 的 HTTP 接口，一个方法一个端点。"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypedDict
from urllib.parse import quote

from scns_conductor.client.endpoint import find_endpoint
from scns_conductor.client.job_follow import ServerEvent, server_events
from scns_conductor.client.pages import each_job
from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.transport import Transport

Json = dict[str, Any]
Stream = Literal["stdout", "stderr"]
JobAction = Literal["hold", "release", "requeue", "suspend", "resume"]
ControlAction = JobAction | Literal["cancel", "signal"]
# 与 core.states.TERMINAL_STATES 相同（有测试核对）。
TERMINAL_STATES = frozenset(
    {
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "OUT_OF_MEMORY",
        "DEADLINE",
        "BOOT_FAIL",
    }
)


class JobTimes(TypedDict):
    """固定的查询回答里的 time；时刻是 ISO 8601，没有则为 None。"""

    submit_time: str | None
    eligible_time: str | None
    start_time: str | None
    end_time: str | None
    elapsed_time: str
    limit_time: str | None


class JobDetail(TypedDict):
    """固定的查询回答里的 detail；exit_code 是 code:signal。"""

    job_name: str
    user: str
    partition: str
    allocated_cpus: int
    allocated_nodes: int
    node_list: str | None
    exit_code: str | None
    work_dir: str
    data_source: str
    account: str | None


class QueryAnswer(TypedDict):
    """GET /jobs/query/{job_id} 的回答。"""

    job_id: str
    state: str
    error_msg: str | None
    time: JobTimes
    job_log: dict[str, str | None]
    detail: JobDetail


class Submission(TypedDict):
    """批量提交里的一个作业。"""

    job: Json
    script: str


class Client:
    """一个 API 的客户端；可作 with 的对象。不能在线程之间共用，一个线程一个。

    不给 url 就像 scns 命令那样自己找（SCNS_URL、SCNS_DATA_DIR、client.json）。
    服务器拒绝时抛 Problem，连不上抛 Unreachable。patience_s：服务器暂时不行（503）时，读与提交照 Retry-After
    再送，总共至多等这么久；每等一次先叫 on_wait（什么错，等几秒）。
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        data_source: str = "API",
        patience_s: float = 0.0,
        on_wait: Callable[[Problem, float], None] | None = None,
    ) -> None:
        source = ""
        if url is None:
            endpoint = find_endpoint()
            url, token, source = endpoint.url, token or endpoint.token, endpoint.source
        self.transport = Transport(
            url, token, timeout_s=timeout_s, source=source, patience_s=patience_s, on_wait=on_wait
        )
        self._token, self._data_source = token, data_source
        self._submit_headers = {"X-SCNS-Source": data_source}

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def clone(self) -> "Client":
        """同一个系统的另一个客户端，有自己的连接，可给别的线程用。"""
        return Client(self.url, self._token, timeout_s=self.transport.timeout_s, data_source=self._data_source)

    @property
    def url(self) -> str:
        """API 的地址。"""
        return self.transport.url

    @property
    def token(self) -> str | None:
        """在用的令牌。"""
        return self._token

    def close(self) -> None:
        """关掉连接。"""
        self.transport.close()

    def _json(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        return self.transport.request(method, path, query=query, body=body).json()

    def _keyed(self, path: str, body: Any, key: str | None) -> Any:
        # 每次提交都带幂等键：连接断了可以放心重送，不会多出一个作业。
        headers = {**self._submit_headers, "Idempotency-Key": key or os.urandom(16).hex()}
        return self.transport.request("POST", path, body=body, headers=headers).json()

    # ---- 提交 ----

    def submit(self, job: Json, script: str, *, idempotency_key: str | None = None) -> str:
        """提交一份脚本，返回作业号。同一个 idempotency_key 只产生一个作业，缺省每次一个新的。"""
        answer = self._keyed("/jobs/submit", {"job": job, "script": script}, idempotency_key)
        return str(answer["job_id"])

    def submit_batch(self, jobs: Sequence[Submission], *, idempotency_key: str | None = None) -> list[str]:
        """成批提交，全部成功或全部不提交；返回作业号，次序与给的相同。"""
        answer = self._keyed("/jobs/submit/batch", {"jobs": list(jobs)}, idempotency_key)
        return [str(job_id) for job_id in answer["job_ids"]]

    def plan(self, job: Json, script: str) -> Json:
        """假如现在提交，何时、在哪里开始；什么也不留下。"""
        answer: Json = self._json("POST", "/jobs/plan", body={"job": job, "script": script})
        return answer

    # ---- 查询 ----

    def query(self, job_id: str | int) -> QueryAnswer:
        """固定的查询接口。"""
        answer: QueryAnswer = self._json("GET", f"/jobs/query/{_segment(job_id)}")
        return answer

    def job(self, job_id: str | int) -> Json:
        """一个作业的一切；脚本、环境、输出只有本人与管理员看得到。"""
        answer: Json = self._json("GET", f"/jobs/{_segment(job_id)}")
        return answer

    def jobs_page(self, **filters: Any) -> Json:
        """列表的一页 {jobs, next_cursor}；条件见 docs/api.md 的 GET /jobs，列表写成逗号分隔。"""
        answer: Json = self._json("GET", "/jobs", query=filters)
        return answer

    def jobs(self, *, most: int | None = None, **filters: Any) -> Iterator[Json]:
        """逐页取出符合条件的作业；most 是最多几个。"""
        return each_job(self.transport, filters, most)

    def events(self, job_id: str | int) -> list[Json]:
        """作业的历史：每次状态变化一条。"""
        answer = self._json("GET", f"/jobs/{_segment(job_id)}/events")
        found: list[Json] = answer["events"] if isinstance(answer, dict) else answer
        return found

    def script(self, job_id: str | int) -> str:
        """作业的脚本原文。"""
        return self.transport.request("GET", f"/jobs/{_segment(job_id)}/script").body.decode()

    def why(self, job_id: str | int) -> Json:
        """作业为什么还没有开始，预计何时开始。"""
        answer: Json = self._json("GET", f"/jobs/{_segment(job_id)}/why")
        return answer

    def wait(self, job_id: str | int, *, timeout_s: float | None = None) -> QueryAnswer:
        """等到作业结束；到时没有结束抛 TimeoutError。服务器暂时不在（重启、503）会继续等。"""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = 0.02
        while True:
            try:
                answer = self.query(job_id)
                if answer["state"] in TERMINAL_STATES:
                    return answer
            except Unreachable:
                pass
            except Problem as problem:
                if problem.status != 503:
                    raise
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"作业 {job_id} 在 {timeout_s:g} 秒内没有结束")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 1.0)

    # ---- 输出 ----

    def output(
        self,
        job_id: str | int,
        stream: Stream = "stdout",
        *,
        offset: int | None = None,
        length: int | None = None,
        tail: int | None = None,
    ) -> bytes:
        """输出的字节：从 offset 起 length 个，或末尾 tail 个；都不给是全部。"""
        query = {"offset": offset, "length": length, "tail": tail}
        return self.transport.request("GET", f"/jobs/{_segment(job_id)}/logs/{stream}", query=query).body

    def follow(
        self, job_id: str | int, stream: Stream = "stdout", *, offset: int = 0, timeout_s: float = 60.0
    ) -> Iterator[ServerEvent]:
        """边写边读：output、state、end 事件；收到 end 之前断了抛 Unreachable，可从已读的字节数接着 follow。"""
        query = {"follow": True, "offset": offset or None}
        lines = self.transport.stream(f"/jobs/{_segment(job_id)}/logs/{stream}", query=query, timeout_s=timeout_s)
        for event in server_events(lines):
            if event.name == "error":
                found = event.json()
                raise Problem(503, str(found.get("code", "error")), str(found.get("detail", "服务器读不到输出")))
            yield event
            if event.name == "end":
                return
        raise Unreachable("跟随输出的连接断了")

    # ---- 控制 ----

    def cancel(self, job_id: str | int) -> Json:
        """取消作业；已经结束的不变。返回 {job_id, state}。"""
        answer: Json = self._json("POST", f"/jobs/cancel/{_segment(job_id)}")
        return answer

    def signal(self, job_id: str | int, signal: str, *, batch_only: bool = False) -> Json:
        """给运行中的作业发信号，如 USR1；batch_only 只发给脚本本身。"""
        body = {"signal": signal, "batch_only": batch_only}
        answer: Json = self._json("POST", f"/jobs/{_segment(job_id)}/signal", body=body)
        return answer

    def act(self, job_id: str | int, action: JobAction) -> Json:
        """保留、放行、重新排队、挂起、恢复。"""
        answer: Json = self._json("POST", f"/jobs/{_segment(job_id)}/{action}")
        return answer

    def control(
        self,
        action: ControlAction,
        job_ids: Sequence[str] = (),
        conditions: Mapping[str, str] | None = None,
        **options: Any,
    ) -> tuple[list[Json], dict[str, Problem]]:
        """对一批作业（作业号、条件，或两者的交）做一件事：(做成的, 作业号 → 错误)。

        options 是 hold（requeue）、signal 与 target（signal）。两万个也只是一个请求、一个事务。
        """
        body: Json = {"action": action, "job_ids": list(job_ids), **options}
        if conditions:
            body["conditions"] = dict(conditions)
        answer = self._json("POST", "/jobs/control", body=body)
        errors = {each["job_id"]: Problem(each["status"], each["code"], each["detail"]) for each in answer["errors"]}
        return answer["jobs"], errors

    def hold(self, job_id: str | int) -> Json:
        """保留：排队但不启动。"""
        return self.act(job_id, "hold")

    def release(self, job_id: str | int) -> Json:
        """放行被保留的作业。"""
        return self.act(job_id, "release")

    def requeue(self, job_id: str | int) -> Json:
        """重新排队：运行中的先结束，作业号不变。"""
        return self.act(job_id, "requeue")

    def suspend(self, job_id: str | int) -> Json:
        """挂起运行中的作业。"""
        return self.act(job_id, "suspend")

    def resume(self, job_id: str | int) -> Json:
        """恢复挂起的作业。"""
        return self.act(job_id, "resume")

    def update(self, job_id: str | int, changes: Json) -> Json:
        """修改排队中的作业（或降低运行中作业的时限）。"""
        answer: Json = self._json("PATCH", f"/jobs/{_segment(job_id)}", body=changes)
        return answer

    # ---- 作业步 ----

    def create_step(self, job_id: str | int, step: Json) -> Json:
        """在运行中的作业里建立一个作业步；字段见 docs/api.md。此刻放不下抛 Problem（step_busy）。"""
        answer: Json = self._json("POST", f"/jobs/{_segment(job_id)}/steps", body=step)
        return answer

    def steps(self, job_ids: Sequence[str] | None = None, *, live: bool = False) -> list[Json]:
        """这些作业的全部作业步；不给作业号是正在运行的全部。live 为真时先请节点采样一次。"""
        query = {} if job_ids is None else {"job_id": ",".join(job_ids), **({"live": "true"} if live else {})}
        answer: list[Json] = self._json("GET", "/jobs/steps", query=query)["steps"]
        return answer

    def step(self, job_id: str | int, step_id: int) -> Json:
        """一个作业步。"""
        answer: Json = self._json("GET", f"/jobs/{_segment(job_id)}/steps/{step_id}")
        return answer

    def relaunch_step(self, job_id: str | int, step_id: int) -> Json:
        """节点没有按时连过来：把启动的消息再送一遍。"""
        answer: Json = self._json("POST", f"/jobs/{_segment(job_id)}/steps/{step_id}/launch")
        return answer

    def attach_step(self, job_id: str | int, step_id: int, connection: Json) -> Json:
        """请各节点再连一个客户（sattach）；返回还在跑的节点与任务。"""
        answer: Json = self._json("POST", f"/jobs/{_segment(job_id)}/steps/{step_id}/attach", body=connection)
        return answer

    def signal_step(self, job_id: str | int, step_id: int, signal: str) -> Json:
        """给作业步发信号；KILL 结束它。"""
        path = f"/jobs/{_segment(job_id)}/steps/{step_id}/signal"
        answer: Json = self._json("POST", path, body={"signal": signal})
        return answer

    def release_allocation(self, job_id: str | int, exit_status: int = 0) -> Json:
        """交还没有脚本的分配。"""
        path = f"/jobs/{_segment(job_id)}/release_allocation"
        answer: Json = self._json("POST", path, body={"exit_status": exit_status})
        return answer

    # ---- 节点与分区 ----

    def nodes(self) -> list[Json]:
        """全部节点。"""
        found: list[Json] = self._json("GET", "/nodes")["nodes"]
        return found

    def node(self, name: str) -> Json:
        """一个节点。"""
        answer: Json = self._json("GET", f"/nodes/{_segment(name)}")
        return answer

    def delete_node(self, name: str) -> None:
        """删除节点（管理员）；name 可写 n[1-3]。"""
        self.transport.request("DELETE", f"/nodes/{_segment(name)}")

    def update_node(self, name: str, changes: Json) -> Json:
        """排空、恢复、下线一个节点（管理员）。"""
        answer: Json = self._json("PATCH", f"/nodes/{_segment(name)}", body=changes)
        return answer

    def partitions(self) -> list[Json]:
        """全部分区。"""
        found: list[Json] = self._json("GET", "/partitions")["partitions"]
        return found

    def create_partition(self, partition: Json) -> Json:
        """新建分区（管理员）。"""
        answer: Json = self._json("POST", "/partitions", body=partition)
        return answer

    def update_partition(self, name: str, changes: Json) -> Json:
        """修改分区（管理员）。"""
        answer: Json = self._json("PATCH", f"/partitions/{_segment(name)}", body=changes)
        return answer

    def delete_partition(self, name: str) -> None:
        """删除分区（管理员）。"""
        self.transport.request("DELETE", f"/partitions/{_segment(name)}")

    # ---- 预留 ----

    def reservations(self) -> list[Json]:
        """全部预留。"""
        answer: list[Json] = self._json("GET", "/reservations")["reservations"]
        return answer

    def create_reservation(self, reservation: Json) -> Json:
        """新建预留（管理员）；字段见 docs/api.md。"""
        answer: Json = self._json("POST", "/reservations", body=reservation)
        return answer

    def update_reservation(self, name: str, changes: Json) -> Json:
        """修改预留（管理员）。"""
        answer: Json = self._json("PATCH", f"/reservations/{_segment(name)}", body=changes)
        return answer

    def delete_reservation(self, name: str) -> None:
        """删除预留（管理员）。"""
        self.transport.request("DELETE", f"/reservations/{_segment(name)}")

    # ---- 记账 ----

    def accounts(self) -> list[Json]:
        """全部账户。"""
        answer: list[Json] = self._json("GET", "/accounts")["accounts"]
        return answer

    def create_account(self, account: Json) -> Json:
        """新建账户（管理员、Operator）；字段见 docs/accounting.md。"""
        answer: Json = self._json("POST", "/accounts", body=account)
        return answer

    def update_account(self, name: str, changes: Json) -> Json:
        """修改账户。"""
        answer: Json = self._json("PATCH", f"/accounts/{_segment(name)}", body=changes)
        return answer

    def delete_account(self, name: str) -> list[str]:
        """删除账户与它的下级；返回删掉的。"""
        answer: list[str] = self._json("DELETE", f"/accounts/{_segment(name)}")["deleted"]
        return answer

    def users(self) -> list[Json]:
        """有关联的用户。"""
        answer: list[Json] = self._json("GET", "/users")["users"]
        return answer

    def update_user(self, name: str, changes: Json) -> Json:
        """改管理级别与缺省账户。"""
        answer: Json = self._json("PATCH", f"/users/{_segment(name)}", body=changes)
        return answer

    def delete_user(self, name: str) -> None:
        """删除用户的全部关联。"""
        self.transport.request("DELETE", f"/users/{_segment(name)}")

    def associations(self, account: str | None = None, user: str | None = None) -> list[Json]:
        """关联；user 为空文字只要账户自己的。"""
        query = {name: value for name, value in (("account", account), ("user", user)) if value is not None}
        answer: list[Json] = self._json("GET", "/associations", query=query)["associations"]
        return answer

    def create_association(self, association: Json) -> Json:
        """把用户加进账户。"""
        answer: Json = self._json("POST", "/associations", body=association)
        return answer

    def update_association(self, association_id: int, changes: Json) -> Json:
        """改份额、QOS 与上限。"""
        answer: Json = self._json("PATCH", f"/associations/{association_id}", body=changes)
        return answer

    def delete_association(self, association_id: int) -> None:
        """把用户移出账户。"""
        self.transport.request("DELETE", f"/associations/{association_id}")

    def qos(self) -> list[Json]:
        """全部 QOS。"""
        answer: list[Json] = self._json("GET", "/qos")["qos"]
        return answer

    def create_qos(self, qos: Json) -> Json:
        """新建 QOS。"""
        answer: Json = self._json("POST", "/qos", body=qos)
        return answer

    def update_qos(self, name: str, changes: Json) -> Json:
        """修改 QOS。"""
        answer: Json = self._json("PATCH", f"/qos/{_segment(name)}", body=changes)
        return answer

    def delete_qos(self, name: str) -> None:
        """删除 QOS。"""
        self.transport.request("DELETE", f"/qos/{_segment(name)}")

    # ---- 优先级 ----

    def priorities(self, job_ids: Sequence[str] | None = None) -> Json:
        """排队的作业的优先级与各因子：{priorities, weights, priority_type}。"""
        query = {} if job_ids is None else {"job_id": ",".join(job_ids)}
        answer: Json = self._json("GET", "/priorities", query=query)
        return answer

    def shares(self) -> list[Json]:
        """公平份额：[{account, user_name, shares, usage, factor}]。"""
        answer: list[Json] = self._json("GET", "/shares")["shares"]
        return answer

    def share_tree(self) -> Json:
        """公平份额与账户树：{shares, accounts: [{name, parent, shares}]}。"""
        answer: Json = self._json("GET", "/shares")
        return answer

    # ---- 系统 ----

    def dashboard(self) -> Json:
        """各状态的作业数、资源、运行与排队中的作业。"""
        answer: Json = self._json("GET", "/dashboard")
        return answer

    def diag(self) -> Json:
        """调度的统计；键同 slurmrestd 的 statistics，时长的单位是微秒。"""
        answer: Json = self._json("GET", "/diag")["statistics"]
        return answer

    def reset_diag(self) -> Json:
        """统计从头计（管理员）；返回归零之前的。"""
        answer: Json = self._json("POST", "/diag/reset")["statistics"]
        return answer

    def config(self) -> Json:
        """公开的设置。"""
        answer: Json = self._json("GET", "/config")["settings"]
        return answer

    def licenses(self) -> list[Json]:
        """许可证：[{name, total, used, free}]。"""
        answer: list[Json] = self._json("GET", "/licenses")["licenses"]
        return answer

    def usage(self, since: str, until: str = "now") -> Json:
        """一段时间的用量：{since, until, cluster, usage, capacity}。"""
        answer: Json = self._json("GET", "/reports/usage", query={"since": since, "until": until})
        return answer

    def ready(self) -> tuple[bool, Json]:
        """系统是否就绪，以及各部分的状况；不需要令牌。"""
        answer = self.transport.request("GET", "/health/ready", accept=frozenset({503}))
        found: Json = answer.json()
        return answer.status < 400, found


def _segment(value: str | int) -> str:
    return quote(str(value), safe="", errors="replace")
