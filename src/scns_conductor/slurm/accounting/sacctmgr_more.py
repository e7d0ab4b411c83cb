"""sacctmgr 的其余：show event、reservation、wckey、transaction、runawayjobs、stats、configuration；dump 与 load。"""

import time
from datetime import datetime
from typing import Any

from scns_conductor.client import JsonClient, Problem
from scns_conductor.core.hostlist import check_hostlist, expand
from scns_conductor.slurm.accounting.sacctmgr_changes import Planned
from scns_conductor.slurm.accounting.sacctmgr_columns import Field
from scns_conductor.slurm.accounting.sacctmgr_transactions import transactions
from scns_conductor.slurm.accounting.sacctmgr_words import Request
from scns_conductor.slurm.moving.account_dump import read_dump, write_dump
from scns_conductor.slurm.moving.findings import Findings
from scns_conductor.slurm.session import Fatal, slurm_error
from scns_conductor.slurm.table.job_values import cluster_name

Rows = list[dict[str, Any]]
_LARGEST = 512 * 1024**2
# wckey 从什么时候起的作业里找。
_EVER = "2000-01-01"


def _text(name: str) -> Any:
    return lambda row: "" if row.get(name) is None else str(row[name])


def _instant(name: str) -> Any:
    return lambda row: "Unknown" if row.get(name) is None else _local(row[name])


def _local(value: Any) -> str:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment.astimezone().strftime("%Y-%m-%dT%H:%M:%S")


# ---- show ----

EVENT = {
    "cluster": Field("Cluster", 10, _text("cluster")),
    "nodename": Field("NodeName", 15, _text("name")),
    "start": Field("TimeStart", 19, _instant("reason_time")),
    "timestart": Field("TimeStart", 19, _instant("reason_time")),
    "end": Field("TimeEnd", 19, lambda _row: "Unknown"),
    "timeend": Field("TimeEnd", 19, lambda _row: "Unknown"),
    "state": Field("State", 6, _text("state")),
    "reason": Field("Reason", 30, _text("reason")),
    "user": Field("User", 10, _text("reason_user")),
}
EVENT_FORMAT = "cluster,nodename,timestart,timeend,state,reason,user"
RESERVATION = {
    "cluster": Field("Cluster", 10, _text("cluster")),
    "name": Field("Name", 15, _text("name")),
    "tres": Field("TRES", 30, lambda row: f"node={row['nodes_count']}" if row["nodes_count"] else ""),
    "start": Field("TimeStart", 19, _instant("start_time")),
    "timestart": Field("TimeStart", 19, _instant("start_time")),
    "end": Field("TimeEnd", 19, _instant("end_time")),
    "timeend": Field("TimeEnd", 19, _instant("end_time")),
    "flags": Field("Flags", 20, lambda row: ",".join(row["flags"])),
    "nodenames": Field("NodeNames", 20, _text("node_list")),
    "associations": Field("Assocs", 20, lambda row: ",".join([*row["accounts"], *row["users"]])),
}
RESERVATION_FORMAT = "cluster,name,tres,timestart,timeend"
WCKEY = {
    "wckey": Field("WCKey", 10, _text("wckey")),
    "cluster": Field("Cluster", 10, _text("cluster")),
    "user": Field("User", 10, _text("user_name")),
}
WCKEY_FORMAT = "wckey,cluster,user"


def events(client: JsonClient, request: Request, _with: bool) -> tuple[str, Any, Rows]:
    """停用着的节点，各自从何时起（过去的不记）。"""
    rows = [
        {**node, "cluster": cluster_name()}
        for node in client.nodes()
        if node.get("reason_time") is not None and (node["drain"] or node["availability"] != "UP")
    ]
    wanted = [*request.names, *request.where.get("node", [])]
    return EVENT_FORMAT, EVENT, [row for row in rows if not wanted or row["name"] in wanted]


def reservations(client: JsonClient, request: Request, _with: bool) -> tuple[str, Any, Rows]:
    """各预留。"""
    wanted = [*request.names, *request.where.get("name", [])]
    rows = [
        {**row, "cluster": cluster_name(), "nodes_count": check_hostlist(row["node_list"]) if row["node_list"] else 0}
        for row in client.reservations()
        if not wanted or row["name"] in wanted
    ]
    return RESERVATION_FORMAT, RESERVATION, rows


def wckeys(client: JsonClient, request: Request, _with: bool) -> tuple[str, Any, Rows]:
    """作业里写过的工作负载标签；它们不用登记。"""
    found = {(row["wckey"], row["user_name"]) for row in client.usage(_EVER)["usage"] if row.get("wckey")}
    wanted = [*request.names, *request.where.get("name", [])]
    rows = [
        {"wckey": key, "user_name": user, "cluster": cluster_name()}
        for key, user in sorted(found)
        if not wanted or key in wanted
    ]
    return WCKEY_FORMAT, WCKEY, rows


TABLES = {"event": events, "reservation": reservations, "wckey": wckeys, "transaction": transactions}


