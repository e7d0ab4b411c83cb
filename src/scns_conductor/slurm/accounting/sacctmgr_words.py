"""sacctmgr 的词：实体的名字、where 与 set 的写法、各选项的名字与它对应的字段（sacctmgr(1)）。"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from scns_conductor.core.tres import parse_tres
from scns_conductor.core.units import parse_duration
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.table.job_values import cluster_name

Kind = Literal["text", "name", "names", "count", "number", "tres", "wall", "seconds", "shares"]
_OPTION = re.compile(r"^([A-Za-z]+)([+-]?=)(.*)$", re.DOTALL)

ENTITIES = {
    "account": "account", "accounts": "account", "association": "association", "associations": "association",
    "user": "user", "users": "user", "qos": "qos", "tres": "tres", "cluster": "cluster", "clusters": "cluster",
    "coordinator": "coordinator", "coordinators": "coordinator", "event": "event", "events": "event",
    "reservation": "reservation", "reservations": "reservation", "wckey": "wckey", "wckeys": "wckey",
    "configuration": "configuration", "stats": "stats", "runawayjobs": "runawayjobs", "runaway": "runawayjobs",
    "transaction": "transaction", "transactions": "transaction", "txn": "transaction",
}  # fmt: skip
# 认得而没有的：按名字拒绝。
UNSUPPORTED_ENTITIES = (
    "federation", "instance", "job", "problem", "resource",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Option:
    """一个 set 的选项：在 API 里的字段、值的写法、打印时的名字。"""

    column: str
    kind: Kind
    title: str


_LIMITS: dict[str, Option] = {
    "grpjobs": Option("grp_jobs", "count", "GrpJobs"),
    "grpsubmitjobs": Option("grp_submit_jobs", "count", "GrpSubmitJobs"),
    "grptres": Option("grp_tres", "tres", "GrpTRES"),
    "grptresmins": Option("grp_tres_mins", "tres", "GrpTRESMins"),
    "grptresrunmins": Option("grp_tres_run_mins", "tres", "GrpTRESRunMins"),
    "grpwall": Option("grp_wall", "wall", "GrpWall"),
    "maxtresperjob": Option("max_tres_per_job", "tres", "MaxTRES"),
    "maxtrespernode": Option("max_tres_per_node", "tres", "MaxTRESPerNode"),
    "maxtresminsperjob": Option("max_tres_mins_per_job", "tres", "MaxTRESMins"),
    "maxwalldurationperjob": Option("max_wall", "wall", "MaxWall"),
}
ASSOCIATION: dict[str, Option] = {
    "fairshare": Option("shares", "shares", "Fairshare"),
    **{name: _LIMITS[name] for name in list(_LIMITS)[:6]},
    "maxjobs": Option("max_jobs", "count", "MaxJobs"),
    "maxsubmitjobs": Option("max_submit_jobs", "count", "MaxSubmitJobs"),
    **{name: _LIMITS[name] for name in list(_LIMITS)[6:]},
    "priority": Option("priority", "count", "Priority"),
    "qoslevel": Option("qos", "names", "QOS"),
    "defaultqos": Option("default_qos", "name", "DefQOS"),
    "comment": Option("comment", "text", "Comment"),
}
ACCOUNT: dict[str, Option] = {
    "description": Option("description", "text", "Description"),
    "organization": Option("organization", "text", "Organization"),
    "parent": Option("parent", "name", "Parent"),
    **ASSOCIATION,
}
USER: dict[str, Option] = {
    "adminlevel": Option("admin_level", "name", "Admin Level"),
    "defaultaccount": Option("default_account", "name", "Default Account"),
    **ASSOCIATION,
}
QOS: dict[str, Option] = {
    "description": Option("description", "text", "Description"),
    "flags": Option("flags", "names", "Flags"),
    "gracetime": Option("grace_time", "seconds", "GraceTime"),
    **_LIMITS,
    "maxtresperuser": Option("max_tres_per_user", "tres", "MaxTRESPerUser"),
    "maxjobsperuser": Option("max_jobs_per_user", "count", "MaxJobsPerUser"),
    "maxsubmitjobsperuser": Option("max_submit_jobs_per_user", "count", "MaxSubmitJobsPerUser"),
    "maxtresperaccount": Option("max_tres_per_account", "tres", "MaxTRESPerAccount"),
    "maxjobsperaccount": Option("max_jobs_per_account", "count", "MaxJobsPerAccount"),
    "maxsubmitjobsperaccount": Option("max_submit_jobs_per_account", "count", "MaxSubmitJobsPerAccount"),
    "mintresperjob": Option("min_tres_per_job", "tres", "MinTRESPerJob"),
    "preempt": Option("preempt", "names", "Preempt"),
    "preemptmode": Option("preempt_mode", "name", "PreemptMode"),
    "preemptexempttime": Option("preempt_exempt_time", "wall", "PreemptExemptTime"),
    "priority": Option("priority", "count", "Priority"),
    "usagefactor": Option("usage_factor", "number", "UsageFactor"),
}
SETTABLE: Mapping[str, Mapping[str, Option]] = {
    "account": ACCOUNT,
    "user": USER,
    "qos": QOS,
    "association": ASSOCIATION,
    # 集群的上限就是根账户的。
    "cluster": ASSOCIATION,
    **{
        name: {}
        for name in (
            *("tres", "coordinator", "event", "reservation", "wckey", "configuration", "stats", "runawayjobs"),
            "transaction",
        )
    },
}
# 同一个选项的别的写法。
_ALIASES = {
    "shares": "fairshare", "grpsubmit": "grpsubmitjobs", "maxtres": "maxtresperjob", "maxtrespj": "maxtresperjob",
    "maxtrespn": "maxtrespernode", "maxtresmins": "maxtresminsperjob", "maxwall": "maxwalldurationperjob",
    "maxsubmit": "maxsubmitjobs", "qos": "qoslevel", "defqos": "defaultqos", "maxtrespu": "maxtresperuser",
    "maxjobspu": "maxjobsperuser", "maxsubmitpu": "maxsubmitjobsperuser", "maxsubmitperuser": "maxsubmitjobsperuser",
    "maxtrespa": "maxtresperaccount", "maxjobspa": "maxjobsperaccount", "maxsubmitpa": "maxsubmitjobsperaccount",
    "maxsubmitperaccount": "maxsubmitjobsperaccount", "mintres": "mintresperjob", "mintrespj": "mintresperjob",
    "defacct": "defaultaccount",
}  # fmt: skip
# 旧的写法（GrpCPUs=8）-> (选项, TRES)。
_LEGACY = {
    "grpcpus": ("grptres", "cpu"), "grpmemory": ("grptres", "mem"), "grpmem": ("grptres", "mem"),
    "grpnodes": ("grptres", "node"), "grpcpumins": ("grptresmins", "cpu"), "grpcpurunmins": ("grptresrunmins", "cpu"),
    "maxcpus": ("maxtresperjob", "cpu"), "maxcpusperjob": ("maxtresperjob", "cpu"),
    "maxnodes": ("maxtresperjob", "node"), "maxnodesperjob": ("maxtresperjob", "node"),
    "maxcpumins": ("maxtresminsperjob", "cpu"), "maxcpuminsperjob": ("maxtresminsperjob", "cpu"),
    "maxcpusperuser": ("maxtresperuser", "cpu"), "maxnodesperuser": ("maxtresperuser", "node"),
}  # fmt: skip
# 用户、账户的上限本来就是每个用户的：QOS 里的名字也认。
_OF_EACH_USER = {
    "maxjobsperuser": "maxjobs", "maxjobspu": "maxjobs", "maxsubmitpu": "maxsubmitjobs",
    "maxsubmitjobspu": "maxsubmitjobs", "maxsubmitperuser": "maxsubmitjobs", "maxsubmitjobsperuser": "maxsubmitjobs",
}  # fmt: skip
_REFUSED = (
    "coordinator", "wckeys", "defaultwckey", "rawusage", "newname", "grpjobsaccrue", "maxjobsaccrue",
    "maxjobsaccrueperuser", "maxjobsaccrueperaccount", "minpriothreshold", "limitfactor", "usagethreshold",
    "maxtresrunmins", "maxtresrunminsperuser", "maxtresrunminsperaccount", "federation", "flags",
)  # fmt: skip
_LEVELS = {"none": "None", "operator": "Operator", "administrator": "Administrator", "auditor": "Auditor"}


@dataclass(slots=True)
class Request:
    """一条命令的实体之后的部分：names 是没有 = 的词与 name=；where 与 settings 是 (名字, 运算, 值)。"""

    names: list[str] = field(default_factory=list)
    where: dict[str, list[str]] = field(default_factory=dict)
    settings: list[tuple[str, str, str]] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    form: str | None = None


def words_of(text: str) -> list[str]:
    """逗号分隔的列表；去掉引号。"""
    return [word.strip().strip("'\"") for word in text.split(",") if word.strip().strip("'\"")]


def own_cluster(names: Iterable[str]) -> bool:
    """写的集群里有没有这一个；没有写的有。"""
    wanted = {name.lower() for name in names}
    return not wanted or cluster_name().lower() in wanted


def match(word: str, names: Iterable[str]) -> str | None:
    """不分大小写的全名或前缀；有几个时取最短的。"""
    low = word.lower()
    found = sorted((name for name in names if name.startswith(low)), key=len)
    return found[0] if found else None


def option_named(entity: str, word: str) -> str | None:
    """set 的选项的正式名字；不认得是 None。"""
    known = SETTABLE[entity]
    low = word.lower()
    for name in (low, _ALIASES.get(low, "")):
        if name in known:
            return name
    if entity == "qos" and low in ("maxjobs", "maxsubmitjobs", "maxsubmit"):
        return "maxjobsperuser" if low == "maxjobs" else "maxsubmitjobsperuser"
    if entity != "qos" and low in _OF_EACH_USER:
        return _OF_EACH_USER[low]
    if low in _LEGACY:
        return low
    if len(low) < 3:
        return None
    found = match(low, known) or match(low, _ALIASES)
    return _ALIASES.get(found, found) if found is not None and _ALIASES.get(found, found) in known else None


def parse_request(entity: str, words: Sequence[str], *, verb: str) -> Request:
    """解析；不认识的照 sacctmgr 报错，认得而没有的按名字拒绝。"""
    request, setting = Request(), verb == "add"
    for word in words:
        low = word.lower()
        if low == "where":
            setting = False
            continue
        if low == "set":
            setting = True
            continue
        found = _OPTION.match(word)
        if found is None:
            if low in ("withassoc", "withassocs", "tree", "withsubaccounts", "onlydefaults", "withdeleted", "withcoord",
                       "withoutlimits", "withoutparentlimits", "withoutparentinfo", "withrawqoslevel"):  # fmt: skip
                request.flags.add(low.removesuffix("s") if low == "withassocs" else low)
            elif setting and verb != "add":
                raise _unknown(word)
            else:
                request.names += words_of(word)
            continue
        name, operator, value = found[1].lower(), found[2], found[3].strip("'\"")
        _one(entity, request, (word, name, operator, value), verb=verb, setting=setting)
    return request


_MEANT = {"option": "condition", "condition": "value"}


def _unknown(word: str, what: str = "option") -> Fatal:
    lines = [f" Unknown {what}: {word}"]
    lines.append(f" Use keyword '{'where' if what == 'option' else 'set'}' to modify {_MEANT[what]}")
    return Fatal(*lines, prefix=None)


def _one(entity: str, request: Request, item: tuple[str, str, str, str], *, verb: str, setting: bool) -> None:
    word, name, operator, value = item
    if "format".startswith(name) and len(name) >= 2 and verb == "show":
        request.form = value
        return
    if name in ("name", "names") or ((len(name) >= 1 and "names".startswith(name)) and not setting):
        request.names += words_of(value)
        return
    condition = _condition(entity, name)
    if condition is not None and (not setting or verb == "add"):
        # user= 是没有用户的（账户自己的）。
        request.where.setdefault(condition, []).extend(words_of(value) or ([""] if condition == "user" else []))
        return
    if setting:
        option = option_named(entity, name)
        if option is None or (option == "flags" and entity != "qos"):
            if match(name, _REFUSED) is not None and len(name) > 4:
                raise Fatal(f" {word.partition('=')[0].rstrip('+-')} is not supported by this system", prefix=None)
            raise _unknown(word)
        request.settings.append((option, operator, value))
        return
    raise _unknown(word, "condition")


def _condition(entity: str, name: str) -> str | None:
    if name in ("cluster", "clusters"):
        return "cluster"
    if name in ("name", "names"):
        return "name"
    known = {
        "account": {"description": "description", "organization": "organization", "parent": "parent",
                    "accounts": "name"},
        "user": {"accounts": "account", "account": "account", "partitions": "partition", "partition": "partition",
                 "users": "name", "adminlevel": "admin_level", "defaultaccount": "default_account"},
        "association": {"accounts": "account", "account": "account", "users": "user", "user": "user",
                        "partitions": "partition", "partition": "partition", "parent": "parent"},
        "qos": {"qoslevel": "name"},
        "tres": {"type": "type"},
        "coordinator": {"accounts": "account", "account": "account", "users": "name", "user": "name"},
        "event": {"nodes": "node"},
        "transaction": {"accounts": "account", "actors": "actor", "actions": "action", "start": "start", "end": "end",
                        "ids": "id", "id": "id", "users": "user"},
    }.get(entity, {})  # fmt: skip
    found = match(name, known) if len(name) >= 3 or name in known else None
    return None if found is None else known[found]


def lowered(entity: str, request: Request, known: Iterable[str]) -> Request:
    """名字不分大小写，新的一律小写（同 slurmdbd）；known 里有只差大小写的就是它。"""
    exact = set(known)
    same = {name.lower(): name for name in exact}

    def one(word: str) -> str:
        return word if word in exact else same.get(word.lower(), word.lower())

    texts = {"description", "organization", "admin_level", "type", "start", "end", "action"}
    settings = []
    for name, operator, value in request.settings:
        option = SETTABLE[entity].get(name)
        is_name = option is not None and option.kind in ("name", "names") and option.column in _NAMED_COLUMNS
        settings.append((name, operator, ",".join(map(one, value.split(","))) if is_name else value))
    return replace(
        request,
        names=[one(name) for name in request.names],
        where={key: words if key in texts else [one(word) for word in words] for key, words in request.where.items()},
        settings=settings,
    )


_NAMED_COLUMNS = frozenset({"parent", "default_account", "qos", "default_qos", "preempt"})


def changes_of(
    entity: str, settings: Sequence[tuple[str, str, str]], current: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """set 的选项 -> API 的字段。current 是现在的值，+= 与 -= 要用；值不对照 sacctmgr 报错。"""
    found: dict[str, Any] = {}
    for name, operator, value in settings:
        if name in _LEGACY:
            option_name, tres = _LEGACY[name]
            option = SETTABLE[entity][option_name]
            found[option.column] = {**(found.get(option.column) or {}), **_tres(f"{tres}={value}")}
            continue
        option = SETTABLE[entity][name]
        if operator != "=" and option.kind != "names":
            raise Fatal(f" You can't use '{operator}' with {option.title}", prefix=None)
        found[option.column] = _value(option, operator, value, current or {})
    return found


def _tres(text: str) -> dict[str, int | None]:
    for item in words_of(text):
        kind, equals, _ = item.rpartition("=")
        if not equals:
            raise Fatal(f"slurmdb_format_tres_str: no TRES id found for {item}")
        try:
            parse_tres(item)
        except ValueError as error:
            raise Fatal(f"slurmdb_format_tres_str: no TRES known by type {kind}") from error
    return parse_tres(text)


def _value(option: Option, operator: str, value: str, current: Mapping[str, Any]) -> Any:
    if option.kind == "text":
        return value
    if option.kind == "tres":
        return _tres(value)
    if option.kind == "names":
        return _names(option, operator, value, current)
    if option.kind == "name":
        if option.column == "admin_level":
            level = match(value, _LEVELS)
            if level is None:
                raise Fatal(f" Bad admin level '{value}'", prefix=None)
            return _LEVELS[level]
        if option.column == "preempt_mode":
            words = value.lower().split(",")
            if words == ["cluster"] or not value:
                return None
            return ",".join([*(word for word in words if word != "within"), *(["within"] if "within" in words else [])])
        return value if value not in ("", "-1") else None
    if option.kind == "shares" and value.lower() == "parent":
        raise Fatal(" Fairshare=parent is not supported by this system", prefix=None)
    if value == "-1":
        return {"shares": 1, "priority": None, "grace_time": 0, "usage_factor": 1.0}.get(option.column)
    return _number(option, value)


def _number(option: Option, value: str) -> Any:
    try:
        if option.kind == "wall":
            return parse_duration(value) if option.column == "preempt_exempt_time" else _minutes(value)
        if option.kind == "seconds":
            return int(value) if value.isdigit() else parse_duration(value)
        return float(value) if option.kind == "number" else int(value)
    except ValueError as error:
        raise Fatal(f"Invalid value for {option.title} ({value})") from error


def _minutes(value: str) -> str:
    """API 的时长写法与 sacctmgr 的相同；先核对，坏的在这里报。"""
    parse_duration(value)
    return value


# 这里有的 QOS 标志；写法不分大小写。
_QOS_FLAGS = {name.lower(): name for name in ("DenyOnLimit", "NoDecay", "RequiresReservation")}


def _names(option: Option, operator: str, value: str, current: Mapping[str, Any]) -> list[str] | None:
    words = words_of(value)
    if option.column == "flags":
        words = [_QOS_FLAGS.get(word.lower(), word) for word in words]
        for word in words:
            if word not in _QOS_FLAGS.values():
                listed = ",".join(_QOS_FLAGS.values())
                raise Fatal(f" Unknown QOS flag used in:\n  '{word}'\n Valid QOS flags are\n  '{listed}'", prefix=None)
    if operator == "=":
        return words or (None if option.column == "qos" else [])
    old = list(current.get(option.column) or current.get("effective", {}).get(option.column) or [])
    if operator == "+=":
        return old + [word for word in words if word not in old]
    return [word for word in old if word not in words]
