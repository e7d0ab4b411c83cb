"""真的情形：在一个真系统上造出一个作业等着的原因，问它为什么，照建议去改，看说的话有没有应验。

一个 Slot 是几个节点、一个分区、一个账户，互不相干：几个情形可以同时跑。scripts/why_truth.py 与 test_why_truth 共用。
"""

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any

from running_system import RunningSystem, as_user, wait_until

# 机器忙时，启动一个作业、送一条消息可以慢这么多秒；说好的时刻算到它为止。
LATE_S = 8.0
# 预计的时刻远于此的，不等它应验。
PATIENCE_S = 45.0
# 照建议去改之前，人要看一会儿（秒）。
READING_S = (0.0, 4.0)


@dataclass
class Planted:
    """造好的情形：等着的是 job；应说的原因码、话里该有与不该有的字；dated 是该不该有预计的时刻（None 不管）。"""

    job: str
    reasons: set[str]
    words: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    dated: bool | None = None
    # 必须有的建议（改哪个字段）；建议里绝不能有的。
    suggested: tuple[str, ...] = ()
    unsuggested: tuple[str, ...] = ()
    # 该照预计启动（至迟）。
    starts: bool = True
    # 造完之后还要看的；返回错处。
    also: Callable[[], list[str]] = field(default=list)


@dataclass
class Verdict:
    """一个情形的结果；mistakes 空着就是都对。"""

    name: str
    mistakes: list[str] = field(default_factory=list)
    reason: str = ""
    text: str = ""
    suggested: int = 0
    came_true: int = 0
    dated: int = 0
    kept: int = 0


