"""slurm.conf 的一般设置 -> cluster.yaml 的 settings；别的说出这里由什么管，或没有。"""

import re
from collections.abc import Callable
from typing import Any

from scns_conductor.core.licenses import parse_licenses
from scns_conductor.core.units import parse_duration, parse_memory_mb
from scns_conductor.slurm.moving.findings import Findings, Place

Settings = dict[str, Any]
_YES = frozenset({"yes", "true", "1", "all", "any"})


def _minutes(value: str) -> int:
    """分钟或时间的写法 -> 秒。"""
    return parse_duration(value)


def _enforced(value: str, settings: Settings) -> str | None:
    known = {"associations", "limits", "qos", "safe"}
    words = [word.strip().lower() for word in value.split(",") if word.strip()]
    if words in (["0"], ["none"]):
        return None
    if words in (["1"], ["all"]):
        words = ["associations", "limits", "qos"]
    settings["accounting_storage_enforce"] = [word for word in words if word in known]
    left = [word for word in words if word not in known]
    return f"没有 {'、'.join(left)}" if left else None


def _preempt_mode(value: str, settings: Settings) -> str | None:
    words = [word.strip().lower() for word in value.split(",") if word.strip()]
    modes = [word for word in words if word in ("off", "cancel", "requeue", "suspend")]
    if modes:
        settings["preempt_mode"] = modes[-1]
    settings["preempt_gang"], settings["preempt_within"] = "gang" in words, "within" in words
    left = [word for word in words if word not in (*modes, "gang", "within")]
    return f"没有 {'、'.join(left)}" if left else None


def _scheduler(value: str, settings: Settings) -> str | None:
    policy = {"sched/backfill": "easy", "sched/builtin": "fifo"}.get(value.lower())
    if policy is None:
        return "没有这种调度插件"
    settings["scheduler_policy"] = policy
    return None


def _parameters(value: str, settings: Settings) -> str | None:
    left = []
    for word in (each.strip() for each in value.split(",") if each.strip()):
        name, _, amount = word.lower().partition("=")
        if name == "bf_max_job_test" and amount.isdigit():
            settings["backfill_depth"] = int(amount[:9])
        elif name == "max_switch_wait" and amount.isdigit():
            settings["max_switch_wait_s"] = int(amount[:9])
        elif name == "kill_invalid_depend":
            settings["kill_invalid_dependency"] = True
        else:
            left.append(word)
    return f"没有对应的：{'、'.join(left)}" if left else None


def _dependency(value: str, settings: Settings) -> str | None:
    if value.lower() != "kill_invalid_depend":
        return "没有对应的"
    settings["kill_invalid_dependency"] = True
    return None


def _licenses(value: str, settings: Settings) -> str | None:
    text = ",".join(word.strip().replace("*", ":") for word in value.split(",") if word.strip())
    parse_licenses(text)
    settings["licenses"] = text
    return None


def _weight(name: str) -> Callable[[str, Settings], str | None]:
    def put(value: str, settings: Settings) -> str | None:
        if float(value):
            settings.setdefault("priority_weights", {})[name] = float(value)
        return None

    return put


def _tres_weights(value: str, settings: Settings) -> str | None:
    for item in value.split(","):
        name, _, amount = item.partition("=")
        settings.setdefault("priority_weights", {})[f"tres/{name.strip().lower()}"] = float(amount)
    return None


def _put(name: str, convert: Callable[[str], Any]) -> Callable[[str, Settings], str | None]:
    def put(value: str, settings: Settings) -> str | None:
        settings[name] = convert(value)
        return None

    return put


def _choice(name: str, values: dict[str, Any]) -> Callable[[str, Settings], str | None]:
    def put(value: str, settings: Settings) -> str | None:
        if value.lower() not in values:
            return f"没有 {value}"
        settings[name] = values[value.lower()]
        return None

    return put


def _reset(value: str, _settings: Settings) -> str | None:
    return None if value.lower() == "none" else "用量只按半衰期衰减，不定期清零"


