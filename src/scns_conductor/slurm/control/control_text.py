"""scontrol show 的文字：作业、节点、分区。每段是若干行，-o 时并成一行。"""

from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.core.array_spec import merge_ranges
from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.nodes import node_values as node_of
from scns_conductor.slurm.shapes.spoken import spoken
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.job_tres import node_tres, partition_tres, slurm_order, tres
from scns_conductor.slurm.table.terminal_text import printable
from scns_conductor.slurm.table.times import duration, elapsed_s, epoch, instant, memory

Record = Mapping[str, Any]


def _switches(job: Mapping[str, Any]) -> list[str]:
    """要求过交换机的才有；没有写至多等多久的是缺省的 5 分钟（max_switch_wait）。"""
    count = job.get("required_switches")
    if not count:
        return []
    wait = job.get("maximum_switch_wait_time")
    return [f"Switches={count}@{duration(300 if wait is None else wait)}"]


def _word(value: Any, missing: str = "(null)") -> str:
    """值里的空白换成 _：-o 的一行按空白切开时每个词都是 Key=Value。"""
    return printable("_".join(str(value).split())) if value not in (None, "") else missing


def job_lines(job: Record, details: bool = False) -> list[str]:
    """scontrol show job 的各行（slurm_sprint_job_info）。"""
    uid, gid, group = of.user_ids(job["user_name"])
    limit, start = of.limit_s(job), epoch(job.get("start_time"))
    end = of.end_time(job).replace("N/A", "Unknown")
    array = ""
    if job.get("array_job_id") is not None:
        index = (
            job["array_task_id"] if job.get("array_task_id") is not None else of.shortened(of.array_tasks(job) or "N/A")
        )
        array = f" ArrayJobId={job['array_job_id']} ArrayTaskId={index}"
        if job.get("array_max_tasks") and job["state"] == "PENDING":
            array += f" ArrayTaskThrottle={job['array_max_tasks']}"
    elif job.get("het_job_id") is not None:
        array = f" HetJobId={job['het_job_id']} HetJobOffset={job['het_job_offset']}"
    kind, amount = ("CPU", job["memory_per_cpu"]) if job.get("memory_per_cpu") else ("Node", job.get("memory_per_node"))
    per_node = job.get("tasks_per_node") or 0
    expected = of.start_time(job, "Unknown")
    eligible = instant(of.eligible_time(job), "Unknown")
    most = job.get("maximum_nodes")
    span = f"-{most}" if job["state"] == "PENDING" and most and most != job["minimum_nodes"] else ""
    lines = [
        f"JobId={job['job_id']}{array} JobName={_word(job['name'])}",
        *([f"HetJobIdSet={job['het_job_id_set']}"] if job.get("het_job_id_set") else []),
        f"UserId={job['user_name']}({uid}) GroupId={group}({gid}) MCS_label={job.get('mcs_label') or 'N/A'}",
        f"Priority={of.priority(job)} Nice={job['nice']} Account={_word(job['account'])}"
        f" QOS={_word(job['qos'])}" + (f" WCKey={job['wckey']}" if job.get("wckey") else ""),
        f"JobState={of.state(job)} Reason={of.described_reason(job).replace(' ', '_')}"
        f" Dependency={_word(of.dependency(job))}",
        f"Requeue={int(job['requeue'])} Restarts={job['restart_count']}"
        f" BatchFlag={int(of.holder_step(job) == 'batch')} Reboot=0"
        f" ExitCode={job['exit_status'] or 0}:{job['exit_signal'] or 0}",
    ]
    if details:
        lines.append(f"DerivedExitCode={job['derived_exit_status'] or 0}:0")
    least = job.get("time_minimum")
    lines += [
        f"RunTime={duration(elapsed_s(job))} TimeLimit={duration(limit)} TimeMin={duration(least) if least else 'N/A'}",
        f"SubmitTime={instant(job['submit_time'])} EligibleTime={eligible}",
        f"AccrueTime={eligible}",
        f"StartTime={expected} EndTime={end} Deadline={instant(job['deadline'])}",
        f"SuspendTime={instant(job['suspend_time'], 'None')} SecsPreSuspend=0 LastSchedEval={instant(start, 'None')}"
        " Scheduler=Main",
        f"Partition={job['partition']} AllocNode:Sid={_word(job['submit_host'], 'N/A')}:0",
        f"ReqNodeList={_word(job['required_nodes'])} ExcNodeList={_word(job['excluded_nodes'])}",
        f"NodeList={_word(job['node_list'], '') if job['node_list'] else '(null)' if start else ''}",
    ]
    if job.get("batch_host"):
        lines.append(f"BatchHost={job['batch_host']}")
    lines += [
        f"NumNodes={of.nodes(job)}{span} NumCPUs={of.cpus(job)} NumTasks={job['tasks']}"
        f" CPUs/Task={job['cpus_per_task']} ReqB:S:C:T=0:0:{job['cores_per_socket'] or '*'}"
        f":{job['threads_per_core'] or '*'}",
        *_tres_lines(job),
        f"Socks/Node={job['sockets_per_node'] or '*'} NtasksPerN:B:S:C={per_node}:0:{job['tasks_per_socket'] or '*'}"
        f":{job['tasks_per_core'] or '*'} {_specialized(job)}",
        *(_share(part) for part in job.get("allocations") or () if details and not part["released_at"]),
        f"MinCPUsNode={job['minimum_cpus_per_node'] or job['cpus_per_task']} MinMemory{kind}={memory(amount)}"
        f" MinTmpDiskNode={memory(job['temporary_disk_per_node'])}",
        f"Features={_word(job['constraints'])}{_preferred(job)} DelayBoot=00:00:00",
        f"OverSubscribe={of.over_subscribe(job)} Contiguous={int(job['contiguous'])}"
        f" Licenses={_word(job['licenses'])} Network=(null)",
        f"Command={_word(of.command(job))}",
        f"WorkDir={_word(job['current_working_directory'])}",
    ]
    container = job.get("container") or job.get("container_image")
    if container:
        lines.append(f"Container={_word(container)}")
    if job.get("cron"):
        lines.append(f'CrontabSpec="{job["cron"]}"')
    if job.get("comment"):
        lines.append(f"Comment={_word(job['comment'])} ")
    if job.get("admin_comment"):
        lines.append(f"AdminComment={_word(job['admin_comment'])} ")
    if job.get("extra"):
        lines.append(f"Extra={_word(job['extra'])} ")
    if not job["interactive"]:
        lines += [
            f"StdErr={_word(of.output_path(job, 'standard_error'))}",
            f"StdIn={_word(of.output_path(job, 'standard_input'))}",
            f"StdOut={_word(of.output_path(job, 'standard_output'))}",
            *_switches(job),
            # 24.05 起没有功耗的插件。
            *(["Power=", ""] if spoken() == "22.05" else []),
        ]
    for label, name in (
        ("TresPerJob", "tres_per_job"),
        ("TresPerNode", "tres_per_node"),
        ("TresPerTask", "tres_per_task"),
    ):
        if job.get(name):
            lines.append(f"{label}={of.tres_words(job[name])}")
    return lines


