"""scontrol show config：现行的设置，写成 slurm.conf 的名字；本系统没有的项是 Slurm 的缺省值。"""

import os
import pwd
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.control.config_keys import UNSET
from scns_conductor.slurm.shapes.spoken import release
from scns_conductor.slurm.table import job_values as of
from scns_conductor.slurm.table.times import duration, instant

# slurm.conf(5) 的权重 -> 本系统 priority_weights 的键。
_WEIGHTS = {"Age": "age", "Assoc": "assoc", "FairShare": "fairshare", "JobSize": "job_size", "Partition": "partition",
            "QOS": "qos"}  # fmt: skip


def _seconds(value: Any) -> str:
    return f"{int(float(value))} sec"


def _memory(megabytes: int) -> str:
    return str(megabytes) if megabytes else "UNLIMITED"


def _preempt_mode(settings: Mapping[str, Any]) -> str:
    """方式，加 GANG、WITHIN。"""
    mode = "OFF" if settings["preempt_type"] == "none" else str(settings["preempt_mode"]).upper()
    more = [word.upper() for word in ("gang", "within") if settings.get(f"preempt_{word}")]
    return ",".join([*([] if mode == "OFF" and more else [mode]), *more])


def _node_care(settings: Mapping[str, Any]) -> dict[str, str]:
    """健康检查与节能的键；程序在哪里不公开，只说有没有节能。"""
    if "elastic" not in settings:
        # 旧一版的服务器。
        return {}
    idle = settings["suspend_time_s"] if settings["elastic"] else None
    return {
        "HealthCheckInterval": _seconds(settings["health_check_interval_s"]),
        "HealthCheckNodeState": ",".join(settings["health_check_node_states"]),
        "PrologEpilogTimeout": str(int(settings["prolog_epilog_timeout_s"])),
        "PrologFlags": "Serial" if settings["prolog_serial"] else "(null)",
        "ResumeRate": f"{settings['resume_rate']} nodes/min",
        "ResumeTimeout": _seconds(settings["resume_timeout_s"]),
        "SuspendExcNodes": settings["suspend_exc_nodes"] or "(null)",
        "SuspendExcParts": ",".join(settings["suspend_exc_partitions"]) or "(null)",
        "SuspendRate": f"{settings['suspend_rate']} nodes/min",
        "SuspendTime": "INFINITE" if idle is None else _seconds(idle),
        "SuspendTimeout": _seconds(settings["suspend_timeout_s"]),
    }


def root_jobs_allowed(settings: Mapping[str, Any]) -> bool:
    """root 的作业收不收；settings 是 GET /config 的。"""
    return bool(settings["allow_root_jobs"] or settings["single_user"])