def _default_memory(value: str) -> int:
    return 0 if value.lower() in ("unlimited", "0") else parse_memory_mb(value)


_USED: dict[str, Callable[[str, Settings], str | None]] = {
    "schedulertype": _scheduler,
    "schedulerparameters": _parameters,
    "dependencyparameters": _dependency,
    "prioritytype": _choice("priority_type", {"priority/basic": "basic", "priority/multifactor": "multifactor"}),
    "priorityweightage": _weight("age"),
    "priorityweightfairshare": _weight("fairshare"),
    "priorityweightjobsize": _weight("job_size"),
    "priorityweightpartition": _weight("partition"),
    "priorityweightqos": _weight("qos"),
    "priorityweightassoc": _weight("assoc"),
    "priorityweighttres": _tres_weights,
    "prioritymaxage": _put("priority_max_age_s", lambda value: float(parse_duration(value))),
    "prioritydecayhalflife": _put("priority_decay_half_life_s", lambda value: float(parse_duration(value))),
    "prioritycalcperiod": _put("priority_calc_period_s", lambda value: float(_minutes(value))),
    "priorityfavorsmall": _put("priority_favor_small", lambda value: value.lower() in _YES),
    "priorityusageresetperiod": _reset,
    "accountingstorageenforce": _enforced,
    "enforcepartlimits": _put("enforce_part_limits", lambda value: value.lower() in _YES),
    "preempttype": _choice(
        "preempt_type",
        {"preempt/none": "none", "preempt/partition_prio": "partition_prio", "preempt/qos": "qos"},
    ),
    "preemptmode": _preempt_mode,
    "schedulertimeslice": _put("scheduler_time_slice_s", float),
    "preemptexempttime": _put("preempt_exempt_time_s", parse_duration),
    "licenses": _licenses,
    "defmempercpu": _put("default_memory_mb_per_cpu", _default_memory),
    "maxarraysize": _put("array_max_tasks", lambda value: max(1, int(value))),
    "minjobage": _put("min_job_age_s", int),
}


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


# 同 core/node_settings.py 的（那里要 pydantic，命令不一定有）；Slurm 另有 CYCLE。
_NODE_STATES = frozenset({"ANY", "IDLE", "ALLOC", "MIXED", "NONDRAINED_IDLE"})


def _whole(value: str) -> str:
    return str(int(value))


def _idle(value: str) -> str | None:
    """SuspendTime；INFINITE、-1 是不自动关，就是缺省的。"""
    return None if value.lower() in ("infinite", "-1") else _whole(value)


def _node_states(value: str) -> str:
    words = [word.strip().upper() for word in value.split(",")]
    if not set(words) <= _NODE_STATES:
        raise ValueError(value)
    return _quoted(",".join(words))


