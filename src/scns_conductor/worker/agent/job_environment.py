"""作业的环境变量：干净的底子，加作业自己的，再加 SLURM_* 与 SCNS_*（sbatch(1) 的 OUTPUT ENVIRONMENT VARIABLES）。"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from scns_conductor.core.array_spec import MAX_TASK_ID, parse_array
from scns_conductor.core.task_layout import repeat_list
from scns_conductor.statements.claims import ClaimedJob
from scns_conductor.worker.agent.core_binding import Binding
from scns_conductor.worker.agent.gpus import shares
from scns_conductor.worker.agent.gpus.cards import Cards


@dataclass(frozen=True, slots=True)
class NodeContext:
    """与作业无关、属于节点与集群的值。passed_on 是要原样带给作业的变量（如客户端找 API 用的 SCNS_URL）。"""

    cluster_name: str
    node_name: str
    node_address: str
    search_path: str
    language: str
    passed_on: Mapping[str, str]
    # 交换机路径，如 core/rack1；没有是空的。
    topology: str = ""
    # 一个核占几个 CPU；CPU 按核算的是 1。
    cpu_threads: int = 1
    # 本节点的卡；合用的卡一共几份。
    cards: Cards = field(default_factory=Cards)
    share_counts: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Login:
    """作业的用户在本节点上的登录信息。"""

    user_name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def job_environment(job: ClaimedJob, binding: Binding, login: Login, node: NodeContext) -> dict[str, str]:
    """脚本的完整环境。作业自己的值胜过底子，调度系统的值胜过一切。"""
    environment = {
        "PATH": node.search_path,
        "HOME": login.home,
        "USER": login.user_name,
        "LOGNAME": login.user_name,
        "SHELL": login.shell,
        "LANG": node.language,
        **node.passed_on,
        **job.environment,
        **_slurm_variables(job, login, node),
        **_array_variables(job),
        **_device_variables(binding, node),
    }
    environment |= {
        "SCNS_JOB_ID": str(job.job_id),
        "SCNS_JOB_NAME": job.name,
        "SCNS_ATTEMPT": str(job.restart_count),
        "SCNS_NODE_NAME": node.node_name,
        "SCNS_CLUSTER_NAME": node.cluster_name,
    }
    return environment


def _slurm_variables(job: ClaimedJob, login: Login, node: NodeContext) -> dict[str, str]:
    peers = len(job.peer_tasks) or 1
    # -O 的作业只要了每节点一个任务的 CPU，任务数在它自己的变量里。
    crowded = job.environment.get("SLURM_OVERCOMMIT") == "1"
    tasks = job.environment.get("SLURM_NTASKS", job.tasks) if crowded else job.tasks
    # 没有要的不写（sbatch(1)）：值看不出来的（就是 1、每节点一个），提交时在环境里记着。
    tasks_asked = "SLURM_NTASKS" in job.environment or job.tasks_per_node is not None or job.tasks > peers
    cpus_asked = "SLURM_CPUS_PER_TASK" in job.environment or job.cpus_per_task > 1
    values = {
        "SLURM_JOB_ID": job.job_id,
        "SLURM_JOBID": job.job_id,
        "SLURM_JOB_NAME": job.name,
        "SLURM_JOB_USER": job.user_name,
        "SLURM_JOB_UID": login.uid,
        "SLURM_JOB_GID": login.gid,
        "SLURM_JOB_ACCOUNT": job.account,
        "SLURM_JOB_QOS": job.qos,
        "SLURM_JOB_RESERVATION": job.reservation,
        "SLURM_JOB_PARTITION": job.partition.split(",")[0],
        "SLURM_JOB_NODELIST": job.node_list,
        "SLURM_NODELIST": job.node_list,
        "SLURM_JOB_NUM_NODES": peers,
        "SLURM_NNODES": peers,
        "SLURM_JOB_CPUS_PER_NODE": repeat_list(job.peer_cpus),
        "SLURM_TASKS_PER_NODE": repeat_list(job.peer_tasks if tasks_asked else _fitting(job)),
        "SLURM_NTASKS": tasks if tasks_asked else None,
        "SLURM_NPROCS": tasks if tasks_asked else None,
        "SLURM_NTASKS_PER_NODE": job.tasks_per_node,
        "SLURM_CPUS_PER_TASK": job.cpus_per_task if cpus_asked else None,
        "SLURM_CPUS_ON_NODE": job.cpus,
        # --mem=0 是整个节点的内存：Slurm 不写这个变量。
        "SLURM_MEM_PER_NODE": job.memory_per_node or None,
        "SLURM_MEM_PER_CPU": job.memory_per_cpu,
        "SLURM_SUBMIT_DIR": job.current_working_directory,
        "SLURM_SUBMIT_HOST": job.submit_host or node.node_name,
        "SLURM_CLUSTER_NAME": node.cluster_name,
        "SLURMD_NODENAME": node.node_name,
        "SLURM_LAUNCH_NODE_IPADDR": node.node_address,
        "SLURM_NODEID": job.node_index,
        "SLURM_PROCID": 0,
        "SLURM_LOCALID": 0,
        "SLURM_GTIDS": 0,
        # sbatch 自己的 nice 值，由它写；不带到作业的进程上（同 Slurm 的缺省）。
        "SLURM_PRIO_PROCESS": job.environment.get("SLURM_PRIO_PROCESS", 0),
        "SLURM_NODE_ALIASES": "(null)",
        **_topology_variables(node),
        "SLURM_RESTART_COUNT": job.restart_count or None,
        "SLURM_DISTRIBUTION": job.distribution.partition("=")[0] if job.distribution else None,
        "SLURM_DIST_PLANESIZE": (job.distribution or "").partition("=")[2] or None,
        "SLURM_JOB_CONSTRAINTS": job.constraints,
        "SLURM_CONTAINER": job.container,
        "SLURM_CONTAINER_IMAGE": job.container_image,
        "SLURM_JOB_START_TIME": int(job.start_epoch),
        "SLURM_JOB_END_TIME": int(job.start_epoch + job.time_limit) if job.time_limit else None,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _fitting(job: ClaimedJob) -> list[int]:
    """没有说几个任务的：各节点分到的 CPU 放得下几个（独占的节点上不止一个；mpirun 照它启动，同 Slurm）。"""
    return [max(1, cpus // job.cpus_per_task) for cpus in job.peer_cpus]


# 说的是一个部分（不是一个节点、一个任务）的变量：异构作业的各个部分各有一份。
_OF_COMPONENT = (
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_ACCOUNT", "SLURM_JOB_QOS", "SLURM_JOB_RESERVATION",
    "SLURM_JOB_PARTITION", "SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_JOB_CPUS_PER_NODE", "SLURM_NODELIST",
    "SLURM_NNODES", "SLURM_TASKS_PER_NODE", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE",
    "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_DISTRIBUTION", "SLURM_DIST_PLANESIZE",
    "SLURM_JOB_CONSTRAINTS", "SLURM_OVERCOMMIT",
)  # fmt: skip


def het_variables(components: Sequence[ClaimedJob], login: Login, node: NodeContext) -> dict[str, str]:
    """异构作业的脚本还有的变量：部分的个数，各个部分的（名字后面加 _HET_GROUP_n）；不是异构作业是空的。"""
    if not components:
        return {}
    found = {"SLURM_HET_SIZE": str(len(components))}
    for index, job in enumerate(components):
        values = {**job.environment, **_slurm_variables(job, login, node)}
        found |= {f"{name}_HET_GROUP_{index}": values[name] for name in _OF_COMPONENT if name in values}
    return found


def _topology_variables(node: NodeContext) -> dict[str, str]:
    """switch.switch.节点 与 各段是什么（sbatch(1) 的 SLURM_TOPOLOGY_ADDR）。"""
    parts = [part for part in node.topology.split("/") if part]
    return {
        "SLURM_TOPOLOGY_ADDR": ".".join([*parts, node.node_name]),
        "SLURM_TOPOLOGY_ADDR_PATTERN": ".".join([*("switch" for _ in parts), "node"]),
    }


def _array_variables(job: ClaimedJob) -> dict[str, str]:
    if job.array_task_id is None:
        return {}
    variables = {
        "SLURM_ARRAY_JOB_ID": str(job.array_job_id or job.job_id),
        "SLURM_ARRAY_TASK_ID": str(job.array_task_id),
    }
    if job.array_spec:
        bounds = array_bounds(job.array_spec)
        if bounds is not None:
            low, high, count, step = bounds
            variables |= {
                "SLURM_ARRAY_TASK_MIN": str(low),
                "SLURM_ARRAY_TASK_MAX": str(high),
                "SLURM_ARRAY_TASK_COUNT": str(count),
                "SLURM_ARRAY_TASK_STEP": str(step),
            }
    return variables


@lru_cache(maxsize=64)
def array_bounds(text: str) -> tuple[int, int, int, int] | None:
    """'0-9:3,20%4' -> (最小, 最大, 个数, 步长)，几项里都有的只算一个；认不出返回 None。

    提交时已经查过，这里只为变量。
    """
    low = high = None
    count, steps = 0, []
    for part in text.split("%")[0].split(","):
        span, _, step_text = part.strip().partition(":")
        first, dash, last = span.partition("-")
        numbers = [first, last if dash else first, step_text or "1"]
        if not all(number.isdigit() for number in numbers):
            return None
        start, stop, step = map(int, numbers)
        if step < 1 or stop < start:
            return None
        stop = start + (stop - start) // step * step
        low = start if low is None else min(low, start)
        high = stop if high is None else max(high, stop)
        count += (stop - start) // step + 1
        steps.append(step)
    if low is None or high is None:
        return None
    if len(steps) > 1:
        count = len(parse_array(text, max_tasks=MAX_TASK_ID))
    return low, high, count, steps[0] if len(steps) == 1 else 1


def _device_variables(binding: Binding, node: NodeContext) -> dict[str, str]:
    """分到的卡；SLURM_JOB_GPUS 总是本节点上的序号。"""
    mine = binding.accelerator_ids
    variables = node.cards.variables(mine, mine) | shares.variables(binding.gres_ids, node.share_counts)
    if mine:
        variables |= {"SLURM_JOB_GPUS": ",".join(map(str, mine)), "SLURM_GPUS_ON_NODE": str(len(mine))}
    return variables
