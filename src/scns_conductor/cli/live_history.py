"""线上系统的历史与现状，经 API 取来：scns simulate --live 与网页的「假如」共用。"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scns_conductor.client.conductor import JsonClient
from scns_conductor.core.recurrence import RECURRING
from scns_conductor.simulator.live import JOB_FIELDS, LiveSystem, began, closely, live_system, live_trace
from scns_conductor.simulator.trace import Trace


@dataclass(frozen=True, slots=True)
class LiveHistory:
    """取来的：踪迹、线上的一切；left_out 为真是作业太多，只取了最近的。"""

    trace: Trace
    system: LiveSystem
    left_out: bool


def read_live(
    client: JsonClient, since: str | None, most: int | None = None, told: Callable[[int], None] | None = None
) -> LiveHistory:
    """since 之后提交的作业（更早的只算用量与占着的节点）；most 是至多取几个，先取最近的。told 收到已经取了几个。"""
    rows, left_out = _jobs(client, most, told, submit_after=since)
    earlier = _jobs(client, most, None, submit_before=since)[0] if since else []
    config, reservations = client.config(), list(client.reservations())
    recurs = any(not set(RECURRING).isdisjoint(each["flags"]) for each in reservations)
    details = {
        job_id: (client.job(job_id)["allocations"], list(client.events(job_id)))
        for job_id in closely(earlier, began(rows))
    }
    limited = "limits" in config["accounting_storage_enforce"]
    system = live_system(
        config=config,
        nodes=client.nodes(),
        partitions=client.partitions(),
        share_tree=client.share_tree(),
        qos=client.qos(),
        rows=rows,
        earlier=earlier,
        accounts=client.accounts() if limited else (),
        associations=client.associations() if limited else (),
        reservations=reservations,
        first_times=client.export_cluster()["reservations"] if recurs else (),
        details=details,
        now_s=time.time(),
    )
    return LiveHistory(live_trace(rows, client.url), system, left_out)


def _jobs(
    client: JsonClient, most: int | None, told: Callable[[int], None] | None, **filters: Any
) -> tuple[list[dict[str, Any]], bool]:
    rows: list[dict[str, Any]] = []
    # 多要一个，好知道还有没有。
    wanted = None if most is None else most + 1
    for row in client.jobs(fields=",".join(JOB_FIELDS), sort="-job_id", most=wanted, **filters):
        rows.append(row)
        if told is not None and len(rows) % 1000 == 0:
            told(len(rows))
    left_out = most is not None and len(rows) > most
    return rows[:most][::-1], left_out