# 要写进 config.toml 的：Slurm 的名字 -> (设置, TOML 的写法；None 是缺省就是这样，不必写)。
_HINTS: dict[str, tuple[str, Callable[[str], str | None]]] = {
    "clustername": ("cluster_name", _quoted),
    "killwait": ("kill_wait_s", lambda value: str(int(value))),
    "slurmdtimeout": ("node_timeout_s", lambda value: str(int(value))),
    "maildomain": ("mail_domain", _quoted),
    "suspendprogram": ("suspend_program", _quoted),
    "resumeprogram": ("resume_program", _quoted),
    "resumefailprogram": ("resume_fail_program", _quoted),
    "suspendtime": ("suspend_time_s", _idle),
    "suspendtimeout": ("suspend_timeout_s", _whole),
    "resumetimeout": ("resume_timeout_s", _whole),
    "suspendrate": ("suspend_rate", _whole),
    "resumerate": ("resume_rate", _whole),
    "suspendexcnodes": ("suspend_exc_nodes", _quoted),
    "suspendexcparts": ("suspend_exc_partitions", _quoted),
    "rebootprogram": ("reboot_program", _quoted),
    "healthcheckprogram": ("health_check_program", _quoted),
    "healthcheckinterval": ("health_check_interval_s", _whole),
    "healthchecknodestate": ("health_check_node_states", _node_states),
    "prologepilogtimeout": ("prolog_epilog_timeout_s", _whole),
    "propagateresourcelimits": ("propagate_resource_limits", _quoted),
    "propagateresourcelimitsexcept": ("propagate_resource_limits_except", _quoted),
}
# 搬来之后不需要的：名字的样子 -> 为什么。
_NOT_NEEDED: tuple[tuple[str, str], ...] = (
    (r"slurm(ctld|d|sched|restd)?(host|port|addr|pidfile|logfile|debug|user|spooldir|syslogdebug|loglevel|timeout"
     r"|parameters|primaryonprog|primaryoffprog)|slurmuser|control(machine|addr)|backup\w+|statesavelocation"
     r"|srunportrange"
     r"|\w*pidfile|\w*logfile|savestatelocation|tmpfs|plugindir|treewidth|messagetimeout|tcptimeout|logtimeformat"
     r"|debugflags|batchstarttimeout|getenvtimeout|epilogmsgtime|cachegroups|groupupdate\w+|jobfileappend|waittime"
     r"|inactivelimit|returntoservice|disablerootjobs|firstjobid|maxjobid|switchtype|launchtype|fastschedule"
     r"|unkillablestep\w+|vsizefactor|usepam|commtimeout|ebdisable\w*|scheduler(port|timeslice|rootfilter|auth)",
     "进程、地址、日志与超时：这里另有安排（docs/deployment.md）"),
    (r"auth\w*|cred\w*|crypto\w*|jobcredential\w+|munge\w*", "认证：这里另有安排（令牌、套接字，docs/security.md）"),
    (r"accountingstor(age(type|host|port|pass|user|loc|backuphost|externalhost|tres|parameters)|e\w+)|jobcomp\w+"
     r"|jobacct\w+|defaultstorage\w+|acctgather\w+|trackwckey",
     "记账：一个 PostgreSQL，总是记着"),
    (r"proctracktype|taskplugin\w*|jobcontainer\w*|mpi\w+|grestypes|cgroup\w*|propagateprioprocess",
     "约束、MPI、GRES：代理自己探测，总是有"),
    (r"suspend\w+|resume\w+|(un)?powersave\w*|reboot\w+", "省电与云节点的这一项没有对应的设置（docs/elastic.md）"),
    (r"(task|srun|slurmctld)?(prolog|epilog)\w*|prologflags|\w+prolog|\w+epilog|prologslurmctld|epilogslurmctld",
     "没有搬：作业前后的程序写进 config.toml 的 task_prolog、task_epilog"),
    (r"jobsubmitplugins|cliffilterplugins|plugstackconfig", "插件是 Slurm 的二进制或 Lua，要重写"),
    (r"mailprog", "邮件由 SMTP 的设置发（smtp_host，docs/mail.md）"),
    (r"topologyplugin|topologyparam|routeplugin",
     "位置写在节点的 topology 上；按拓扑放置是 settings 的 placement: topology"),
)  # fmt: skip
_FINE = frozenset({"selecttype", "selecttypeparameters"})


def read_settings(pairs: list[tuple[Place, str, str]], findings: Findings) -> Settings:
    """一般的键值（键小写）-> settings；每一个没有搬的都记下为什么。"""
    settings: Settings = {}
    for place, name, value in pairs:
        text = f"{name}={value}"
        if name in _FINE or (value == "" and name not in _USED):
            continue
        try:
            if name in _USED:
                reason = _USED[name](value, settings)
            elif name in _HINTS:
                setting, written = _HINTS[name]
                wanted = written(value)
                if wanted is not None:
                    findings.hints[setting] = wanted
                reason = None
            else:
                reason = next((why for form, why in _NOT_NEEDED if re.fullmatch(form, name)), "没有对应的设置")
        except (ValueError, OverflowError):
            reason = "值不对"
        if reason is not None:
            findings.add(place, text, reason)
    return settings
