"""账户、用户、关联、QOS、集群、TRES -> slurmdbd 的记录（sacctmgr --json、slurmrestd 的 /slurmdb），以及反过来。"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scns_conductor.slurm.shapes.schema import INFINITE, render
from scns_conductor.slurm.table.job_tres import TRES_IDS
from scns_conductor.slurm.table.job_values import cluster_name

Record = Mapping[str, Any]
# slurmdbd 里固定的几种；gres 与 license 从 1001 起。
BASIC_TRES = {**TRES_IDS, "fs/disk": 6, "vmem": 7, "pages": 8}
_FIRST_TRES = 1001
_QOS_FLAGS = {"DenyOnLimit": "DENY_LIMIT", "NoDecay": "NO_DECAY", "RequiresReservation": "REQUIRED_RESERVATION"}
_OUR_QOS_FLAGS = {word: ours for ours, word in _QOS_FLAGS.items()}
_MINUTE = 60


def stable_id(name: str) -> int:
    """名字 -> 不变的编号：我们的 QOS 与 TRES 没有编号，Slurm 的要有。normal 是 1。"""
    return 1 if name == "normal" else 2 + zlib.crc32(name.encode()) % (2**31 - 4)


def tres_list(values: Record | None) -> list[dict[str, Any]]:
    """{"cpu": 8, "gres/gpu": 2} -> [{type, name, id, count}]。"""
    found = []
    for key, count in (values or {}).items():
        kind, _, name = key.partition("/")
        found.append({"type": kind, "name": name, "id": BASIC_TRES.get(key, _FIRST_TRES), "count": count})
    return found


def tres_map(values: Iterable[Record]) -> dict[str, int | None]:
    """反过来；-1 是去掉那一种。"""
    found: dict[str, int | None] = {}
    for each in values:
        key = f"{each['type']}/{each['name']}" if each.get("name") else str(each["type"])
        count = each.get("count", 0)
        found[key] = None if count < 0 else count
    return found


def tres_record(version: str, key: str, position: int) -> dict[str, Any]:
    """一种 TRES；position 是它在 gres、license 里的次序。"""
    kind, _, name = key.partition("/")
    number = BASIC_TRES.get(key, _FIRST_TRES + position)
    return render("tres", version, {"type": kind, "name": name, "id": number, "count": 0})


def tres_totals(nodes: Sequence[Record]) -> dict[str, int]:
    """全集群有的 TRES 与总量；nodes 是全部节点。"""
    found = dict.fromkeys(BASIC_TRES, 0) | {
        "cpu": sum(node["cpus"] for node in nodes),
        "mem": sum(node["memory"] for node in nodes),
        "node": len(nodes),
        "billing": sum(node["cpus"] for node in nodes),
    }
    for node in nodes:
        for name, count in node["gres"].items():
            found[f"gres/{name}"] = found.get(f"gres/{name}", 0) + count
    return found


def tres_records(version: str, totals: Record) -> list[dict[str, Any]]:
    """各种 TRES：固定的几种在前。"""
    others = sorted(key for key in totals if key not in BASIC_TRES)
    return [tres_record(version, key, place) for place, key in enumerate([*BASIC_TRES, *others], -len(BASIC_TRES))]


def cluster_record(version: str, nodes: str, host: str, port: int, tres: Record) -> dict[str, Any]:
    """唯一的集群。"""
    values = {
        "name": cluster_name(),
        "controller": {"host": host, "port": port},
        "nodes": nodes,
        "select_plugin": "select/cons_tres",
        "associations": {"root": {"account": "root", "cluster": cluster_name()}},
        "tres": tres_list(tres),
    }
    return render("cluster_rec", version, values)


def account_record(version: str, account: Record, associations: Sequence[Record] = ()) -> dict[str, Any]:
    """一个账户；associations 是其中的关联。"""
    values = {
        "name": account["name"],
        "description": account["description"],
        "organization": account["organization"],
        "coordinators": [{"name": name, "direct": True} for name in account["coordinators"]],
        "associations": [_short(each) for each in associations],
    }
    return render("account", version, values)


def user_record(version: str, user: Record, associations: Sequence[Record] = ()) -> dict[str, Any]:
    """一个用户；associations 是他的关联。"""
    level = user["admin_level"]
    own = next((each for each in associations if each["account"] == user["default_account"]), None)
    default = own and own["default_qos"]
    values = {
        "name": user["name"],
        "administrator_level": [level],
        "coordinators": [{"name": name, "direct": True} for name in user["coordinates"]],
        "default": {"account": user["default_account"], "qos": stable_id(default) if default else 0},
        "associations": [_short(each) for each in associations],
    }
    return render("user", version, values)


def _short(found: Record) -> dict[str, Any]:
    return {
        "account": found["account"],
        "cluster": cluster_name(),
        "partition": found["partition"],
        "user": found["user_name"],
        "id": found["association_id"],
    }


def _most(value: Any) -> Any:
    return INFINITE if value is None else value


def _minutes(seconds: Any) -> Any:
    return INFINITE if seconds is None else -(-int(seconds) // _MINUTE)


def association_record(version: str, found: Record, default_accounts: Record) -> dict[str, Any]:
    """一个关联；default_accounts 是 用户 -> 缺省账户。"""
    user = found["user_name"]
    lineage = f"/{found['account']}/" + (f"0-{user}/" if user else "")
    values = {
        **_short(found),
        "id": _short(found) if version == "v0.0.40" else found["association_id"],
        "comment": found["comment"],
        "default": {"qos": found["default_qos"]},
        "is_default": bool(user) and default_accounts.get(user) == found["account"],
        "lineage": lineage,
        "max": {
            "jobs": {
                "per": {
                    "count": _most(found["grp_jobs"]),
                    "accruing": INFINITE,
                    "submitted": _most(found["grp_submit_jobs"]),
                    "wall_clock": _minutes(found["max_wall"]),
                },
                "active": _most(found["max_jobs"]),
                "accruing": INFINITE,
                "total": _most(found["max_submit_jobs"]),
            },
            "tres": {
                "total": tres_list(found["grp_tres"]),
                "group": {
                    "minutes": tres_list(found["grp_tres_mins"]),
                    "active": tres_list(found["grp_tres_run_mins"]),
                },
                "minutes": {"per": {"job": tres_list(found["max_tres_mins_per_job"])}},
                "per": {
                    "job": tres_list(found["max_tres_per_job"]),
                    "node": tres_list(found["max_tres_per_node"]),
                },
            },
            "per": {"account": {"wall_clock": _minutes(found["grp_wall"])}},
        },
        "min": {"priority_threshold": INFINITE},
        "parent_account": "" if user else found.get("parent_account"),
        "priority": _most(found["priority"]),
        "qos": found["qos"] or found.get("effective", {}).get("qos") or [],
        "shares_raw": found["shares"],
    }
    return render("assoc", version, values)


def qos_record(version: str, found: Record) -> dict[str, Any]:
    """一个 QOS。"""
    mode = (found["preempt_mode"] or "off").upper()
    values = {
        "name": found["name"],
        "id": stable_id(found["name"]),
        "description": found["description"],
        "flags": [_QOS_FLAGS.get(flag, flag) for flag in found["flags"]],
        "limits": {
            "grace_time": found["grace_time"],
            "max": {
                "active_jobs": {"accruing": INFINITE, "count": _most(found["grp_jobs"])},
                "tres": {
                    "total": tres_list(found["grp_tres"]),
                    "minutes": {
                        "total": tres_list(found["grp_tres_run_mins"]),
                        "per": {
                            "qos": tres_list(found["grp_tres_mins"]),
                            "job": tres_list(found["max_tres_mins_per_job"]),
                        },
                    },
                    "per": {
                        "account": tres_list(found["max_tres_per_account"]),
                        "job": tres_list(found["max_tres_per_job"]),
                        "node": tres_list(found["max_tres_per_node"]),
                        "user": tres_list(found["max_tres_per_user"]),
                    },
                },
                "wall_clock": {"per": {"qos": _minutes(found["grp_wall"]), "job": _minutes(found["max_wall"])}},
                "jobs": {
                    "count": _most(found["grp_submit_jobs"]),
                    "active_jobs": {
                        "per": {
                            "account": _most(found["max_jobs_per_account"]),
                            "user": _most(found["max_jobs_per_user"]),
                        }
                    },
                    "per": {
                        "account": _most(found["max_submit_jobs_per_account"]),
                        "user": _most(found["max_submit_jobs_per_user"]),
                    },
                },
                "accruing": {"per": {"account": INFINITE, "user": INFINITE}},
            },
            "factor": INFINITE,
            "min": {
                "priority_threshold": INFINITE,
                "tres": {"per": {"job": tres_list(found["min_tres_per_job"])}},
            },
        },
        "preempt": {
            "list": list(found["preempt"]),
            "mode": ["DISABLED"] if mode == "OFF" else mode.split(","),
            "exempt_time": _most(found["preempt_exempt_time"]),
        },
        "priority": found["priority"],
        "usage_factor": float(found["usage_factor"]),
        "usage_threshold": INFINITE,
    }
    return render("qos", version, values)


# ---- 反过来：读进来的 -> 我们的字段。没有写的不在其中，UNLIMITED 是去掉（None），时长的数是分钟。 ----

_QOS_PATHS = {
    "description": "description", "priority": "priority", "usage_factor": "usage_factor",
    "limits.grace_time": "grace_time", "limits.max.active_jobs.count": "grp_jobs",
    "limits.max.jobs.count": "grp_submit_jobs", "limits.max.tres.total": "grp_tres",
    "limits.max.tres.minutes.total": "grp_tres_run_mins", "limits.max.tres.minutes.per.qos": "grp_tres_mins",
    "limits.max.tres.minutes.per.job": "max_tres_mins_per_job", "limits.max.tres.per.account": "max_tres_per_account",
    "limits.max.tres.per.job": "max_tres_per_job", "limits.max.tres.per.node": "max_tres_per_node",
    "limits.max.tres.per.user": "max_tres_per_user", "limits.max.wall_clock.per.qos": "grp_wall",
    "limits.max.wall_clock.per.job": "max_wall", "limits.max.jobs.active_jobs.per.account": "max_jobs_per_account",
    "limits.max.jobs.active_jobs.per.user": "max_jobs_per_user",
    "limits.max.jobs.per.account": "max_submit_jobs_per_account",
    "limits.max.jobs.per.user": "max_submit_jobs_per_user",
    "limits.min.tres.per.job": "min_tres_per_job", "preempt.list": "preempt", "preempt.mode": "preempt_mode",
    "preempt.exempt_time": "preempt_exempt_time", "flags": "flags",
}  # fmt: skip
_ASSOCIATION_PATHS = {
    "comment": "comment", "default.qos": "default_qos", "qos": "qos", "priority": "priority", "shares_raw": "shares",
    "max.jobs.per.count": "grp_jobs", "max.jobs.per.submitted": "grp_submit_jobs",
    "max.jobs.per.wall_clock": "max_wall", "max.jobs.active": "max_jobs", "max.jobs.total": "max_submit_jobs",
    "max.tres.total": "grp_tres", "max.tres.group.minutes": "grp_tres_mins",
    "max.tres.group.active": "grp_tres_run_mins", "max.tres.minutes.per.job": "max_tres_mins_per_job",
    "max.tres.per.job": "max_tres_per_job", "max.tres.per.node": "max_tres_per_node",
    "max.per.account.wall_clock": "grp_wall",
}  # fmt: skip
# users_association、accounts_association 里的 assoc_rec_set。
_SET_PATHS = {
    "comment": "comment", "defaultqos": "default_qos", "qoslevel": "qos", "priority": "priority", "fairshare": "shares",
    "grpjobs": "grp_jobs", "grpsubmitjobs": "grp_submit_jobs", "grptres": "grp_tres", "grptresmins": "grp_tres_mins",
    "grptresrunmins": "grp_tres_run_mins", "grpwall": "grp_wall", "maxjobs": "max_jobs",
    "maxsubmitjobs": "max_submit_jobs", "maxtresminsperjob": "max_tres_mins_per_job",
    "maxtresperjob": "max_tres_per_job", "maxtrespernode": "max_tres_per_node", "maxwalldurationperjob": "max_wall",
}  # fmt: skip


def qos_changes(given: Record) -> dict[str, Any]:
    """qos -> QosValues 的字段。"""
    found = _taken(given, _QOS_PATHS)
    if "flags" in found:
        found["flags"] = [_OUR_QOS_FLAGS.get(flag, flag) for flag in found["flags"] if flag not in ("NOT_SET", "ADD")]
    if "preempt_mode" in found:
        words = [word.lower() for word in found["preempt_mode"] if word.lower() != "disabled"]
        found["preempt_mode"] = ",".join(sorted(words, key=lambda word: word == "within")) or None
    return found


def association_changes(given: Record) -> dict[str, Any]:
    """assoc -> AssociationValues 的字段。"""
    return _taken(given, _ASSOCIATION_PATHS)


def association_set(given: Record) -> dict[str, Any]:
    """assoc_rec_set -> AssociationValues 的字段。"""
    return _taken(given, _SET_PATHS)


def _taken(given: Record, paths: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, name in paths.items():
        value: Any = given
        for word in path.split("."):
            value = value.get(word) if isinstance(value, Mapping) else None
        # 空的文字与列表是 Slurm 的“没有写”。
        if value is None or value in ("", []):
            continue
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            value = tres_map(value)
        if value == "UNLIMITED":
            value = None
        found[name] = value
    return found
