"""API 的一个作业 -> Slurm 各命令要显示的值。squeue、sacct、scontrol 共用。"""

import heapq
import os
import pwd
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from scns_conductor.client import ClientError
from scns_conductor.slurm.session import Fatal, connect
from scns_conductor.slurm.shapes.spoken import spoken
from scns_conductor.slurm.table.columnar import column
from scns_conductor.slurm.table.times import elapsed_s, epoch, instant, memory, short_duration

Job = Mapping[str, Any]
SHORT_STATES = {
    "PENDING": "PD", "RUNNING": "R", "SUSPENDED": "S", "COMPLETED": "CD", "CANCELLED": "CA", "FAILED": "F",
    "TIMEOUT": "TO", "NODE_FAIL": "NF", "PREEMPTED": "PR", "OUT_OF_MEMORY": "OOM", "DEADLINE": "DL", "BOOT_FAIL": "BF",
}  # fmt: skip
# Slurm 里有、数据库里不存的状态（squeue(1) 的 JOB STATE CODES）；除了 SHOWN_AS 里的也从不出现。
# 作为筛选条件，全名与缩写都要认得。
ABSENT_STATES = {
    "CONFIGURING": "CF", "COMPLETING": "CG", "RESIZING": "RS", "RESV_DEL_HOLD": "RD", "REQUEUED": "RQ",
    "REQUEUE_FED": "RF", "REQUEUE_HOLD": "RH", "REVOKED": "RV", "SIGNALING": "SI", "SPECIAL_EXIT": "SE",
    "STAGE_OUT": "SO", "STOPPED": "ST", "LAUNCH_FAILED": "LF", "RECONFIG_FAIL": "RC", "UPDATE_DB": "UD",
    "EXPEDITING": "EX", "POWER_UP_NODE": "PN",
}  # fmt: skip
LONG_STATES = {short: name for name, short in (SHORT_STATES | ABSENT_STATES).items()}
# 显示的状态 -> 数据库里存的。
SHOWN_AS = {"CONFIGURING": "RUNNING", "SPECIAL_EXIT": "PENDING"}
ACTIVE = ("PENDING", "RUNNING", "SUSPENDED")
# 在 API 的进程里答 slurmrestd 的请求时：它的集群名。
SERVED_CLUSTER: ContextVar[str | None] = ContextVar("served_cluster", default=None)
_ARRAY_TEXT_LIMIT = 64
_LONGEST_ARRAY_TEXT = 65_536
_LEAST_STEPPED_SPAN = 10


def state_list() -> str:
    """--helpstate：全部状态的名字。"""
    return "\n".join(SHORT_STATES | ABSENT_STATES)


def short_state(job: Job) -> str:
    """squeue %t。"""
    word = state(job)
    return SHORT_STATES.get(word) or ABSENT_STATES[word]


def state(job: Job) -> str:
    """Slurm 的状态：分到了节点、还在等它们开机的是 CONFIGURING，那样保留着的是 SPECIAL_EXIT。"""
    if job["state"] == "RUNNING" and job.get("configuring"):
        return "CONFIGURING"
    return "SPECIAL_EXIT" if job["state"] == "PENDING" and job.get("hold") == "special_exit" else str(job["state"])


def array_tasks(job: Job) -> str | None:
    """还没有启动的任务，如 0-9%2、1,3,5；不是数组行则为 None。"""
    remaining = job.get("array_remaining")
    if not remaining:
        return None
    text, most = _listed(str(remaining)), job.get("array_max_tasks")
    return f"{text}%{most}" if most else text


def _listed(text: str) -> str:
    """全部等步长、跨度大于 10 的写成 0-99:3，别的步长逐个列出，从小到大（与 Slurm 的 xlate_array_task_str 相同）。

    至多 64 KiB，与 Slurm 的相同；再长的末尾是 ...。
    """
    if ":" not in text:
        return text
    whole = re.fullmatch(r"(\d+)-(\d+):\d+", text)
    if whole is not None and int(whole[2]) - int(whole[1]) > _LEAST_STEPPED_SPAN:
        return text
    items = []
    for item in text.split(","):
        span, _, by = item.partition(":")
        lower, _, upper = span.partition("-")
        items.append(range(int(lower), int(upper or lower) + 1, int(by or 1)))
    words: list[str] = []
    size = first = last = -1
    for task in heapq.merge(*items):
        if task <= last + 1 and last >= 0:
            last = task
            continue
        if last >= 0:
            words.append(str(first) if first == last else f"{first}-{last}")
            size += len(words[-1]) + 1
        if size > _LONGEST_ARRAY_TEXT:
            return ",".join([*words, "..."])
        first = last = task
    return ",".join([*words, str(first) if first == last else f"{first}-{last}"])