def configuration(client: JsonClient) -> None:
    """记账有关的设置。"""
    print(f"Configuration data as of {time.strftime('%Y-%m-%dT%H:%M:%S')}")
    settings = client.config()
    host, _, port = client.url.partition("://")[2].partition(":")
    rows: dict[str, Any] = {
        "AccountingStorageEnforce": ",".join(settings.get("accounting_storage_enforce") or []) or "none",
        "AccountingStorageHost": host,
        "AccountingStoragePort": port.rstrip("/") or "(null)",
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "ClusterName": settings.get("cluster_name"),
        "DbdAddr": host,
        "DbdHost": host,
        "PriorityDecayHalfLife": settings.get("priority_decay_half_life_s"),
        "StorageType": "accounting_storage/postgresql",
    }
    for name, value in rows.items():
        print(f"{name:<22} = {value}")


def stats(client: JsonClient) -> None:
    """各端点回答了多少、多快（sdiag 的那些）。"""
    print("Remote Procedure Call statistics by message type")
    for row in client.diag()["rpcs_by_message_type"]:
        print(
            f"\t{row['message_type']:<40} ({row['type_id']:>5}) count:{row['count']:<6} "
            f"ave_time:{row['average_time']:<6} total_time:{row['total_time']}"
        )


def runaway_jobs(client: JsonClient) -> None:
    """记着在运行，而它的节点都下线了、没有了的：调度器几秒之内就会结束它们，久了还在的不对。"""
    alive = {node["name"] for node in client.nodes() if node["availability"] != "DOWN"}
    fields = "job_id,name,partition,state,node_list,start_time"
    running = client.jobs(state="RUNNING,SUSPENDED", fields=fields)
    lost = [job for job in running if not alive & set(expand(job["node_list"] or ""))]
    if not lost:
        print(f"Runaway Jobs: No runaway jobs found on cluster {cluster_name()}")
        return
    print("NOTE: Runaway jobs are running in the database, but all their nodes are down or gone")
    print(f"{'ID':<12} {'Name':<10} {'Partition':<10} {'Cluster':<10} {'State':<10} {'TimeStart':<19} {'TimeEnd':<19}")
    for job in lost:
        print(
            f"{job['job_id']:<12} {job['name'][:10]:<10} {job['partition'][:10]:<10} {cluster_name()[:10]:<10} "
            f"{job['state']:<10} {_local(job['start_time']):<19} {'Unknown':<19}"
        )


TEXTS = {"configuration": configuration, "stats": stats, "runawayjobs": runaway_jobs}


# ---- dump 与 load ----


def _options(words: list[str]) -> tuple[list[str], dict[str, str]]:
    plain = [word for word in words if "=" not in word]
    named = {word.partition("=")[0].lower(): word.partition("=")[2].strip("'\"") for word in words if "=" in word}
    return plain, named


def dump(client: JsonClient, words: list[str]) -> int:
    """账户树写进文件，写法是 Slurm 的。"""
    plain, named = _options(words)
    cluster = named.get("cluster") or next(iter(plain), "")
    if not cluster:
        raise Fatal(" We need a cluster to dump.", prefix=None)
    if cluster.lower() != cluster_name().lower():
        raise Fatal(f" Cluster {cluster} returned nothing.", prefix=None)
    path = named.get("file") or f"./{cluster}.cfg"
    if "file" not in named:
        print(f" No filename given, using {path}.")
    text = write_dump(cluster, client.accounts(), client.users(), client.associations())
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Fatal(f"Can't open file {path}, {error.strerror}") from error
    return 0


def load(client: JsonClient, words: list[str]) -> Planned:
    """照 dump 的文件改账户树，一个事务（与 scns apply 同一处）；clean 时删去文件里没有的。"""
    plain, named = _options(words)
    clean = any(word.lower() == "clean" for word in plain)
    path = named.get("file") or next((word for word in plain if word.lower() != "clean"), "")
    if not path:
        raise Fatal("No filename given", prefix=None)
    content = _loaded(path)
    _keep(client, content)
    try:
        found = client.apply_cluster(content, dry_run=True, prune=clean)
    except Problem as problem:
        raise Fatal(f" Error with request: {slurm_error(problem)}", prefix=None) from problem
    if not found["changes"]:
        print("There is nothing to do.")
        return Planned()
    titles = {"create": "Adding", "update": "Modifying", "delete": "Deleting"}
    lines = [f" {titles[each['action']]} {each['section']}\n  {each['name']}" for each in found["changes"]]
    return Planned(lines, [lambda: client.apply_cluster(content, prune=clean, expect=found["fingerprint"])])


def _loaded(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST).decode("utf-8-sig", "replace")
    except OSError as error:
        raise Fatal(f'Unable to read "{path}": {error.strerror}') from error
    findings = Findings()
    content = read_dump(path, text, findings).content()
    if findings.found:
        raise Fatal(*(f"{each.place}: {each.text}: {each.reason}" for each in findings.found), prefix=None)
    if not content:
        raise Fatal("Misformatted line(0): no cluster given", prefix=None)
    return content


def _keep(client: JsonClient, content: dict[str, Any]) -> None:
    """文件里的 QOS 只有名字：已有的不动。"""
    known = {row["name"] for row in client.qos()}
    content["qos"] = [each for each in content.get("qos", ()) if each["name"] not in known]
    if not content["qos"]:
        del content["qos"]