class Slot:
    """一块地方：自己的节点、分区与账户。"""

    def __init__(self, system: RunningSystem, admin: RunningSystem, number: int, nodes: list[str]) -> None:
        # bob 是另一个用户。
        self.system, self.admin, self.bob = system, admin, as_user(admin, "bob")
        self.name = f"p{number}"
        self.account = f"a{number}"
        self.qos = f"q{number}"
        # 它抢得了 qos 的。
        self.urgent = f"h{number}"
        self.license = f"lic{number}"
        self.nodes = nodes
        self._partitions = [self.name]
        self._reservations: list[str] = []
        self.partition(self.name)

    def call(self, method: str, path: str, body: Any = None, *, admin: bool = False) -> Any:
        status, answer = (self.admin if admin else self.system).call(method, path, body)
        assert status < 300, (method, path, body, status, answer)
        return answer

    def partition(self, name: str, **values: Any) -> str:
        """建一个只给这块地方用的分区。"""
        body = {"name": name, "nodes": ",".join(self.nodes), "allow_accounts": [self.account], **values}
        self.call("POST", "/partitions", body, admin=True)
        if name != self.name:
            self._partitions.append(name)
        return name

    def reserve(self, name: str, **values: Any) -> str:
        name = f"{self.name}-{name}"
        self.call("POST", "/reservations", {"name": name, **values}, admin=True)
        self._reservations.append(name)
        return name

    def submit(self, script: str, *, by: RunningSystem | None = None, **job: Any) -> str:
        job.setdefault("partition", self.name)
        job.setdefault("account", self.account)
        job.setdefault("memory_per_node", "64M")
        return (by or self.system).submit(f"#!/bin/sh\n{script}\n", **job)

    def run(self, seconds: float, limit: str, **job: Any) -> str:
        """一个已经在跑的作业。"""
        job_id = self.submit(f"exec sleep {seconds:g}", time_limit=limit, **job)
        wait_until(lambda: self.show(job_id)["state"] == "RUNNING", 60, f"{job_id} 在跑：{self.show(job_id)}")
        return job_id

    def wait(self, limit: str | None, **job: Any) -> str:
        """一个等着的作业：已经写下了原因。"""
        if limit is not None:
            job["time_limit"] = limit
        job_id = self.submit("exec sleep 1", **job)
        self.told(job_id)
        return job_id

    def told(self, job_id: str, *reasons: str) -> None:
        def explained() -> bool:
            found = self.show(job_id)
            assert found["state"] == "PENDING", found
            told = found["reason"] not in (None, "None")
            return told and (not reasons or found["reason"] in reasons)

        wait_until(explained, 60, f"{job_id} 的原因 {reasons}：{self.show(job_id)['reason']}")

    def show(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/jobs/{job_id}")
        return found

    def why(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/jobs/{job_id}/why")
        return found

    def latest_start(self, job_id: str, known: int) -> float | None:
        """它（数组则是第 known 个之后的任务）的开始；还没有是 None。"""
        jobs = self.call("GET", f"/jobs?job_id={job_id}&fields=job_id,start_time")["jobs"]
        starts = sorted(moment(job["start_time"]) for job in jobs if job["start_time"] is not None)
        return starts[known] if len(starts) > known else None

    def begun(self, job_id: str) -> int:
        """已经开始了几个（数组的任务）。"""
        jobs = self.call("GET", f"/jobs?job_id={job_id}&fields=job_id,start_time")["jobs"]
        return sum(job["start_time"] is not None for job in jobs)

    def clear(self) -> None:
        """什么也不留下。"""

        def cancelled() -> bool:
            jobs = self.call("GET", f"/jobs?account={self.account}&state=PENDING,RUNNING,SUSPENDED&limit=500")["jobs"]
            for job in jobs:
                self.admin.call("POST", f"/jobs/cancel/{job['job_id']}")
            return not jobs

        wait_until(cancelled, 60, f"{self.name} 没有作业了")
        for name in self._reservations:
            self.admin.call("DELETE", f"/reservations/{name}")
        self._reservations.clear()
        for name in self._partitions[1:]:
            self.admin.call("DELETE", f"/partitions/{name}")
        del self._partitions[1:]
        self.call("PATCH", f"/partitions/{self.name}", {"state": "UP", "max_time": None, "max_nodes": None}, admin=True)
        for node in self.nodes:
            found = self.call("GET", f"/nodes/{node}")
            if found["drain"]:
                self.call("PATCH", f"/nodes/{node}", {"state": "RESUME"}, admin=True)


Situation = Callable[[Slot, random.Random], Planted]
SITUATIONS: dict[str, Situation] = {}


def situation(make: Situation) -> Situation:
    """记下一种情形；名字是函数名。"""
    SITUATIONS[make.__name__] = make
    return make


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# ---- 缺资源 ----


@situation
def one_node_is_full(slot: Slot, rng: random.Random) -> Planted:
    seconds = rng.randint(8, 20)
    holders = [slot.run(seconds + 60, f"0:{seconds}", cpus_per_task=4) for _ in slot.nodes]
    job = slot.wait("0:30", cpus_per_task=rng.randint(1, 4))
    return Planted(job, {"Resources"}, (holders[0], "CPU"), dated=True)


@situation
def memory_is_short(slot: Slot, rng: random.Random) -> Planted:
    first, last = rng.randint(10, 14), rng.randint(15, 20)
    holders = [slot.run(60, f"0:{seconds}", memory_per_node="7G") for seconds in (first, last)]
    job = slot.wait("0:30", memory_per_node=f"{rng.randint(2, 8)}G")
    return Planted(job, {"Resources"}, ("内存", holders[0]), dated=True, suggested=("memory_per_node",))


@situation
def gpus_are_short(slot: Slot, rng: random.Random) -> Planted:
    ends = (rng.randint(10, 14), rng.randint(15, 20))
    holders = [
        slot.run(60, f"0:{seconds}", tres_per_node="gpu:1", required_nodes=node)
        for seconds, node in zip(ends, slot.nodes, strict=True)
    ]
    job = slot.wait("0:30", tres_per_node="gpu:2")
    return Planted(job, {"Resources"}, ("gpu", holders[0]), dated=True, suggested=("tres_per_node",))


@situation
def a_second_node_is_busy(slot: Slot, rng: random.Random) -> Planted:
    seconds = rng.randint(8, 20)
    holder = slot.run(seconds + 60, f"0:{seconds}", cpus_per_task=rng.randint(2, 4))
    job = slot.wait("0:30", nodes="2", tasks=2, cpus_per_task=3)
    return Planted(job, {"Resources"}, (holder, "CPU", "2 个节点"), dated=True)


@situation
def memory_on_two_nodes(slot: Slot, rng: random.Random) -> Planted:
    holder = slot.run(60, f"0:{rng.randint(8, 20)}", memory_per_node="6G")
    job = slot.wait("0:30", nodes="2", tasks=2, memory_per_node="4G")
    return Planted(job, {"Resources"}, (holder, "内存"), dated=True)


@situation
def tasks_are_too_many(slot: Slot, rng: random.Random) -> Planted:
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", cpus_per_task=2)
    job = slot.wait("0:30", nodes="2", tasks=8)
    return Planted(job, {"Resources"}, (holder,), dated=True, suggested=("tasks",))


@situation
def a_whole_node_is_wanted(slot: Slot, rng: random.Random) -> Planted:
    holders = [slot.run(60, f"0:{rng.randint(10, 20)}") for _ in range(2)]
    for node in slot.nodes:
        if all(slot.show(each)["node_list"] != node for each in holders):
            holders.append(slot.run(60, "0:20", required_nodes=node))
    job = slot.wait("0:30", exclusive=True)
    return Planted(job, {"Resources"}, ("独占",), dated=True, suggested=("exclusive",))


@situation
def the_named_node_is_busy(slot: Slot, rng: random.Random) -> Planted:
    node = rng.choice(slot.nodes)
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", cpus_per_task=3, required_nodes=node)
    job = slot.wait("0:30", cpus_per_task=2, required_nodes=node)
    return Planted(job, {"Resources"}, (holder, node), ("推迟",), dated=True, suggested=("required_nodes",))


@situation
def the_other_node_is_excluded(slot: Slot, rng: random.Random) -> Planted:
    busy, free = slot.nodes if rng.random() < 0.5 else slot.nodes[::-1]
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", cpus_per_task=4, required_nodes=busy)
    job = slot.wait("0:30", excluded_nodes=free)
    return Planted(job, {"Resources"}, (holder,), dated=True, suggested=("excluded_nodes",))


@situation
def the_holder_has_no_limit(slot: Slot, rng: random.Random) -> Planted:
    holder = slot.run(600, "UNLIMITED", nodes="2", tasks=2, cpus_per_task=4)
    job = slot.wait("0:30", cpus_per_task=rng.randint(1, 4))
    return Planted(job, {"Resources"}, ("没有时限", holder), dated=False, starts=False)


@situation
def a_node_is_drained(slot: Slot, rng: random.Random) -> Planted:
    node = rng.choice(slot.nodes)
    slot.call("PATCH", f"/nodes/{node}", {"state": "DRAIN", "reason": "fan"}, admin=True)
    job = slot.wait("0:30", nodes="2", tasks=2)
    return Planted(job, {"ReqNodeNotAvail"}, (node, "排空"), ("没有时限",), dated=False, starts=False,
                   suggested=("nodes",))  # fmt: skip


# ---- 排在后面 ----


@situation
def a_head_job_keeps_the_free_node(slot: Slot, rng: random.Random) -> Planted:
    slot.run(900, f"{rng.randint(8, 14)}", cpus_per_task=4)
    head = slot.wait("5", nodes="2", tasks=2, cpus_per_task=4)
    job = slot.wait("30", cpus_per_task=rng.randint(1, 4))
    return Planted(job, {"Resources"}, (head, "推迟"), dated=True, suggested=("time_limit",))


@situation
def a_head_job_starts_too_soon_to_squeeze_in(slot: Slot, rng: random.Random) -> Planted:
    """离队首开始只有不到两分钟：不能说一个来不及用的数。"""
    slot.run(900, f"1:{rng.randint(20, 59)}", cpus_per_task=4)
    head = slot.wait("5", nodes="2", tasks=2, cpus_per_task=4)
    job = slot.wait("4", cpus_per_task=2)
    return Planted(job, {"Resources"}, (head,), dated=True)


@situation
def only_real_competitors_are_ahead(slot: Slot, rng: random.Random) -> Planted:
    other = slot.partition(f"{slot.name}-side", nodes=slot.nodes[1])
    own = slot.partition(f"{slot.name}-own", nodes=slot.nodes[0])
    slot.run(60, "0:30", partition=other, cpus_per_task=4)
    slot.run(60, f"0:{rng.randint(10, 20)}", partition=own, cpus_per_task=4)
    for _ in range(rng.randint(1, 4)):
        slot.wait("5", partition=other, cpus_per_task=4)
    ahead = slot.wait("0:10", partition=own, cpus_per_task=4)
    job = slot.wait("0:30", partition=own, cpus_per_task=4)
    return Planted(job, {"Resources"}, ("前面有 1 个", ahead), dated=True)


@situation
def the_minimum_time_is_respected(slot: Slot, rng: random.Random) -> Planted:
    slot.run(900, "8", cpus_per_task=4)
    head = slot.wait("5", nodes="2", tasks=2, cpus_per_task=4)
    job = slot.wait("30", cpus_per_task=1, time_minimum=str(rng.randint(9, 12)))
    return Planted(job, {"Resources"}, (head,), dated=True)


# ---- 挂起 ----


@situation
def the_holder_is_suspended(slot: Slot, rng: random.Random) -> Planted:
    holder = slot.run(600, "0:30", cpus_per_task=4, required_nodes=slot.nodes[0])
    slot.call("POST", f"/jobs/{holder}/suspend")
    wait_until(lambda: slot.show(holder)["state"] == "SUSPENDED", 60)
    job = slot.wait("1", nodes="2", tasks=2, cpus_per_task=4)

    def backfills() -> list[str]:
        small = slot.submit("true", time_limit="20", cpus_per_task=2)
        wait_until(lambda: slot.show(small)["state"] == "COMPLETED", 60, f"{small} 回填")
        return []

    return Planted(job, {"Resources"}, (holder, "挂起", "alice"), dated=False, starts=False, also=backfills)


@situation
def the_holder_was_resumed(slot: Slot, rng: random.Random) -> Planted:
    holder = slot.run(600, f"0:{rng.randint(12, 20)}", cpus_per_task=4, required_nodes=slot.nodes[0])
    slot.call("POST", f"/jobs/{holder}/suspend")
    job = slot.wait("1", nodes="2", tasks=2, cpus_per_task=4)
    wait_until(lambda: "挂起" in slot.why(job)["text"], 60)
    slot.call("POST", f"/jobs/{holder}/resume")
    wait_until(lambda: slot.why(job)["expected_start_time"], 60)
    return Planted(job, {"Resources"}, (holder,), ("挂起",), dated=True)


# ---- 还不能排的 ----


@situation
def it_is_held(slot: Slot, rng: random.Random) -> Planted:
    by_admin = rng.random() < 0.5
    slot.run(60, "0:40", nodes="2", tasks=2, cpus_per_task=4)
    job = slot.wait("0:30")
    (slot.admin if by_admin else slot.system).call("POST", f"/jobs/{job}/hold")
    slot.told(job, "JobHeldAdmin", "JobHeldUser")
    name = "root" if by_admin else "alice"
    return Planted(job, {"JobHeldAdmin" if by_admin else "JobHeldUser"}, (name, "scns release"), dated=False,
                   starts=False)  # fmt: skip


@situation
def it_was_submitted_held(slot: Slot, rng: random.Random) -> Planted:
    job = slot.wait("0:30", hold=True)
    return Planted(job, {"JobHeldUser"}, ("alice", "提交时", "scns release"), dated=False, starts=False)


@situation
def its_begin_time_is_ahead(slot: Slot, rng: random.Random) -> Planted:
    job = slot.wait("0:30", begin_time=f"now+{rng.randint(10, 25)}seconds")
    return Planted(job, {"BeginTime"}, ("开始时刻",), dated=True)


@situation
def its_begin_time_is_ahead_and_the_nodes_are_busy(slot: Slot, rng: random.Random) -> Planted:
    holder = slot.run(600, "0:25", nodes="2", tasks=2, cpus_per_task=4)
    job = slot.wait("0:30", begin_time=f"now+{rng.randint(10, 15)}seconds")
    return Planted(job, {"BeginTime"}, ("开始时刻", holder), dated=True)


@situation
def it_waits_for_a_running_job(slot: Slot, rng: random.Random) -> Planted:
    parent = slot.run(60, f"0:{rng.randint(10, 20)}")
    job = slot.wait("0:30", dependency=f"afterany:{parent}")
    return Planted(job, {"Dependency"}, (parent, "RUNNING", "至迟"), dated=True)


@situation
def it_waits_for_a_waiting_job(slot: Slot, rng: random.Random) -> Planted:
    slot.run(60, f"0:{rng.randint(8, 14)}", nodes="2", tasks=2, cpus_per_task=4)
    parent = slot.wait("0:10", cpus_per_task=4)
    job = slot.wait("0:30", dependency=f"afterany:{parent}")
    return Planted(job, {"Dependency"}, (parent, "PENDING"), dated=True)


@situation
def its_parent_failed(slot: Slot, rng: random.Random) -> Planted:
    code = rng.randint(1, 9)
    parent = slot.submit(f"exit {code}", time_limit="1")
    slot.system.wait_state(parent, "FAILED")
    job = slot.wait("0:30", dependency=f"afterok:{parent}")
    slot.told(job, "DependencyNeverSatisfied")
    return Planted(job, {"DependencyNeverSatisfied"}, (parent, "FAILED", f"{code}:0"), dated=False, starts=False)


@situation
def one_of_a_name_at_a_time(slot: Slot, rng: random.Random) -> Planted:
    first = slot.run(60, f"0:{rng.randint(10, 15)}", name=f"only-{slot.name}")
    job = slot.wait("0:30", name=f"only-{slot.name}", dependency="singleton")
    return Planted(job, {"Dependency"}, (first, "同名"), dated=True)


@situation
def the_array_is_throttled(slot: Slot, rng: random.Random) -> Planted:
    most = rng.randint(1, 2)
    array = slot.submit("exec sleep 60", time_limit=f"0:{rng.randint(10, 16)}", array=f"0-5%{most}")
    slot.told(array, "JobArrayTaskLimit")
    return Planted(array, {"JobArrayTaskLimit"}, (f"{array}_0", f"%{most}"), dated=True,
                   suggested=("array_max_tasks",), starts=False)  # fmt: skip


@situation
def the_partition_allows_less_time(slot: Slot, rng: random.Random) -> Planted:
    name = slot.partition(f"{slot.name}-short")
    slot.run(60, "0:40", nodes="2", tasks=2, cpus_per_task=1)
    job = slot.submit("exec sleep 1", partition=name, time_limit="120", hold=True)
    most = rng.randint(10, 60)
    slot.call("PATCH", f"/partitions/{name}", {"max_time": most}, admin=True)
    slot.call("POST", f"/jobs/{job}/release")
    slot.told(job, "PartitionTimeLimit")
    return Planted(job, {"PartitionTimeLimit"}, (name,), dated=False, starts=False,
                   suggested=("time_limit",))  # fmt: skip


@situation
def the_partition_is_down(slot: Slot, rng: random.Random) -> Planted:
    name = slot.partition(f"{slot.name}-down", state="DOWN")
    job = slot.wait("5", partition=name)
    return Planted(job, {"PartitionDown"}, (name,), dated=False, starts=False, suggested=("partition",))


@situation
def one_of_its_partitions_is_down(slot: Slot, rng: random.Random) -> Planted:
    """列了两个分区，节点空着的那个是 DOWN：它帮不上忙。"""
    busy = slot.partition(f"{slot.name}-busy", nodes=slot.nodes[0])
    down = slot.partition(f"{slot.name}-down", nodes=slot.nodes[1], state="DOWN")
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", partition=busy, cpus_per_task=4)
    job = slot.wait("0:30", partition=f"{busy},{down}", cpus_per_task=2)
    return Planted(job, {"Resources"}, (holder,), (slot.nodes[1],), dated=True)


@situation
def one_of_its_partitions_denies_it(slot: Slot, rng: random.Random) -> Planted:
    busy = slot.partition(f"{slot.name}-busy", nodes=slot.nodes[0])
    barred = slot.partition(f"{slot.name}-barred", nodes=slot.nodes[1])
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", partition=busy, cpus_per_task=4)
    job = slot.submit("exec sleep 1", partition=f"{busy},{barred}", time_limit="0:30", cpus_per_task=2, hold=True)
    slot.call("PATCH", f"/partitions/{barred}", {"allow_accounts": ["nobody"]}, admin=True)
    slot.call("POST", f"/jobs/{job}/release")
    slot.told(job, "Resources")
    return Planted(job, {"Resources"}, (holder,), (slot.nodes[1],), dated=True)


@situation
def the_deadline_cannot_be_met(slot: Slot, rng: random.Random) -> Planted:
    slot.run(900, "10", nodes="2", tasks=2, cpus_per_task=4)
    wanted = {
        "partition": slot.name, "account": slot.account, "time_limit": "1", "current_working_directory": "/tmp",
        "deadline": f"now+{rng.randint(150, 240)}seconds",
    }  # fmt: skip
    # 提交时就说；机器太忙、调度器三秒里没有答，就不说：再提交一次。
    answer = slot.call("POST", "/jobs/submit", {"job": wanted, "script": "#!/bin/sh\n"})
    for _ in range(3):
        if answer.get("warnings"):
            break
        slot.call("POST", f"/jobs/cancel/{answer['job_id']}")
        answer = slot.call("POST", "/jobs/submit", {"job": wanted, "script": "#!/bin/sh\n"})
    slot.told(answer["job_id"])

    def warned() -> list[str]:
        return [] if any("赶不上期限" in text for text in answer.get("warnings", ())) else [f"提交时没有说：{answer}"]

    return Planted(
        answer["job_id"],
        {"Resources"},
        ("期限", "最晚"),
        dated=False,
        starts=False,
        suggested=("deadline",),
        also=warned,
    )


@situation
def history_says_when(slot: Slot, rng: random.Random) -> Planted:
    """同名的作业每次只跑几秒，时限写了十分钟：至迟十分钟之后，多半几秒之后，而且真的。"""
    name, seconds = f"quick-{slot.name}-{rng.randint(0, 10**6)}", rng.randint(6, 9)
    for _ in range(2):
        slot.system.wait_state(slot.submit(f"exec sleep {seconds}", time_limit="10", name=name), "COMPLETED")
    slot.run(seconds, "10", name=name, nodes="2", tasks=2, cpus_per_task=4)
    job = slot.wait("1", cpus_per_task=2)
    answer = slot.why(job)

    def comes_true() -> list[str]:
        probable = answer["probable_start_time"]
        if probable is None or moment(probable) > time.time() + 60:
            return [f"多半的时刻是 {probable}"]
        wait_until(lambda: slot.show(job)["start_time"] is not None, 60)
        late = moment(slot.show(job)["start_time"]) - moment(probable)
        return [] if abs(late) < LATE_S else [f"多半 {probable} 开始，差了 {late:.1f} 秒"]

    return Planted(job, {"Resources"}, ("多半", "至迟"), dated=True, starts=False, also=comes_true)


# ---- 预留 ----


@situation
def a_reservation_comes_first(slot: Slot, rng: random.Random) -> Planted:
    name = slot.reserve("maint", nodes=",".join(slot.nodes), start_time=f"now+{rng.randint(8, 12)}minutes",
                        duration="10", flags=["MAINT"])  # fmt: skip
    job = slot.wait("60", cpus_per_task=2)
    return Planted(job, {"ReqNodeNotAvail"}, (name,), dated=True, suggested=("time_limit",))


@situation
def its_own_reservation_is_ahead(slot: Slot, rng: random.Random) -> Planted:
    name = slot.reserve("class", nodes=slot.nodes[0], users=["alice"], duration="10",
                        start_time=f"now+{rng.randint(12, 25)}seconds")  # fmt: skip
    job = slot.wait("0:30", reservation=name)
    return Planted(job, {"Reservation"}, (name,), dated=True)


@situation
def its_own_reservation_is_full(slot: Slot, rng: random.Random) -> Planted:
    name = slot.reserve("class", nodes=slot.nodes[0], users=["alice"], duration="10", start_time="now")
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", reservation=name, cpus_per_task=4)
    job = slot.wait("0:30", reservation=name, cpus_per_task=2)
    return Planted(job, {"Resources"}, (holder, "CPU"), ("没有时限", "推迟"), dated=True)


@situation
def busy_until_a_reservation(slot: Slot, rng: random.Random) -> Planted:
    """在跑的结束之后紧接着是预留：预计在预留之后，话里要有它的名字。"""
    holder = slot.run(900, "1", nodes="2", tasks=2, cpus_per_task=4)
    name = slot.reserve("maint", nodes=",".join(slot.nodes), start_time=f"now+{rng.randint(100, 160)}seconds",
                        duration="3", flags=["MAINT"])  # fmt: skip
    job = slot.wait("10", cpus_per_task=2)
    return Planted(job, {"Resources", "ReqNodeNotAvail"}, (holder, name), dated=True)


# ---- 许可证与上限 ----


@situation
def licenses_are_out(slot: Slot, rng: random.Random) -> Planted:
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", licenses=f"{slot.license}:2")
    job = slot.wait("0:30", licenses=f"{slot.license}:{rng.randint(1, 2)}")
    return Planted(job, {"Licenses"}, (slot.license, holder), dated=True, suggested=("licenses",))


def _qos(slot: Slot, **limits: Any) -> None:
    slot.call("PATCH", f"/qos/{slot.qos}", {**_NO_LIMITS, **limits}, admin=True)


_NO_LIMITS: dict[str, Any] = {
    "max_jobs_per_user": None, "max_wall": None, "grp_tres": None, "grp_tres_run_mins": None, "grp_tres_mins": None,
    "preempt_mode": None, "preempt_exempt_time": None,
}  # fmt: skip


@situation
def the_qos_allows_one_job(slot: Slot, rng: random.Random) -> Planted:
    _qos(slot, max_jobs_per_user=1)
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", qos=slot.qos)
    job = slot.wait("0:30", qos=slot.qos)
    return Planted(job, {"QOSMaxJobsPerUserLimit"}, (holder, "MaxJobsPerUser"), dated=True, suggested=("qos",))


@situation
def the_qos_allows_few_cpus(slot: Slot, rng: random.Random) -> Planted:
    _qos(slot, grp_tres="cpu=4")
    holder = slot.run(60, f"0:{rng.randint(10, 20)}", qos=slot.qos, cpus_per_task=3)
    job = slot.wait("0:30", qos=slot.qos, cpus_per_task=2)
    return Planted(job, {"QOSGrpCpuLimit"}, (holder,), dated=True, suggested=("cpus_per_task",))


@situation
def the_qos_allows_few_cpu_minutes_at_once(slot: Slot, rng: random.Random) -> Planted:
    _qos(slot, grp_tres_run_mins="cpu=10")
    holder = slot.run(900, "9", qos=slot.qos)
    job = slot.wait("1:10", qos=slot.qos)
    return Planted(job, {"QOSGrpCPURunMinutesLimit"}, (holder, "GrpTRESRunMins", "1.17 分钟"), dated=True)


@situation
def the_qos_allows_less_time(slot: Slot, rng: random.Random) -> Planted:
    _qos(slot)
    job = slot.submit("exec sleep 1", qos=slot.qos, time_limit="120", hold=True)
    _qos(slot, max_wall=rng.randint(10, 60))
    slot.call("POST", f"/jobs/{job}/release")
    slot.told(job, "QOSMaxWallDurationPerJobLimit")
    return Planted(job, {"QOSMaxWallDurationPerJobLimit"}, (slot.qos,), dated=False, starts=False,
                   suggested=("time_limit",))  # fmt: skip


# ---- 与别人隔开 ----


@situation
def the_nodes_are_kept_for_another_user(slot: Slot, rng: random.Random) -> Planted:
    ends = (rng.randint(10, 14), rng.randint(15, 20))
    holders = [
        slot.run(60, f"0:{seconds}", by=slot.bob, exclusive="user", required_nodes=node)
        for seconds, node in zip(ends, slot.nodes, strict=True)
    ]
    job = slot.wait("0:30", cpus_per_task=rng.randint(1, 3))
    return Planted(job, {"Resources"}, (holders[0], "只许用户 bob 的作业"), ("推迟",), dated=True)


@situation
def the_nodes_are_kept_for_a_label(slot: Slot, rng: random.Random) -> Planted:
    label = f"red-{slot.name}"
    holders = [
        slot.run(60, f"0:{rng.randint(10, 20)}", exclusive="mcs", mcs_label=label, required_nodes=node)
        for node in slot.nodes
    ]
    own = {"mcs_label": "blue"} if rng.random() < 0.5 else {}
    job = slot.wait("0:30", required_nodes=slot.nodes[0], **own)
    return Planted(job, {"Resources"}, (holders[0], f"只许标签 {label} 的作业"), ("推迟",), dated=True)


@situation
def one_node_is_kept_and_the_other_is_full(slot: Slot, rng: random.Random) -> Planted:
    kept = slot.run(60, f"0:{rng.randint(10, 14)}", by=slot.bob, exclusive="user", required_nodes=slot.nodes[0])
    slot.run(60, f"0:{rng.randint(16, 20)}", cpus_per_task=4, required_nodes=slot.nodes[1])
    job = slot.wait("0:30", cpus_per_task=2)
    return Planted(job, {"Resources"}, (kept, "只许用户 bob 的作业", slot.nodes[0], "CPU"), ("推迟",), dated=True)


@situation
def it_wants_nodes_without_others(slot: Slot, rng: random.Random) -> Planted:
    holders = [slot.run(60, f"0:{rng.randint(10, 20)}", by=slot.bob, required_nodes=node) for node in slot.nodes]
    if rng.random() < 0.5:
        own, whose = {"exclusive": "user"}, "用户 alice"
    else:
        own, whose = {"exclusive": "mcs", "mcs_label": slot.name}, f"标签 {slot.name}"
    job = slot.wait("0:30", required_nodes=slot.nodes[1], **own)
    words = (holders[1], f"它的节点只许{whose} 的作业")
    return Planted(job, {"Resources"}, words, ("推迟",), dated=True)


@situation
def it_would_keep_the_head_out(slot: Slot, rng: random.Random) -> Planted:
    """alice 的节点上还放得下她的，可是会把排在前面的 bob 挡到它自己结束。"""
    node = rng.choice(slot.nodes)
    slot.run(900, f"0:{rng.randint(15, 25)}", exclusive="user", required_nodes=node)
    head = slot.submit("exec sleep 1", by=slot.bob, time_limit="0:10", required_nodes=node)
    slot.told(head)
    job = slot.wait("10", exclusive="user", required_nodes=node)
    return Planted(job, {"Resources"}, (head, "推迟"), dated=True)


# ---- 轮流用 CPU ----

# 时间片（秒）：造得出来、等得了。
SLICE_S = 8


def _sharing(slot: Slot, most: int) -> str:
    return slot.partition(f"{slot.name}-gang", oversubscribe=f"force:{most}", nodes=slot.nodes[0])


@situation
def it_waits_for_its_time_slice(slot: Slot, rng: random.Random) -> Planted:
    """一个在走，一个停着；它是第三个。"""
    name = _sharing(slot, 3)
    first, second = (slot.run(600, "20", partition=name, cpus_per_task=4) for _ in range(2))
    job = slot.wait("5", partition=name, cpus_per_task=rng.randint(2, 4))
    return Planted(job, {"Resources"}, ("轮流用 CPU", first, second, "下一次换"), ("推迟",), dated=True)


@situation
def its_cpus_are_shared_out(slot: Slot, rng: random.Random) -> Planted:
    """一个 CPU 至多分给两个，都分完了：要等一个结束，而停着的时间不算在时限里。"""
    name = _sharing(slot, 2)
    first = slot.run(600, f"0:{rng.randint(12, 14)}", partition=name, cpus_per_task=4)
    second = slot.run(600, "20", partition=name, cpus_per_task=4)
    job = slot.wait("5", partition=name, cpus_per_task=2)
    words = ("轮流用 CPU", first, second, "至多分给 2 个作业", "要等其中一个结束")
    return Planted(job, {"Resources"}, words, ("推迟",), dated=True)


@situation
def it_is_stopped_by_a_time_slice(slot: Slot, rng: random.Random) -> Planted:
    name = _sharing(slot, 2)
    job = slot.run(600, "20", partition=name, cpus_per_task=4)
    other = slot.run(600, "20", partition=name, cpus_per_task=rng.randint(2, 4))
    wait_until(lambda: slot.show(job)["state"] == "SUSPENDED", 30, f"{job} 停着")
    answer = slot.why(job)

    def goes_on() -> list[str]:
        resume = answer.get("resume_time")
        if resume is None:
            return [f"没有说何时接着走：{answer}"]
        wait_until(lambda: slot.show(job)["state"] == "RUNNING", max(0.0, moment(resume) - time.time()) + 2 * LATE_S)
        return []

    return Planted(
        job, {str(slot.show(job)["reason"])}, ("SUSPENDED", "轮流用 CPU", other, "接着用"), ("没有时限",), dated=False,
        starts=False, also=goes_on,
    )  # fmt: skip


# ---- 抢占 ----


@situation
def it_may_preempt_only_later(slot: Slot, rng: random.Random) -> Planted:
    """抢得了，只是它们还没有运行满豁免的时间。"""
    exempt_s = rng.randint(15, 20)
    _qos(slot, preempt_mode="requeue", preempt_exempt_time=exempt_s)
    holders = [slot.run(600, "20", qos=slot.qos, cpus_per_task=4, required_nodes=node) for node in slot.nodes]
    job = slot.wait("0:30", qos=slot.urgent, cpus_per_task=2)
    return Planted(job, {"Resources"}, ("可以抢占", "豁免", holders[0]), ("没有时限",), dated=True)


@situation
def it_may_preempt_within_its_qos_only_later(slot: Slot, rng: random.Random) -> Planted:
    """同一个 QOS（WITHIN）：优先级低的让。"""
    _qos(slot, preempt_mode="requeue,within", preempt_exempt_time=rng.randint(15, 20))
    first, second = slot.nodes
    higher = slot.run(600, "20", qos=slot.qos, cpus_per_task=4, required_nodes=first)
    lower = slot.run(600, "20", qos=slot.qos, cpus_per_task=4, required_nodes=second, nice=100)
    job = slot.wait("0:30", qos=slot.qos, cpus_per_task=2)
    return Planted(job, {"Resources"}, ("可以抢占", "豁免", lower), (f"抢占 {higher}",), dated=True)


# ---- 判 ----


def judge(slot: Slot, name: str, seed: int) -> Verdict:
    """造一遍，问，照每条建议各改一遍，最后一遍等它照预计启动。"""
    rng = random.Random(seed)
    make, verdict = SITUATIONS[name], Verdict(name)
    try:
        planted = make(slot, random.Random(seed))
        answer = slot.why(planted.job)
        _check(slot, planted, answer, verdict)
        verdict.mistakes += planted.also()
        for item in answer.get("suggestions", ()):
            slot.clear()
            planted = make(slot, random.Random(seed))
            again = slot.why(planted.job)
            same = [each for each in again["suggestions"] if each["changes"].keys() == item["changes"].keys()]
            if same:
                time.sleep(rng.uniform(*READING_S))
                _apply(slot, planted.job, same[0], verdict)
        if planted.starts and planted.dated:
            slot.clear()
            planted = make(slot, random.Random(seed))
            _await(slot, planted.job, slot.why(planted.job), verdict)
    except AssertionError as error:
        verdict.mistakes.append(f"造不出或不应验：{error}")
    finally:
        slot.clear()
    return verdict


def _check(slot: Slot, planted: Planted, answer: dict[str, Any], verdict: Verdict) -> None:
    verdict.reason, verdict.text = str(answer["reason"]), str(answer["text"])
    wrong = verdict.mistakes
    if verdict.reason not in planted.reasons:
        wrong.append(f"原因是 {answer['reason']}，应是 {planted.reasons}")
    shown = slot.show(planted.job)["reason"]
    if shown != answer["reason"]:
        wrong.append(f"why 说 {answer['reason']}，squeue 说 {shown}")
    wrong += [f"没有说 {word!r}" for word in planted.words if word not in answer["text"]]
    wrong += [f"不该说 {word!r}" for word in planted.never if word in answer["text"]]
    dated = answer.get("expected_start_time") is not None
    if planted.dated is not None and dated != planted.dated:
        wrong.append(f"预计开始是 {answer.get('expected_start_time')}")
    fields = {field for item in answer.get("suggestions", ()) for field in item["changes"]}
    wrong += [f"没有建议改 {field}" for field in planted.suggested if field not in fields]
    wrong += [f"不该建议改 {field}" for field in planted.unsuggested if field in fields]


def _apply(slot: Slot, job: str, item: dict[str, Any], verdict: Verdict) -> None:
    """照建议改：要收下，也要照说的时刻启动。"""
    promised = moment(item["start_time"])
    if item["expected_kind"] != "latest":
        # 只是大约的：也要收下，时刻不算诺言。
        promised = math.inf
    good_until = item.get("good_until")
    if good_until is not None and moment(good_until) < time.time() + 60:
        verdict.mistakes.append(f"建议 {item['text']!r} 一分钟之内就过时")
    known = slot.begun(job)
    status, refused = slot.system.call("PATCH", f"/jobs/{job}", item["changes"])
    verdict.suggested += 1
    if status >= 300:
        verdict.mistakes.append(f"建议 {item['text']!r} 不收：{refused}")
        return
    wait_s = max(0.0, promised - time.time())
    if wait_s > PATIENCE_S:
        # 太久（或只说大约），不等了。
        verdict.suggested -= 1
        return
    late = max(promised, time.time()) + LATE_S
    while slot.latest_start(job, known) is None and time.time() < late:
        time.sleep(0.1)
    started = slot.latest_start(job, known)
    if started is not None and started <= late:
        verdict.came_true += 1
    else:
        found = slot.why(job)
        verdict.mistakes.append(f"建议 {item['text']!r} 没有应验：{found['reason']} {found['text']}")


def _await(slot: Slot, job: str, answer: dict[str, Any], verdict: Verdict) -> None:
    """至迟的时刻不能超过；说只是估计的不算。"""
    expected = answer.get("expected_start_time")
    if expected is None or answer["expected_kind"] != "latest" or moment(expected) > time.time() + PATIENCE_S:
        return
    verdict.dated += 1
    late = moment(expected) + LATE_S
    while slot.show(job)["start_time"] is None and time.time() < late + 2:
        time.sleep(0.2)
    started = slot.show(job)["start_time"]
    if started is not None and moment(started) <= late:
        verdict.kept += 1
    else:
        verdict.mistakes.append(f"说至迟 {expected} 开始，却是 {started}")


def judge_all(
    slots: list[Slot], wanted: list[tuple[str, int]], tell: Callable[[Verdict, int, float], None] | None = None
) -> list[Verdict]:
    """各块地方一个线程，一个接一个地判；wanted 是 (情形, 种子)，tell 收到 (结果, 种子, 用了几秒)。"""
    todo: SimpleQueue[tuple[str, int]] = SimpleQueue()
    for item in wanted:
        todo.put(item)
    found: list[Verdict] = []

    def work(slot: Slot) -> None:
        with contextlib.suppress(Empty):
            while True:
                name, seed = todo.get_nowait()
                began = time.monotonic()
                verdict = judge(slot, name, seed)
                found.append(verdict)
                if tell is not None:
                    tell(verdict, seed, time.monotonic() - began)

    threads = [threading.Thread(target=work, args=(slot,)) for slot in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def slots_of(system: RunningSystem, alice: RunningSystem, count: int) -> list[Slot]:
    """两个节点一块。"""
    return [Slot(alice, system, number, [f"node{2 * number + 1}", f"node{2 * number + 2}"]) for number in range(count)]


def options_of(slots: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """scns up 的选项与环境变量。"""
    licenses = ",".join(f"lic{number}:2" for number in range(slots))
    return (
        ("--nodes", str(2 * slots), "--cpus", "4", "--memory", "8G", "--gpus", "2"),
        {
            "SCNS_LICENSES": licenses,
            "SCNS_ACCOUNTING_STORAGE_ENFORCE": "limits,qos",
            "SCNS_KILL_WAIT_S": "2",
            "SCNS_PREEMPT_GANG": "true",
            "SCNS_SCHEDULER_TIME_SLICE_S": str(SLICE_S),
            "SCNS_PREEMPT_TYPE": "qos",
        },
    )


def set_up(system: RunningSystem, alice_token: str, count: int) -> list[Slot]:
    """建账户、QOS 与用户，分好地方。"""

    def call(method: str, path: str, body: Any) -> None:
        status, answer = system.call(method, path, body)
        assert status < 300, (path, status, answer)

    # 缺省分区不许用：各块地方互不相干。
    assert system.call("PATCH", "/partitions/main", {"allow_accounts": ["nobody"]})[0] < 300
    for number in range(count):
        call("POST", "/qos", {"name": f"q{number}"})
        call("POST", "/qos", {"name": f"h{number}", "preempt": [f"q{number}"]})
        call("POST", "/accounts", {"name": f"a{number}"})
        for user in ("alice", "bob"):
            qos = ["normal", f"q{number}", f"h{number}"]
            call("POST", "/associations", {"account": f"a{number}", "user": user, "qos": qos})
    alice = RunningSystem(system.data_dir, system.process, system.url, alice_token)
    return slots_of(system, alice, count)