def each_task(job: dict[str, Any]) -> list[dict[str, Any]]:
    """代表一批还没有启动的任务的行，拆成每个任务一行（squeue -r、sacct --array）；别的就是自己。"""
    if not is_array_rest(job) or not job["array_remaining"]:
        return [job]
    from scns_conductor.core.array_spec import MAX_TASK_ID, parse_array

    left = parse_array(job["array_remaining"], max_tasks=MAX_TASK_ID)
    slots = (slot for span in left.ranges for slot in range(span.lower, span.upper))
    return [{**job, "array_task_id": left.stride.task_id(slot)} for slot in slots]


def is_array_rest(job: Job) -> bool:
    """代表数组里还没有启动（或没有启动就取消了）的一批任务的行。"""
    return job.get("array_job_id") is not None and job.get("array_task_id") is None


def display_id(job: Job) -> str:
    """squeue 与 sacct 里的作业号：12、12_3、12_[4-9%2]，异构作业的部分 12+1。"""
    if job.get("het_job_id") is not None:
        return f"{job['het_job_id']}+{job['het_job_offset']}"
    if job.get("array_job_id") is None:
        return str(job["job_id"])
    if job.get("array_task_id") is not None:
        return f"{job['array_job_id']}_{job['array_task_id']}"
    tasks = array_tasks(job)
    return f"{job['array_job_id']}_[{shortened(tasks)}]" if tasks else str(job["job_id"])


def holder_step(job: Job) -> str:
    """占着分配的那一步：运行脚本的是 batch；没有脚本的、异构作业第 0 个之外的部分是 extern。"""
    return "extern" if job.get("interactive") or job.get("het_job_offset") else "batch"


def shortened(text: str) -> str:
    """太长的任务列表在末尾写成 ...（SLURM_BITSTR_LEN，缺省 64）。"""
    limit = int(os.environ.get("SLURM_BITSTR_LEN") or _ARRAY_TEXT_LIMIT)
    return text if not limit or len(text) <= limit else text[: limit - 3].rpartition(",")[0] + ",..."


def reason(job: Job) -> str:
    """一个词，没有则 None。"""
    return (job.get("reason") or "None").replace(" ", "_")