def config_lines(settings: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], url: str) -> list[str]:
    """各行；settings 是 GET /config 的，键的次序同 Slurm（不分大小写的字母序）。"""
    host = os.uname().nodename
    multifactor = settings["priority_type"] == "multifactor"
    backfill = "sched/builtin" if settings["scheduler_policy"] == "fifo" else "sched/backfill"
    licenses = settings["licenses"] or "(null)"
    per_cpu = settings["default_memory_mb_per_cpu"]
    preempt_type = str(settings["preempt_type"])
    weights = settings["priority_weights"]
    enforce = settings.get("accounting_storage_enforce") or "none"
    gres = sorted({f"gres/{name}" for node in nodes for word in node["gres"] for name in (word.split(":")[0], word)})
    user = pwd.getpwuid(os.geteuid()).pw_name if settings["single_user"] else "root"
    values: dict[str, str] = {
        "AccountingStorageEnforce": enforce if isinstance(enforce, str) else ",".join(enforce) or "none",
        "AccountingStorageTRES": ",".join(["cpu,mem,energy,node,billing,fs/disk,vmem,pages", *gres]),
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AuthAltTypes": "auth/jwt",
        "AuthType": "auth/jwt",
        "ClusterName": str(settings["cluster_name"]),
        "DefMemPerCPU" if per_cpu else "DefMemPerNode": _memory(per_cpu),
        "DependencyParameters": "kill_invalid_depend" if settings["kill_invalid_dependency"] else "(null)",
        "DisableRootJobs": "No" if root_jobs_allowed(settings) else "Yes",
        "EnforcePartLimits": "ALL" if settings["enforce_part_limits"] else "NO",
        "FirstJobId": "1",
        "GresTypes": ",".join(sorted({name.partition(":")[0] for node in nodes for name in node["gres"]})) or "(null)",
        "JobAcctGatherFrequency": f"task={settings['job_sample_interval_s']:g}",
        "JobAcctGatherType": "jobacct_gather/cgroup",
        "JobRequeue": "1",
        "KillOnBadExit": "0",
        "KillWait": _seconds(settings["kill_wait_s"]),
        "Licenses": licenses,
        "MaxArraySize": str(settings["array_max_tasks"]),
        "MaxJobCount": str(2**31 - 1),
        "MaxNodeCount": str(len(nodes)),
        "MessageTimeout": "10 sec",
        "MinJobAge": _seconds(settings["min_job_age_s"]),
        "MpiDefault": "none",
        "MpiParams": f"ports={settings['mpi_ports']}" if settings.get("mpi_ports") else "(null)",
        "NodeNames": compress(node["name"] for node in nodes),
        "PreemptExemptTime": "00:00:00",
        "PreemptMode": _preempt_mode(settings),
        "PreemptType": f"preempt/{preempt_type}",
        "PriorityType": f"priority/{settings['priority_type']}",
        "PrivateData": "none",
        "ProctrackType": "proctrack/cgroup",
        "PropagateResourceLimits": ",".join(settings["propagate_resource_limits"]),
        "PropagateResourceLimitsExcept": ",".join(settings["propagate_resource_limits_except"]) or "(null)",
        "ReturnToService": "1",
        "SchedulerParameters": f"bf_max_job_test={settings['backfill_depth']}",
        "SchedulerTimeSlice": _seconds(settings.get("scheduler_time_slice_s", 30)),
        "SchedulerType": backfill,
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_MEMORY",
        "SlurmctldHost[0]": host,
        "SlurmctldParameters": url,
        "SlurmctldPort": str(urlsplit(url).port or (443 if url.startswith("https") else 80)),
        "SlurmUser": f"{user}({of.user_ids(user)[0]})",
        "SlurmctldTimeout": _seconds(settings["scheduler_lease_s"]),
        "SlurmdTimeout": _seconds(settings["node_timeout_s"]),
        "SLURM_VERSION": release(),
        "TaskPlugin": "task/none" if settings["containment"] == "off" else "task/affinity,task/cgroup",
        "TopologyPlugin": "topology/tree" if any(node.get("topology") for node in nodes) else "topology/none",
        "TrackWCKey": "No",
        "WaitTime": "0 sec",
    }
    values |= _node_care(settings)
    if multifactor:
        values |= {
            "PriorityCalcPeriod": duration(settings["priority_calc_period_s"]),
            "PriorityDecayHalfLife": duration(settings["priority_decay_half_life_s"]),
            "PriorityFavorSmall": "Yes" if settings["priority_favor_small"] else "No",
            "PriorityMaxAge": duration(settings["priority_max_age_s"]),
            **{f"PriorityWeight{name}": str(round(weights.get(key, 0))) for name, key in _WEIGHTS.items()},
        }
        tres = [f"{key[5:]}={round(value)}" for key, value in weights.items() if key.startswith("tres/")]
        values["PriorityWeightTRES"] = ",".join(tres) or "(null)"
    values = {**UNSET, **values}
    lines = [f"Configuration data as of {instant(time.time())}"]
    lines += [f"{name:<23} = {value}" for name, value in sorted(values.items(), key=lambda pair: pair[0].lower())]
    return [*lines, "", f"Slurmctld(primary) at {host} is UP"]
