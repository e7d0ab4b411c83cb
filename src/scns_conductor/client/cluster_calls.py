"""节点、分区、预留与系统的端点。"""

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from scns_conductor.client.flow import Effect, Emit, Line, Listen, streamed
from scns_conductor.client.job_follow import EventParser, ServerEvent
from scns_conductor.client.problem import Problem, Unreachable
from scns_conductor.client.request import Json, Request, many, one, plain, segment

if TYPE_CHECKING:
    from scns_conductor.client.answers import (
        ClusterApplied,
        ClusterWhy,
        Dashboard,
        Efficiency,
        HistoryArchived,
        HistoryLoaded,
        License,
        Node,
        Notification,
        Partition,
        Reservation,
        Usage,
        UsageSeries,
    )
    from scns_conductor.client.wire import Answer


class ClusterCalls:
    """节点、分区、预留、许可证、总览、诊断。"""

    # ---- 节点与分区 ----

    @many
    def nodes(self) -> "Request[Node]":
        """全部节点。"""
        return Request("GET", "/nodes", within="nodes")

    @one
    def node(self, name: str) -> "Request[Node]":
        """一个节点。"""
        return Request("GET", f"/nodes/{segment(name)}")

    @plain
    def delete_node(self, name: str) -> "Request[None]":
        """删除节点（管理员）；name 可写 n[1-3]。"""
        return Request("DELETE", f"/nodes/{segment(name)}", read=nothing)

    @one
    def update_node(self, name: str, changes: Mapping[str, Any]) -> "Request[Node]":
        """排空、恢复、下线一个节点（管理员）。"""
        return Request("PATCH", f"/nodes/{segment(name)}", body=dict(changes))

    @many
    def declare_nodes(self, node: Mapping[str, Any]) -> "Request[Node]":
        """声明要用时才有的节点（管理员）；name 可写 n[1-3]，字段见 docs/elastic.md。"""
        return Request("POST", "/nodes", body=dict(node), within="nodes")

    @many
    def reboot_nodes(
        self, name: str, *, asap: bool = False, next_state: str | None = None, reason: str | None = None
    ) -> "Request[Node]":
        """重启节点（管理员）；name 可写 n[1-3]，next_state 是 RESUME、DOWN 或不写。"""
        body = {"asap": asap, "next_state": next_state, "reason": reason}
        return Request("POST", f"/nodes/{segment(name)}/reboot", body=body, within="nodes")

    @many
    def cancel_reboot(self, name: str) -> "Request[Node]":
        """撤销还没有开始的重启（管理员）；name 可写 n[1-3]。"""
        return Request("DELETE", f"/nodes/{segment(name)}/reboot", within="nodes")

    @many
    def partitions(self) -> "Request[Partition]":
        """全部分区。"""
        return Request("GET", "/partitions", within="partitions")

    @one
    def partition(self, name: str) -> "Request[Partition]":
        """一个分区。"""
        return Request("GET", f"/partitions/{segment(name)}")

    @one
    def create_partition(self, partition: Mapping[str, Any]) -> "Request[Partition]":
        """新建分区（管理员）。"""
        return Request("POST", "/partitions", body=dict(partition))

    @one
    def update_partition(self, name: str, changes: Mapping[str, Any]) -> "Request[Partition]":
        """修改分区（管理员）。"""
        return Request("PATCH", f"/partitions/{segment(name)}", body=dict(changes))

    @plain
    def delete_partition(self, name: str) -> "Request[None]":
        """删除分区（管理员）。"""
        return Request("DELETE", f"/partitions/{segment(name)}", read=nothing)

    # ---- 预留 ----

    @many
    def reservations(self) -> "Request[Reservation]":
        """全部预留。"""
        return Request("GET", "/reservations", within="reservations")

    @one
    def create_reservation(self, reservation: Mapping[str, Any]) -> "Request[Reservation]":
        """新建预留（管理员）；字段见 docs/api.md。"""
        return Request("POST", "/reservations", body=dict(reservation))

    @one
    def update_reservation(self, name: str, changes: Mapping[str, Any]) -> "Request[Reservation]":
        """修改预留（管理员）。"""
        return Request("PATCH", f"/reservations/{segment(name)}", body=dict(changes))

    @plain
    def delete_reservation(self, name: str) -> "Request[None]":
        """删除预留（管理员）。"""
        return Request("DELETE", f"/reservations/{segment(name)}", read=nothing)

    # ---- 配置即代码 ----

    @one
    def apply_cluster(
        self, content: Mapping[str, Any], *, dry_run: bool = False, prune: bool = False, expect: str | None = None
    ) -> "Request[ClusterApplied]":
        """照 cluster.yaml 的内容改集群（管理员），一个事务；dry_run 只看，expect 是看到的 fingerprint。"""
        query: dict[str, Any] = {"dry_run": dry_run, "prune": prune}
        if expect is not None:
            query["expect"] = expect
        return Request("POST", "/cluster/apply", query=query, body=dict(content))

    @plain
    def export_cluster(self) -> "Request[Json]":
        """此刻的 cluster.yaml 的内容。"""
        return Request("GET", "/cluster/export", read=lambda answer: dict(answer.json()))

    @plain
    def cluster_schema(self) -> "Request[Json]":
        """cluster.yaml 的 JSON Schema。"""
        return Request("GET", "/cluster/schema", read=lambda answer: dict(answer.json()))

    # ---- 系统 ----

    @one
    def dashboard(self) -> "Request[Dashboard]":
        """各状态的作业数、资源、运行与排队中的作业。"""
        return Request("GET", "/dashboard")

    @plain
    def diag(self) -> "Request[Json]":
        """调度的统计；键同 slurmrestd 的 statistics，时长的单位是微秒。"""
        return Request("GET", "/diag", read=lambda answer: dict(answer.json()["statistics"]))

    @plain
    def reset_diag(self) -> "Request[Json]":
        """统计从头计（管理员）；返回归零之前的。"""
        return Request("POST", "/diag/reset", read=lambda answer: dict(answer.json()["statistics"]))

    @plain
    def config(self) -> "Request[Json]":
        """公开的设置。"""
        return Request("GET", "/config", read=lambda answer: dict(answer.json()["settings"]))

    @one
    def cluster_why(self, horizon_s: int = 3600) -> "Request[ClusterWhy]":
        """什么压着利用率，改哪一样最值（管理员、Operator）；看今后 horizon_s 秒。"""
        return Request("GET", "/cluster/why", query={"horizon_s": horizon_s})

    @one
    def archive_history(self, before: str | None = None, directory: str | None = None) -> "Request[HistoryArchived]":
        """归档整个早于 before 的月份里最早的一个（管理员），写在 API 的机器上；done 为假的再来一次。"""
        given = {"before": before, "directory": directory}
        return Request("POST", "/history/archive", body={key: value for key, value in given.items() if value})

    @one
    def load_history(self, folder: str) -> "Request[HistoryLoaded]":
        """装回一个归档了的月份（管理员）：API 的机器上的目录。"""
        return Request("POST", "/history/load", body={"folder": folder})

    @many
    def licenses(self) -> "Request[License]":
        """许可证。"""
        return Request("GET", "/licenses", within="licenses")

    @one
    def usage(self, since: str, until: str = "now") -> "Request[Usage]":
        """一段时间的用量；时刻的写法如 2026-01-31、now-1day。"""
        return Request("GET", "/reports/usage", query={"since": since, "until": until})

    @one
    def usage_series(
        self, since: str, until: str = "now", *, every: str = "day", by: str = "", zone: str = "UTC"
    ) -> "Request[UsageSeries]":
        """一段时间的用量，一格（hour、day、month）一格的；by 是逗号分隔的 account、user、partition、qos、wckey。"""
        query = {"since": since, "until": until, "every": every, "by": by, "zone": zone}
        return Request("GET", "/reports/usage/series", query=query)

    @one
    def efficiency_report(self, since: str, until: str = "now") -> "Request[Efficiency]":
        """这段时间里结束的作业要了多少、用了多少，按账户与用户合计；白占的 CPU 多的在前。"""
        return Request("GET", "/reports/efficiency", query={"since": since, "until": until})

    @streamed
    def simulate(
        self, /, *, since: str = "now-7day", policy: str = "live", timeout_s: float = 60.0, **changes: Any
    ) -> Generator[Effect | Emit[ServerEvent], Any, None]:
        """「假如」：拿集群自己的历史再演一遍；progress 事件若干，最后是 result，内容见 docs/api.md。

        changes 是 add_nodes、remove_nodes、cap_time_limit、scale_load、user_jobs、user_cpus，写法同 scns simulate。
        算不成抛 Problem，断了抛 Unreachable；不再迭代就停下计算。
        """
        coming = yield Listen("/simulate", {"since": since, "policy": policy, **changes}, timeout_s)
        parser = EventParser()
        while (line := (yield Line(coming))) is not None:
            event = parser.feed(line)
            if event is None:
                continue
            if event.name == "failed":
                found = event.json()
                raise Problem(
                    500,
                    str(found.get("code", "failed")),
                    str(found.get("detail", "没有算成")),
                    errors=found.get("errors", []),
                )
            yield Emit(event)
            if event.name == "result":
                return
        raise Unreachable("「假如」的连接断了")

    @many
    def notifications(
        self, *, job_id: str | None = None, state: str | None = None, limit: int = 100, before: int | None = None
    ) -> "Request[Notification]":
        """作业的邮件（管理员是全部的），新的在前；state 是 QUEUED、SENT、DEAD。"""
        query = {"job_id": job_id, "state": state, "limit": limit, "before": before}
        return Request(
            "GET", "/notifications", within="notifications",
            query={name: value for name, value in query.items() if value is not None},
        )  # fmt: skip

    @plain
    def ready(self) -> "Request[tuple[bool, Json]]":
        """系统是否就绪，以及各部分的状况；不需要令牌。"""
        return Request(
            "GET", "/health/ready", accept=frozenset({503}),
            read=lambda answer: (answer.status < 400, dict(answer.json())),
        )  # fmt: skip


def nothing(answer: "Answer") -> None:
    """没有内容的回答。"""