def reason_or_nodes(job: Job) -> str:
    """squeue 的 NODELIST(REASON)。"""
    if job["state"] in ("PENDING", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE", "FAILED"):
        return f"({described_reason(job)})"
    return job.get("node_list") or ""


def described_reason(job: Job) -> str:
    """原因，ReqNodeNotAvail 之后还有 Slurm 的说明（哪些节点不在、留给了维护）。"""
    word = reason(job)
    # 说明要来时也许已经是英文的（Accept-Language）。
    described, colon, _ = (job.get("error_msg") or "").replace("：", ": ").partition(": ")
    return f"{word}, {described}" if word == "ReqNodeNotAvail" and colon else word


def limit_s(job: Job) -> float | None:
    """时限（秒）；不限为 None。"""
    limit, deadline = job.get("time_limit"), epoch(job.get("deadline"))
    if limit is None and deadline is not None and job.get("state") == "PENDING":
        # 没有写时限的，开始之后至多到期限为止。
        return max(0.0, deadline - max(time.time(), epoch(job.get("begin_time")) or 0.0))
    return None if limit is None else float(limit)


def time_left(job: Job) -> str:
    """还剩多久；不限的是 UNLIMITED。"""
    limit = limit_s(job)
    return "UNLIMITED" if limit is None else short_duration(max(0.0, limit - elapsed_s(job)))


_INELIGIBLE = frozenset({"Dependency", "DependencyNeverSatisfied", "BeginTime", "JobHeldUser", "JobHeldAdmin"})


def end_time(job: Job) -> str:
    """结束了的是结束时刻，运行中的是时限到的时刻，排队的是照计划的。"""
    if job.get("end_time"):
        return instant(job["end_time"])
    start, limit = epoch(job.get("start_time") or _expected_start(job)), limit_s(job)
    return "N/A" if start is None or limit is None else instant(start + limit + float(job.get("suspended_s") or 0))


def start_time(job: Job, missing: str = "N/A") -> str:
    """开始的时刻；没有开始的是计划里的，还没有计划到的是 --begin 的。"""
    return instant(job.get("start_time") or _expected_start(job), missing)


def _expected_start(job: Job) -> str | None:
    """计划的开始，但不早于 --begin：刚改过的，计划还没有跟上。"""
    begin = job.get("begin_time") if job.get("state") == "PENDING" else None
    return max(
        (text for text in (job.get("expected_start_time"), begin) if text),
        key=lambda at: epoch(at) or 0.0,
        default=None,
    )


def eligible_time(job: Job) -> str | None:
    """何时具备运行条件：排队的，只差资源的就是提交的时刻，写了 --begin 的是那时；还等着别的是 None。"""
    if job.get("eligible_time") or job["state"] != "PENDING":
        found: str | None = job.get("eligible_time")
        return found
    if job.get("begin_time"):
        return str(job["begin_time"])
    return None if str(job.get("reason")) in _INELIGIBLE or job.get("hold") else str(job["submit_time"])


def cpus(job: Job) -> int:
    """分到的 CPU；没有开始的是要的。"""
    return int(job.get("allocated_cpus") or 0) or int(job["tasks"]) * int(job["cpus_per_task"])


def nodes(job: Job) -> int:
    """分到的节点数；没有开始的是至少要的。"""
    return int(job.get("allocated_nodes") or 0) or int(job["minimum_nodes"])


def requested_memory(job: Job) -> str:
    """squeue 的 MIN_MEMORY。"""
    return memory(least_memory_mb(job))


def least_memory_mb(job: Job) -> int:
    """每节点或每 CPU 要的内存（MiB）；没有写是 0。"""
    return int(job.get("memory_per_node") or job.get("memory_per_cpu") or 0)


def tres_words(text: Any, missing: str = "N/A") -> str:
    """--gres、--gpus 的写法统一成 gres/gpu:a100:2（22.05 是 gres:gpu:a100:2）；没有是 missing。"""
    if not text:
        return missing
    mark = "gres:" if spoken() == "22.05" else "gres/"
    words = (re.sub(r"^gres[/:]", "", word.strip()).replace("=", ":") for word in str(text).split(","))
    return ",".join(f"{mark}{word}" for word in words)


def gres(job: Job) -> str:
    """squeue 的 TRES_PER_NODE：每节点的通用资源；没有写每节点的看整个作业的，都没有是 N/A。"""
    return tres_words(job.get("tres_per_node") or job.get("tres_per_job"))


def command(job: Job) -> str:
    """脚本在提交者那里的路径；--wrap、标准输入的没有。"""
    return str(job.get("command") or "(null)")


def priority(job: Job) -> int:
    """优先级：管理员给的，或按作业号倒数（basic 的先来先得）；保留的是 0。"""
    return _priority(job.get("hold"), job.get("priority"), job["job_id"])


def priorities(jobs: Sequence[Job]) -> list[int]:
    """各作业的优先级。"""
    return list(map(_priority, column(jobs, "hold"), column(jobs, "priority"), column(jobs, "job_id")))


def _priority(hold: Any, given: Any, job_id: Any) -> int:
    if hold:
        return 0
    return int(given) if given is not None else max(1, 4294901760 - int(job_id))


@lru_cache(maxsize=256)
def user_ids(name: str) -> tuple[str, str, str]:
    """(uid, gid, 组名)；本机没有这个用户时 uid 是 nobody 的。"""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return ("65534", "65534", "nogroup")
    import grp

    try:
        group = grp.getgrgid(found.pw_gid).gr_name
    except KeyError:
        group = str(found.pw_gid)
    return (str(found.pw_uid), str(found.pw_gid), group)


def dependency(job: Job) -> str:
    """排队的作业还没有满足的依赖，各带 (unfulfilled) 或 (failed)；别的状态没有依赖了。

    dependency_text 由 job_dependencies 查过所依赖的作业之后补上；没有查的都当作没有满足。
    """
    text = job.get("dependency_text", job.get("dependency"))
    if not text or job["state"] != "PENDING":
        return "(null)"
    if "dependency_text" in job:
        return str(text)
    return str(text) if "(" in text else unfulfilled(text)


def unfulfilled(text: str) -> str:
    """afterok:12:13,singleton -> afterok:12(unfulfilled),afterok:13(unfulfilled),singleton(unfulfilled)。"""
    mark = "?" if "?" in text else ","
    found = []
    for part in text.split(mark):
        kind, *targets = part.split(":")
        found += [f"{kind}:{target}(unfulfilled)" for target in targets] or [f"{kind}(unfulfilled)"]
    return mark.join(dict.fromkeys(found))


# output_path 要用到的字段。
OUTPUT_FIELDS = (
    "standard_output standard_error standard_input current_working_directory array_job_id array_task_id job_id "
    "user_name name batch_host interactive"
)


def output_path(job: Job, name: str) -> str:
    """standard_output、standard_error、standard_input 的全路径；能确定的 % 都展开（节点名等还没有分配的留着）。"""
    default = "slurm-%A_%a.out" if job.get("array_job_id") is not None else "slurm-%j.out"
    pattern = job.get(name) or {"standard_input": "/dev/null"}.get(name) or job.get("standard_output") or default
    values = {
        "%A": job["array_job_id"] or job["job_id"],
        "%j": job["job_id"],
        "%J": job["job_id"],
        "%u": job["user_name"],
        "%x": job["name"],
    }
    if job.get("array_task_id") is not None:
        values["%a"] = job["array_task_id"]
    if job.get("batch_host"):
        values["%N"] = job["batch_host"]
    for mark, value in values.items():
        pattern = pattern.replace(mark, str(value))
    return pattern if pattern.startswith("/") else f"{job['current_working_directory']}/{pattern}"


def cluster_name() -> str:
    """集群的名字：API 答话时是它自己的，作业里在变量里，别处问一次服务器；问不到是缺省的。"""
    return SERVED_CLUSTER.get() or os.environ.get("SLURM_CLUSTER_NAME") or _cluster_asked()


@lru_cache(maxsize=1)
def _cluster_asked() -> str:
    try:
        with connect() as client:
            return str(client.config()["cluster_name"])
    except ClientError:
        return "scns"


def require_own_cluster(option: str | None) -> None:
    """-M 与 SLURM_CLUSTERS：只有一个集群，写 all 或它的名字都可以；别的抛 Fatal。"""
    text = os.environ.get("SLURM_CLUSTERS") if option is None else option
    place = "SLURM_CLUSTERS" if option is None else "--cluster"
    for name in (text or "").split(","):
        if name.strip() not in ("", "all") and name.strip() != cluster_name():
            raise Fatal(
                f"No cluster '{name.strip()}' known by database.",
                f"'{name.strip()}' can't be reached now, or it is an invalid entry for {place}.  "
                "Use 'sacctmgr list clusters' to see available clusters.",
            )


def over_subscribe(job: Job) -> str:
    """OVER_SUBSCRIBE：独占是 NO，只与自己人的 USER、MCS，共享是 YES，其余 OK。"""
    if job.get("exclusive"):
        return "NO"
    return (job.get("exclusive_to") or "").upper() or ("YES" if job.get("oversubscribe") else "OK")


def core_spec(job: Job) -> str:
    """CORE_SPEC：留给系统的核数，线程数后面写明；没有是 N/A。"""
    if job.get("thread_specification"):
        return f"{job['thread_specification']} Threads"
    return str(job.get("core_specification") or "N/A")


def sockets_cores_threads(job: Job) -> str:
    """S:C:T：要的插槽、每插槽的核、每核的线程；没有写的是 *。"""
    return ":".join(str(job.get(name) or "*") for name in ("sockets_per_node", "cores_per_socket", "threads_per_core"))


def text(name: str, missing: str = "(null)") -> Callable[[Job], str]:
    """原样的一个字段；没有则为 missing。"""
    return lambda job: str(job[name]) if job.get(name) not in (None, "") else missing
