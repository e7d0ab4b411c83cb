"""scontrol show assoc_mgr：用户、关联、QOS 的上限，与此刻用掉的（括号里）。

用掉的由没有结束的作业数出来；累计的（TRESMins、Wall）这里不算，写 0。
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.core.array_spec import parse_array
from scns_conductor.core.units import format_duration
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.session import Fatal, connect
from scns_conductor.slurm.table import job_values as of

_SECTIONS = ("users", "assoc", "qos")
_TRES = ("cpu", "mem", "node")
_FIELDS = "account,user_name,qos,state,allocated_cpus,allocated_memory,allocated_nodes,array_remaining"


def show_associations(parsed: Parsed, words: Iterable[str]) -> int:
    """users=、accounts=、qos= 只列这些；flags=users,assoc,qos 只列这几段。"""
    wanted: dict[str, set[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        names = [name for name in ("users", "accounts", "qos", "flags") if name.startswith(key.lower().rstrip("s"))]
        if not equals or not names:
            raise Fatal(f"invalid option: {word}", prefix=None)
        wanted[names[0]] = set(value.lower().split(","))
    unknown = next((name for name in sorted(wanted.get("flags", ())) if name not in _SECTIONS), None)
    if unknown is not None:
        print(f"invalid flag '{unknown}', valid options are 'Assoc, QOS, and/or Users'", file=sys.stderr)
        return 0
    sections = [name for name in _SECTIONS if name in wanted.get("flags", _SECTIONS)]
    with connect() as client:
        users, associations, qos = list(client.users()), list(client.associations()), list(client.qos())
        jobs = list(client.jobs(state=list(of.ACTIVE), limit=10_000, fields=_FIELDS))
    end = " " if "oneliner" in parsed else "\n    "
    print("Current Association Manager state\n")
    if "users" in sections:
        named = list(_chosen(users, wanted, users="name"))
        print("User Records\n" if named else "No users currently cached in Slurm.")
        for user in named:
            print(
                f"UserName={user['name']} DefAccount={user['default_account'] or ''} AdminLevel={user['admin_level']}"
            )
        print()
    if "assoc" in sections:
        used = _by_association(associations, jobs)
        print("Association Records\n")
        for each in _chosen(associations, wanted, users="user_name", accounts="account"):
            print(
                f"ClusterName={of.cluster_name()} " + _association(each, used[each["account"], each["user_name"]], end)
            )
        print()
    if "qos" in sections:
        print("QOS Records\n")
        for each in _chosen(qos, wanted, qos="name"):
            print(_qos(each, _total(job for job in jobs if job["qos"] == each["name"]), end))
    return 0


def _chosen(rows: Iterable[Any], wanted: Mapping[str, set[str]], **columns: str) -> list[Any]:
    return [
        row
        for row in rows
        if all(str(row[column]).lower() in wanted[key] for key, column in columns.items() if key in wanted)
    ]


def _total(jobs: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """运行中的几个、没有结束的几个、占着多少。"""
    found: Counter[str] = Counter()
    for job in jobs:
        rest = job["array_remaining"]
        found["submitted"] += len(parse_array(rest)) if rest else 1
        if job["state"] != "PENDING":
            found["jobs"] += 1
            found["cpu"] += int(job["allocated_cpus"] or 0)
            found["mem"] += int(job["allocated_memory"] or 0)
            found["node"] += int(job["allocated_nodes"] or 0)
    return found


def _by_association(
    associations: Iterable[Any], jobs: Iterable[Mapping[str, Any]]
) -> dict[tuple[str, str], Counter[str]]:
    """各用户的，与各账户连同下级的。"""
    parents = {row["account"]: row["parent_account"] for row in associations if not row["user_name"]}
    found: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for job in jobs:
        one, account = _total([job]), str(job["account"] or "")
        found[account, str(job["user_name"])] += one
        above: str | None = account
        while above:
            found[above, ""] += one
            above = parents.get(above)
    return found


def _count(limit: object, used: int) -> str:
    return f"{'N' if limit is None else limit}({used})"


def _tres(limits: Mapping[str, int], used: Counter[str] | None = None) -> str:
    names = dict.fromkeys((*_TRES, *limits))
    return ",".join(f"{name}={_count(limits.get(name), used[name] if used else 0)}" for name in names)


def _own(limits: Mapping[str, int]) -> str:
    return ",".join(f"{name}={amount}" for name, amount in limits.items())


def _blank(value: object) -> str:
    return "" if value is None else str(value)


def _group(row: Mapping[str, Any], used: Counter[str]) -> list[str]:
    wall = "N" if row["grp_wall"] is None else str(row["grp_wall"] // 60)
    return [
        f"GrpJobs={_count(row['grp_jobs'], used['jobs'])}"
        f" GrpSubmitJobs={_count(row['grp_submit_jobs'], used['submitted'])} GrpWall={wall}(0.00)",
        f"GrpTRES={_tres(row['grp_tres'], used)}",
        f"GrpTRESMins={_tres(row['grp_tres_mins'])}",
        f"GrpTRESRunMins={_tres(row['grp_tres_run_mins'])}",
    ]


def _per_job(row: Mapping[str, Any]) -> list[str]:
    return [
        f"MaxTRESPJ={_own(row['max_tres_per_job'])}",
        f"MaxTRESPN={_own(row['max_tres_per_node'])}",
        f"MaxTRESMinsPJ={_own(row['max_tres_mins_per_job'])}",
    ]


def _association(row: Mapping[str, Any], used: Counter[str], end: str) -> str:
    wall = "" if row["max_wall"] is None else format_duration(row["max_wall"])
    lines = [
        f"Account={row['account']} UserName={row['user_name']}"
        f" Partition={row['partition']} Priority={row['priority'] or 0} ID={row['association_id']}",
        f"SharesRaw={row['shares']}",
        f"ParentAccount={'' if row['user_name'] else row['parent_account'] or ''}",
        *_group(row, used),
        f"MaxJobs={_blank(row['max_jobs'])} MaxSubmitJobs={_blank(row['max_submit_jobs'])} MaxWallPJ={wall}",
        *_per_job(row),
    ]
    return end.join(lines)


def _qos(row: Mapping[str, Any], used: Counter[str], end: str) -> str:
    wall = "" if row["max_wall"] is None else format_duration(row["max_wall"])
    lines = [
        f"QOS={row['name']} Priority={row['priority']} UsageFactor={row['usage_factor']:.6f}",
        *_group(row, used),
        f"MaxWallPJ={wall}",
        *_per_job(row),
        f"MaxTRESPU={_own(row['max_tres_per_user'])} MaxTRESPA={_own(row['max_tres_per_account'])}",
        f"MaxJobsPU={_blank(row['max_jobs_per_user'])} MaxSubmitJobsPU={_blank(row['max_submit_jobs_per_user'])}",
        f"MaxJobsPA={_blank(row['max_jobs_per_account'])} MaxSubmitJobsPA={_blank(row['max_submit_jobs_per_account'])}",
        f"MinTRESPJ={_own(row['min_tres_per_job'])} GraceTime={row['grace_time']}",
    ]
    return end.join(lines)
