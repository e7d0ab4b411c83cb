"""调度器的统计、控制器在不在、公平份额 -> sdiag、scontrol ping、sshare 的 JSON 与 slurmrestd。"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scns_conductor.slurm.shapes.schema import INFINITE, render
from scns_conductor.slurm.table.job_values import cluster_name

Record = Mapping[str, Any]
_OLD = ("v0.0.38", "v0.0.39")


def statistics_record(version: str, found: Record) -> dict[str, Any]:
    """stats_msg；时长的单位是微秒。"""
    if version in _OLD:
        return dict(found)
    requests = [
        {"queued": 0, "dropped": 0, "cycle_last": 0, "cycle_max": 0, **row} for row in found["rpcs_by_message_type"]
    ]
    return render("stats_msg", version, {**found, "rpcs_by_message_type": requests})


def ping_record(version: str, hostname: str, *, alive: bool, latency_us: int = 0) -> dict[str, Any]:
    """controller_ping；只有一个控制器（此刻的领导者）。"""
    if version in _OLD:
        return {"hostname": hostname, "ping": "UP" if alive else "DOWN", "status": int(not alive), "mode": "primary"}
    return render(
        "controller_ping",
        version,
        {
            "hostname": hostname,
            "pinged": "UP" if alive else "DOWN",
            "responding": alive,
            "latency": latency_us,
            "mode": "primary",
            "primary": True,
        },
    )


def shares_record(version: str, answer: Record) -> dict[str, Any]:
    """shares_resp_msg：root、各账户与其中的用户，上级在前。"""
    rows = share_rows(answer)
    name = "shares_resp_msg"
    return render(name, version, {"shares": rows, "total_shares": sum(row["shares"] or 0 for row in rows)})


def share_rows(answer: Record) -> list[dict[str, Any]]:
    """GET /shares 的回答 -> 各行；用量是衰减过的 CPU·秒。"""
    children: dict[str | None, list[Record]] = defaultdict(list)
    members: dict[str, list[Record]] = defaultdict(list)
    for account in answer["accounts"]:
        children[account["parent"]].append(account)
    for share in answer["shares"]:
        members[share["account"]].append(share)
    usage: dict[str | None, float] = defaultdict(float)
    for account in reversed(answer["accounts"]):
        usage[account["name"]] += sum(share["usage"] for share in members[account["name"]])
        usage[account["parent"]] += usage[account["name"]]
    total = usage[None]
    rows = [_share("root", "", None, None, 1.0, total, total, total, None)]

    def below(name: str | None) -> None:
        users: Sequence[Record] = members[name] if name is not None else ()
        count = sum(each["shares"] for each in (*users, *children[name]))
        parent = name or "root"

        def add(own: str, kind: str, each: Record, used: float) -> None:
            norm = each["shares"] / count if count else 0.0
            rows.append(_share(own, parent, kind, each["shares"], norm, used, total, usage[name], each.get("factor")))

        for each in users:
            add(each["user_name"], "USER", each, each["usage"])
        for each in children[name]:
            add(each["name"], "ASSOCIATION", each, usage[each["name"]])
            below(each["name"])

    below(None)
    return [{**row, "id": index} for index, row in enumerate(rows, 1)]


def _share(
    name: str, parent: str, kind: str | None, shares: int | None, norm: float, used: float, total: float, level: float,
    factor: float | None,
) -> dict[str, Any]:  # fmt: skip
    effective = used / level if level else 0.0
    return {
        "cluster": cluster_name(),
        "name": name,
        "parent": parent,
        "shares": shares,
        "shares_normalized": norm,
        "effective_usage": effective,
        "usage_normalized": used / total if total else 0.0,
        "usage": round(used),
        "fairshare": {"factor": factor or 0.0, "level": norm / effective if effective else INFINITE},
        "type": [kind] if kind else ["ASSOCIATION"],
    }
