"""sacctmgr show 的列：名字、表头、宽度、取值（sacctmgr(1) 的 FORMAT OPTIONS）。"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scns_conductor.core.tres import format_tres
from scns_conductor.core.units import format_duration
from scns_conductor.slurm.session import Fatal

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """一列；width 负的左对齐。"""

    title: str
    width: int
    value: Callable[[Row], str]


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row.get(name) is None else str(row[name])


def _effective(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row["effective"].get(name) is None else str(row["effective"][name])


def _tres(name: str) -> Callable[[Row], str]:
    return lambda row: format_tres(row[name], minutes="mins" in name)


def _own_tres(name: str) -> Callable[[Row], str]:
    return lambda row: format_tres(row["effective"].get(name) or {}, minutes="mins" in name)


def _one(name: str, tres: str) -> Callable[[Row], str]:
    return lambda row: str(row[name].get(tres, ""))


def _wall(name: str) -> Callable[[Row], str]:
    return lambda row: "" if row.get(name) is None else format_duration(row[name])


def _words(name: str) -> Callable[[Row], str]:
    return lambda row: ",".join(sorted(row.get(name) or []))


def _own_wall(row: Row) -> str:
    value = row["effective"].get("max_wall")
    return "" if value is None else format_duration(value)


ASSOCIATION: dict[str, Field] = {
    "cluster": Field("Cluster", 10, _plain("cluster")),
    "account": Field("Account", 10, _plain("account")),
    "user": Field("User", 10, _plain("user_name")),
    "partition": Field("Partition", 10, _plain("partition")),
    "share": Field("Share", 9, _plain("shares")),
    "fairshare": Field("Share", 9, _plain("shares")),
    "priority": Field("Priority", 10, _effective("priority")),
    "grpjobs": Field("GrpJobs", 7, _plain("grp_jobs")),
    "grptres": Field("GrpTRES", 13, _tres("grp_tres")),
    "grpsubmitjobs": Field("GrpSubmit", 9, _plain("grp_submit_jobs")),
    "grpwall": Field("GrpWall", 11, _wall("grp_wall")),
    "grptresmins": Field("GrpTRESMins", 13, _tres("grp_tres_mins")),
    "maxjobs": Field("MaxJobs", 7, _effective("max_jobs")),
    "maxtresperjob": Field("MaxTRES", 13, _own_tres("max_tres_per_job")),
    "maxtrespernode": Field("MaxTRESPerNode", 14, _own_tres("max_tres_per_node")),
    "maxsubmitjobs": Field("MaxSubmit", 9, _effective("max_submit_jobs")),
    "maxwalldurationperjob": Field("MaxWall", 11, _own_wall),
    "maxtresminsperjob": Field("MaxTRESMins", 13, _own_tres("max_tres_mins_per_job")),
    "qos": Field("QOS", 20, lambda row: ",".join(sorted(row["effective"].get("qos") or []))),
    "qoslevel": Field("QOS", 20, lambda row: ",".join(sorted(row["effective"].get("qos") or []))),
    "defaultqos": Field("Def QOS", 9, _effective("default_qos")),
    "defqos": Field("Def QOS", 9, _effective("default_qos")),
    "grptresrunmins": Field("GrpTRESRunMin", 13, _tres("grp_tres_run_mins")),
    "parentname": Field("ParentName", 10, lambda row: "" if row["user_name"] else row["parent_account"] or ""),
    "id": Field("ID", 6, _plain("association_id")),
    "comment": Field("Comment", 20, _plain("comment")),
    "grpcpus": Field("GrpCPUs", 8, _one("grp_tres", "cpu")),
    "grpnodes": Field("GrpNodes", 8, _one("grp_tres", "node")),
    "grpmem": Field("GrpMem", 7, _one("grp_tres", "mem")),
    "grpcpumins": Field("GrpCPUMins", 11, _one("grp_tres_mins", "cpu")),
    "maxcpus": Field("MaxCPUs", 8, lambda row: str(row["effective"].get("max_tres_per_job", {}).get("cpu", ""))),
    "maxcpumins": Field(
        "MaxCPUMins", 11, lambda row: str(row["effective"].get("max_tres_mins_per_job", {}).get("cpu", ""))
    ),
    "maxnodes": Field("MaxNodes", 8, lambda row: str(row["effective"].get("max_tres_per_job", {}).get("node", ""))),
}
_PER_JOB = "maxwalldurationperjob,maxcpumins"
_SHORT_LIMITS = "grpjobs,grpnodes,grpcpus,grpmem,grpsubmitjobs,grpwall,grpcpumins"
ASSOCIATION_FORMAT = (
    "cluster,account,user,partition,share,priority,grpjobs,grptres,grpsubmitjobs,grpwall,grptresmins,maxjobs,"
    "maxtresperjob,maxtrespernode,maxsubmitjobs,maxwalldurationperjob,maxtresminsperjob,qos,defaultqos,grptresrunmins"
)
ACCOUNT: dict[str, Field] = {
    **ASSOCIATION,
    "account": Field("Account", 10, _plain("name")),
    "name": Field("Account", 10, _plain("name")),
    "description": Field("Descr", 20, _plain("description")),
    "organization": Field("Org", 20, _plain("organization")),
    "coordinators": Field("Coord Accounts", 20, _words("coordinators")),
}
ACCOUNT_FORMAT = "account,description,organization"
ACCOUNT_WITH_ASSOCIATIONS = (
    f"{ACCOUNT_FORMAT},cluster,parentname,user,share,priority,{_SHORT_LIMITS},maxjobs,maxnodes,maxcpus,maxsubmitjobs,"
    f"{_PER_JOB},qos,defaultqos"
)
USER: dict[str, Field] = {
    **ASSOCIATION,
    "user": Field("User", 10, _plain("name")),
    "name": Field("User", 10, _plain("name")),
    "defaultaccount": Field("Def Acct", 10, _plain("default_account")),
    "adminlevel": Field("Admin", 9, _plain("admin_level")),
    "coordinators": Field("Coord Accounts", 20, _words("coordinates")),
}
USER_FORMAT = "user,defaultaccount,adminlevel"
USER_WITH_ASSOCIATIONS = (
    f"{USER_FORMAT},cluster,account,partition,share,priority,maxjobs,maxnodes,maxcpus,maxsubmitjobs,"
    f"{_PER_JOB},qos,defaultqos"
)
QOS: dict[str, Field] = {
    "name": Field("Name", 10, _plain("name")),
    "description": Field("Descr", 20, _plain("description")),
    "priority": Field("Priority", 10, _plain("priority")),
    "gracetime": Field("GraceTime", 10, _wall("grace_time")),
    "preempt": Field("Preempt", 10, _words("preempt")),
    "preemptexempttime": Field("PreemptExemptTime", 19, _wall("preempt_exempt_time")),
    "preemptmode": Field("PreemptMode", 11, lambda row: row["preempt_mode"] or "cluster"),
    "flags": Field("Flags", 40, _words("flags")),
    "usagefactor": Field("UsageFactor", 11, lambda row: f"{row['usage_factor']:.6f}"),
    "usagethreshold": Field("UsageThres", 10, lambda _row: ""),
    "grptres": Field("GrpTRES", 13, _tres("grp_tres")),
    "grptresmins": Field("GrpTRESMins", 13, _tres("grp_tres_mins")),
    "grptresrunmins": Field("GrpTRESRunMin", 13, _tres("grp_tres_run_mins")),
    "grpjobs": Field("GrpJobs", 7, _plain("grp_jobs")),
    "grpsubmitjobs": Field("GrpSubmit", 9, _plain("grp_submit_jobs")),
    "grpwall": Field("GrpWall", 11, _wall("grp_wall")),
    "maxtresperjob": Field("MaxTRES", 13, _tres("max_tres_per_job")),
    "maxtrespernode": Field("MaxTRESPerNode", 14, _tres("max_tres_per_node")),
    "maxtresminsperjob": Field("MaxTRESMins", 13, _tres("max_tres_mins_per_job")),
    "maxwalldurationperjob": Field("MaxWall", 11, _wall("max_wall")),
    "maxtresperuser": Field("MaxTRESPU", 13, _tres("max_tres_per_user")),
    "maxtrespu": Field("MaxTRESPU", 13, _tres("max_tres_per_user")),
    "maxjobsperuser": Field("MaxJobsPU", 9, _plain("max_jobs_per_user")),
    "maxjobspu": Field("MaxJobsPU", 9, _plain("max_jobs_per_user")),
    "maxsubmitjobsperuser": Field("MaxSubmitPU", 11, _plain("max_submit_jobs_per_user")),
    "maxsubmitpu": Field("MaxSubmitPU", 11, _plain("max_submit_jobs_per_user")),
    "maxsubmitperuser": Field("MaxSubmitPU", 11, _plain("max_submit_jobs_per_user")),
    "maxtresperaccount": Field("MaxTRESPA", 13, _tres("max_tres_per_account")),
    "maxtrespa": Field("MaxTRESPA", 13, _tres("max_tres_per_account")),
    "maxjobsperaccount": Field("MaxJobsPA", 9, _plain("max_jobs_per_account")),
    "maxjobspa": Field("MaxJobsPA", 9, _plain("max_jobs_per_account")),
    "maxsubmitjobsperaccount": Field("MaxSubmitPA", 11, _plain("max_submit_jobs_per_account")),
    "maxsubmitpa": Field("MaxSubmitPA", 11, _plain("max_submit_jobs_per_account")),
    "maxsubmitperaccount": Field("MaxSubmitPA", 11, _plain("max_submit_jobs_per_account")),
    "mintresperjob": Field("MinTRES", 13, _tres("min_tres_per_job")),
}
QOS_FORMAT = (
    "name,priority,gracetime,preempt,preemptexempttime,preemptmode,flags,usagethreshold,usagefactor,grptres,grptresmins,"
    "grptresrunmins,grpjobs,grpsubmitjobs,grpwall,maxtresperjob,maxtrespernode,maxtresminsperjob,maxwalldurationperjob,"
    "maxtrespu,maxjobspu,maxsubmitpu,maxtrespa,maxjobspa,maxsubmitpa,mintresperjob"
)
TRES: dict[str, Field] = {
    "type": Field("Type", 8, _plain("type")),
    "name": Field("Name", 15, _plain("name")),
    "id": Field("ID", 6, _plain("id")),
}
TRES_FORMAT = "type,name,id"
CLUSTER: dict[str, Field] = {
    **ASSOCIATION,
    "controlhost": Field("ControlHost", 15, _plain("control_host")),
    "controlport": Field("ControlPort", 12, _plain("control_port")),
    "rpc": Field("RPC", 5, lambda _row: "0"),
}
CLUSTER_FORMAT = (
    "cluster,controlhost,controlport,rpc,share,grpjobs,grptres,grpsubmitjobs,maxjobs,maxtresperjob,maxsubmitjobs,"
    "maxwalldurationperjob,qos,defaultqos"
)


def chosen_fields(form: str, known: Mapping[str, Field]) -> list[Field]:
    """format= 的各列；名字可以是前缀，%20、%-20 是宽度。不认得的照 sacctmgr 报错。"""
    found = []
    for word in form.split(","):
        name, _, width = word.strip().strip("'\"").partition("%")
        if not name:
            continue
        low = name.lower()
        matching = [each for each in known if each.startswith(low)]
        key = low if low in known else min(matching, key=len, default=None)
        if key is None:
            raise Fatal(f"Unknown field '{name}'", prefix=None)
        field = known[key]
        if width.lstrip("-").isdigit():
            field = Field(field.title, int(width), field.value)
        found.append(field)
    return found


def lines_of(
    fields: Sequence[Field], rows: Iterable[Row], *, header: bool, parsable: bool, trailing: bool
) -> Iterable[str]:
    """各行。parsable 是竖线分隔；trailing 是行末也有一根。"""
    table = [[field.value(row) for field in fields] for row in rows]
    if parsable:
        for cells in ([[field.title for field in fields]] if header else []) + table:
            yield "|".join(cells) + ("|" if trailing else "")
        return
    if header:
        yield "".join(_cell(field.title, field.width, cut=False) + " " for field in fields)
        yield "".join("-" * abs(field.width) + " " for field in fields)
    for cells in table:
        yield "".join(_cell(cell, field.width) + " " for cell, field in zip(cells, fields, strict=True))


def _cell(text: str, width: int, *, cut: bool = True) -> str:
    size = abs(width)
    if cut and len(text) > size:
        # 截短的最后一个字符是 +，与 sacctmgr 相同。
        text = text[: size - 1] + "+" if size else ""
    text = text[:size]
    return text.ljust(size) if width < 0 else text.rjust(size)