def _tres_lines(job: Record) -> list[str]:
    """23.02 起要的与分到的各一行；从前只有一行，排队时是要的，之后是分到的。"""
    asked, given = (slurm_order(tres(job, allocated=allocated)) for allocated in (False, True))
    if spoken() == "22.05":
        return [f"TRES={given if job['allocated_cpus'] else asked}"]
    return [f"ReqTRES={asked}", f"AllocTRES={given or '(null)'}"]


def _share(part: Record) -> str:
    """-d：作业在一个节点上的份额；没有绑核的没有 CPU 的号，是 N/A。"""
    numbers = part.get("cpu_ids")
    ids = "N/A" if numbers is None else _spans(numbers)
    gres = ",".join(
        f"{name}:{count}(IDX:{_spans((part.get('gres_ids') or {}).get(name, []))})"
        for name, count in sorted(part["gres"].items())
    )
    return f"  Nodes={part['node_name']} CPU_IDs={ids} Mem={part['memory']} GRES={gres}"


def _preferred(job: Record) -> str:
    return f" Prefer={job['prefer']}" if job["prefer"] else ""


def _specialized(job: Record) -> str:
    if job["thread_specification"]:
        return f"ThreadSpec={job['thread_specification']}"
    return f"CoreSpec={job['core_specification'] or '*'}"


def _spans(numbers: Sequence[int]) -> str:
    """0,1,2,5 -> 0-2,5。"""
    spans = merge_ranges((number, number + 1) for number in numbers)
    return ",".join(
        str(span.lower) if span.upper - span.lower == 1 else f"{span.lower}-{span.upper - 1}" for span in spans
    )


def node_lines(node: Record, partitions: list[str], *, one_line: bool = False) -> list[str]:
    """scontrol show node 的各行；-o 的一行里值没有空白。"""
    base, flags = node_of.state_parts(node)
    star = "*" if node_of.state_word(node).endswith("*") else ""
    state = "+".join([base if base != "UNKNOWN" or not node["drain"] else "DOWN", *flags])
    features = ",".join(node["features"]) or "(null)"
    total = node_tres(node["cpus"], node["memory"], node["gres"], billing=True)
    used = node_tres(node["allocated_cpus"], node["allocated_memory"], node["allocated_gres"], billing=False)
    lines = [
        f"NodeName={node['name']} Arch={_word(node['architecture'])} CoresPerSocket={node['cores_per_socket']} ",
        f"CPUAlloc={node['allocated_cpus']} CPUEfctv={node['cpus']} CPUTot={node['cpus']}"
        f" CPULoad={node['cpu_load'] or 0:.2f}",
        f"AvailableFeatures={features}",
        f"ActiveFeatures={features}",
        f"Gres={node_of.gres_text(node['gres'])}",
        f"NodeAddr={node['address']} NodeHostName={node['name']} Version={_word(node['agent_version'])}",
        f"OS={_word(node['operating_system'])} ",
        f"RealMemory={node['memory']} AllocMem={node['allocated_memory']} FreeMem={node['free_memory'] or 'N/A'}"
        f" Sockets={node['sockets']} Boards=1",
        f"State={state}{star} ThreadsPerCore={node['threads_per_core']} TmpDisk={node['temporary_disk']}"
        f" Weight={node['weight']} Owner=N/A MCS_label=N/A",
        f"Partitions={','.join(partitions)} ",
        f"BootTime={instant(node['boot_time'], 'None')} SlurmdStartTime={instant(node['registered_at'], 'None')}",
        f"LastBusyTime={instant(node['last_heartbeat'], 'None')}",
        f"CfgTRES={total}",
        f"AllocTRES={used}",
        "CapWatts=n/a",
        "CurrentWatts=0 AveWatts=0",
        "ExtSensorsJoules=n/s ExtSensorsWatts=0 ExtSensorsTemp=n/s",
    ]
    if node["reboot"]:
        lines.append(f"NextState={node['reboot_next_state'] or 'N/A'} RebootReason={_word(node['reboot_reason'])}")
    if node["reason"]:
        told = f"{node['reason']} [{node['reason_user']}@{instant(node['reason_time'])}]"
        lines.append(f"Reason={_word(told) if one_line else told}")
    return lines


def partition_lines(partition: Record, nodes: list[dict[str, Any]], *, root_jobs: bool) -> list[str]:
    """scontrol show partition 的各行；root_jobs：系统收不收 root 的作业，各个分区都照它。"""

    def limit(seconds: float | None, missing: str = "UNLIMITED") -> str:
        return missing if seconds is None else duration(seconds)

    def listed(names: list[str] | None) -> str:
        return ",".join(names) if names else "ALL"

    cpus = sum(int(node["cpus"]) for node in nodes)
    default_memory, max_memory = partition["default_memory_per_cpu"], partition["max_memory_per_node"]
    default_text = f"DefMemPerCPU={default_memory}" if default_memory else "DefMemPerNode=UNLIMITED"
    accounts = (
        f"DenyAccounts={','.join(partition['deny_accounts'])}"
        if partition["deny_accounts"]
        else (f"AllowAccounts={listed(partition['allow_accounts'])}")
    )
    sharing = "EXCLUSIVE" if partition["exclusive"] else partition["oversubscribe"]
    return [
        f"PartitionName={partition['name']}",
        f"AllowGroups=ALL {accounts} AllowQos={listed(partition['allow_qos'])}",
        f"AllocNodes=ALL Default={'YES' if partition['is_default'] else 'NO'} QoS=N/A",
        f"DefaultTime={limit(partition['default_time'], 'NONE')} DisableRootJobs={'NO' if root_jobs else 'YES'}"
        f" ExclusiveUser=NO GraceTime={partition['grace_time']} Hidden=NO",
        f"MaxNodes={partition['max_nodes'] or 'UNLIMITED'} MaxTime={limit(partition['max_time'])}"
        # 没有设下限的 Slurm 写 0，与 1 是一个意思。
        f" MinNodes={partition['min_nodes'] if partition['min_nodes'] > 1 else 0} LLN=NO"
        f" MaxCPUsPerNode={partition['max_cpus_per_node'] or 'UNLIMITED'}",
        f"Nodes={compress(node['name'] for node in nodes)}",
        f"PriorityJobFactor={partition['priority_job_factor']} PriorityTier={partition['priority_tier']}"
        f" RootOnly=NO ReqResv=NO OverSubscribe={sharing}",
        f"OverTimeLimit=NONE PreemptMode={(partition['preempt_mode'] or 'off').upper()}",
        f"State={partition['state']} TotalCPUs={cpus} TotalNodes={len(nodes)} SelectTypeParameters=NONE",
        *_power_times(partition),
        "JobDefaults=(null)",
        f"{default_text} MaxMemPerNode={max_memory or 'UNLIMITED'}",
        f"TRES={partition_tres(nodes)}",
    ]


def _power_times(partition: Mapping[str, Any]) -> list[str]:
    """分区自己的节能的时间；没有写的不出现。"""
    values = {
        name: partition.get(key)
        for name, key in (
            ("ResumeTimeout", "resume_timeout"),
            ("SuspendTimeout", "suspend_timeout"),
            ("SuspendTime", "suspend_time"),
        )
    }
    if all(value is None for value in values.values()):
        return []
    return [
        " ".join(
            f"{name}={'GLOBAL' if value is None else 'INFINITE' if value < 0 else f'{value} sec'}"
            for name, value in values.items()
        )
    ]


def paragraph(lines: list[str], *, one_line: bool) -> str:
    """几行成一段；-o 时一行。"""
    if one_line:
        return " ".join(line.strip() for line in lines)
    return "\n".join([lines[0], *(f"   {line}" for line in lines[1:]), ""])
