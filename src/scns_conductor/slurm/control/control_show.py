"""scontrol show：作业、节点、分区、作业步、设置、许可证、拓扑、节点名列表（scontrol(1)）。"""

import os
import sys
from collections.abc import Callable
from typing import Any

from scns_conductor.client import JsonClient, Problem
from scns_conductor.core.hostlist import compress
from scns_conductor.slurm.control import control_reservations
from scns_conductor.slurm.parse.hosts import named_hosts, split_list
from scns_conductor.slurm.parse.options import Parsed
from scns_conductor.slurm.queue.job_dependencies import with_dependencies
from scns_conductor.slurm.queue.queue_filter import asked_tasks
from scns_conductor.slurm.queue.queue_priority import with_priorities
from scns_conductor.slurm.session import Fatal, connect
from scns_conductor.slurm.table.json_answer import asked_version, moments, structured, write_answer


def show(parsed: Parsed, words: list[str]) -> int:
    """scontrol show 什么 [哪个]。"""
    if not words:
        raise Fatal("too few arguments for keyword:show", prefix=None)
    entity, _, attached = words[0].partition("=")
    given = attached or (words[1] if len(words) > 1 else "")
    entity = entity.lower()
    for names, draw in SHOWS:
        if any(name == entity or (len(entity) > 2 and name.startswith(entity)) for name in names):
            if structured(parsed) and draw not in _STRUCTURED:
                raise Fatal(f"--json and --yaml are not supported for scontrol show {names[0]}")
            # assoc_mgr 可以有几个条件。
            return draw(parsed, " ".join(words[1:]) if draw is _show_associations else given)
    raise Fatal(f"invalid entity:{words[0]} for keyword:show ", prefix=None)


def _show_job(parsed: Parsed, given: str) -> int:
    from scns_conductor.slurm.control.control_text import job_lines, paragraph

    with connect() as client:
        try:
            if given:
                wanted = split_list(given.partition("=")[2] or given)
                jobs = list(client.jobs(job_id=",".join(wanted), sort="job_id"))
                jobs = [each for job in jobs for each in asked_tasks(job, wanted)]
            else:
                jobs = list(client.jobs(state="PENDING,RUNNING,SUSPENDED", sort="job_id", limit=10_000))
                age_s = int(client.config()["min_job_age_s"])
                jobs += list(client.jobs(end_after=f"now-{age_s}seconds", sort="job_id", limit=10_000))
        except Problem as problem:
            if problem.status != 404:
                raise
            jobs = []
        jobs = with_dependencies(client, with_priorities(client, jobs))
        if given and "details" in parsed:
            jobs = [_with_shares(client, job) for job in jobs]
    if structured(parsed):
        from scns_conductor.slurm.shapes.jobs import job_record

        version = asked_version(parsed)
        records = (job_record(version, job) for job in jobs)
        return write_answer(parsed, "openapi_job_info_resp", "jobs", records, **moments(version))
    if not jobs:
        if "_" in given:
            print(f"Job {given} not found")
            return 1
        if given:
            what = "slurm_load_jobs" if given[:1].isdigit() else "scontrol_print_job"
            raise Fatal(f"{what} error: Invalid job id specified", prefix=None)
        print("No jobs in the system")
        return 0
    one = "oneliner" in parsed
    for job in jobs:
        print(paragraph(job_lines(job, "details" in parsed), one_line=one))
    return 0


def _with_shares(client: JsonClient, job: dict[str, Any]) -> dict[str, Any]:
    """-d 要看各节点上的份额；没有在跑的没有。"""
    if job["state"] not in ("RUNNING", "SUSPENDED"):
        return job
    return {**job, "allocations": client.job(job["job_id"])["allocations"]}


def _show_node(parsed: Parsed, given: str) -> int:
    from scns_conductor.slurm.control.control_text import node_lines, paragraph

    with connect() as client:
        nodes, partitions = client.nodes(), client.partitions()
    wanted = named_hosts(given) if given else [node["name"] for node in nodes]
    by_name = {node["name"]: node for node in nodes}
    code = 0
    if structured(parsed):
        from scns_conductor.slurm.shapes.nodes import node_record

        version = asked_version(parsed)
        chosen = [by_name[name] for name in wanted if name in by_name]
        records = [node_record(version, node, _inside(node, partitions, nodes)) for node in chosen]
        return write_answer(parsed, "openapi_nodes_resp", "nodes", records, **moments(version))
    for name in wanted:
        if name not in by_name:
            print(f"Node {name} not found")
            code = 1
            continue
        node = by_name[name]
        one = "oneliner" in parsed
        print(paragraph(node_lines(node, _inside(node, partitions, nodes), one_line=one), one_line=one))
    return code


def _inside(node: dict[str, Any], partitions: list[dict[str, Any]], nodes: list[dict[str, Any]]) -> list[str]:
    """节点在哪些分区里。"""
    from scns_conductor.slurm.nodes.node_values import partition_nodes

    return [each["name"] for each in partitions if node in partition_nodes(each, nodes)]


def _show_partition(parsed: Parsed, given: str) -> int:
    from scns_conductor.slurm.control.control_config import root_jobs_allowed
    from scns_conductor.slurm.control.control_text import paragraph, partition_lines
    from scns_conductor.slurm.nodes.node_values import partition_nodes

    with connect() as client:
        nodes, partitions = client.nodes(), client.partitions()
        settings = {} if structured(parsed) else client.config()
    chosen = [each for each in partitions if not given or each["name"] in given.split(",")]
    if structured(parsed):
        from scns_conductor.slurm.shapes.nodes import partition_record

        version = asked_version(parsed)
        records = [partition_record(version, each, partition_nodes(each, nodes)) for each in chosen]
        return write_answer(parsed, "openapi_partition_resp", "partitions", records, **moments(version))
    if not chosen and given:
        print(f"Partition {given} not found")
        return 1
    for each in chosen:
        lines = partition_lines(each, partition_nodes(each, nodes), root_jobs=root_jobs_allowed(settings))
        print(paragraph(lines, one_line="oneliner" in parsed))
    return 0


def _show_hostnames(_parsed: Parsed, given: str) -> int:
    given = given or os.environ.get("SLURM_JOB_NODELIST") or os.environ.get("SLURM_NODELIST") or ""
    if not given:
        raise Fatal("host list is empty", code=0)
    print("\n".join(named_hosts(given)))
    return 0


def _names_from(given: str) -> list[str]:
    """逗号相隔的名字，或 / 开头的文件（hostlist 的参数）。"""
    if not given:
        raise Fatal("invalid hostlist", prefix=None)
    if given.startswith("/"):
        with open(given, encoding="utf-8") as file:
            text = file.read()
    else:
        text = given
    return [name for part in text.replace("\n", ",").split(",") if part.strip() for name in [part.strip()]]


def _show_hostlist(_parsed: Parsed, given: str) -> int:
    text = ",".join(_names_from(given))
    print(compress(named_hosts(text)))
    return 0


def _show_hostlistsorted(_parsed: Parsed, given: str) -> int:
    print(compress(sorted(named_hosts(",".join(_names_from(given))))))
    return 0


def _show_reservation(parsed: Parsed, given: str) -> int:
    from scns_conductor.slurm.control.control_text import paragraph

    with connect() as client:
        found = [each for each in client.reservations() if each["state"] != "ENDED" and given in ("", each["name"])]
        nodes = {node["name"]: node for node in client.nodes()} if found else {}
    if structured(parsed):
        from scns_conductor.slurm.shapes.nodes import reservation_record

        version = asked_version(parsed)
        records = [reservation_record(version, each) for each in found]
        return write_answer(parsed, "openapi_reservation_resp", "reservations", records, **moments(version))
    if not found:
        print(f"Reservation {given} not found" if given else "No reservations in the system")
        return 1 if given else 0
    for each in found:
        print(paragraph(control_reservations.lines(each, nodes), one_line="oneliner" in parsed))
    return 0


def _show_step(parsed: Parsed, given: str) -> int:
    from scns_conductor.slurm.step.step_values import control_text, live_steps

    job_id, _, step_id = given.partition(".")
    with connect() as client:
        steps = live_steps(client, job_id or None)
    steps = [step for step in steps if not step_id or str(step["step_id"]) == step_id]
    if structured(parsed):
        from scns_conductor.slurm.shapes.accounting_jobs import live_step_record

        version = asked_version(parsed)
        return write_answer(parsed, "openapi_steps_resp", "steps", [live_step_record(version, step) for step in steps])
    if not steps:
        if given:
            raise Fatal("slurm_get_job_steps error: Invalid job id specified", prefix=None)
        print("No job steps in the system")
        return 0
    for step in steps:
        print(control_text(step, one_line="oneliner" in parsed) + ("" if "oneliner" in parsed else "\n"))
    return 0


def _show_config(_parsed: Parsed, _given: str) -> int:
    from scns_conductor.slurm.control.control_config import config_lines

    with connect() as client:
        found, nodes = client.config(), client.nodes()
        print("\n".join(config_lines(found, nodes, client.url)))
    return 0


def _show_licenses(parsed: Parsed, given: str) -> int:
    with connect() as client:
        everything = client.licenses()
    found = [each for each in everything if given in ("", each["name"])]
    if structured(parsed):
        from scns_conductor.slurm.shapes.nodes import license_record

        version = asked_version(parsed)
        records = [license_record(version, each) for each in found]
        return write_answer(parsed, "openapi_licenses_resp", "licenses", records, **moments(version))
    if not found:
        print(f"License name {given} not found in system." if everything else "No licenses configured in Slurm.")
        return 1 if everything else 0
    for each in found:
        counts = f"Total={each['total']} Used={each['used']} Free={each['free']} Reserved=0 Remote=no"
        print(f"LicenseName={each['name']}", counts, sep=" " if "oneliner" in parsed else "\n    ")
    return 0


def _show_topology(_parsed: Parsed, _given: str) -> int:
    """节点的交换机路径 core/rack1：叶子是第 0 层。"""
    with connect() as client:
        nodes = [node for node in client.nodes() if node.get("topology")]
    if not nodes:
        print("scontrol: error: No topology information available", file=sys.stderr)
        return 0
    members: dict[str, list[str]] = {}
    below: dict[str, set[str]] = {}
    for node in nodes:
        path = [part for part in str(node["topology"]).split("/") if part]
        for depth, name in enumerate(path):
            members.setdefault(name, []).append(node["name"])
            below.setdefault(name, set()).update(path[depth + 1 : depth + 2])
    levels: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in levels:
            levels[name] = 1 + max((level(child) for child in below[name]), default=-1)
        return levels[name]

    for name in sorted(members, key=lambda each: (level(each), each)):
        switches = f" Switches={compress(sorted(below[name]))}" if below[name] else ""
        print(f"SwitchName={name} Level={level(name)} LinkSpeed=1 Nodes={compress(members[name])}{switches}")
    return 0


def _show_daemons(_parsed: Parsed, _given: str) -> int:
    """本机上该有哪些守护进程：节点上是 slurmd。"""
    with connect() as client:
        names = {node["name"] for node in client.nodes()}
    print("slurmctld slurmd" if os.uname().nodename.split(".")[0] in names or names else "slurmctld")
    return 0


def _show_associations(parsed: Parsed, given: str) -> int:
    from scns_conductor.slurm.control.control_associations import show_associations

    return show_associations(parsed, given.split())


def _show_aliases(_parsed: Parsed, given: str) -> int:
    """节点的别名；本系统里节点名就是它自己。"""
    name = given or os.environ.get("SLURMD_NODENAME") or os.uname().nodename.split(".")[0]
    print(name)
    return 0


def _show_nothing(_parsed: Parsed, _given: str) -> int:
    """没有联邦、突发缓冲：照 Slurm 什么也不打印。"""
    return 0


def _refused(name: str, why: str) -> Callable[[Parsed, str], int]:
    def refuse(_parsed: Parsed, _given: str) -> int:
        raise Fatal(f"scontrol show {name} is not supported by this system: {why}", prefix=None)

    return refuse


# 有 --json 与 --yaml 的。
_STRUCTURED = (_show_job, _show_node, _show_partition, _show_reservation, _show_step, _show_licenses)
SHOWS: tuple[tuple[tuple[str, ...], Callable[[Parsed, str], int]], ...] = (
    (("job", "jobs", "jobid"), _show_job),
    (("node", "nodes", "nodename"), _show_node),
    (("partition", "partitions", "partitionname"), _show_partition),
    (("config", "configuration"), _show_config),
    (("hostnames", "hostname"), _show_hostnames),
    (("hostlist",), _show_hostlist),
    (("hostlistsorted",), _show_hostlistsorted),
    (("reservation", "reservations", "reservationname"), _show_reservation),
    (("licenses", "license"), _show_licenses),
    (("step", "steps", "stepid"), _show_step),
    (("topology",), _show_topology),
    (("daemons",), _show_daemons),
    (("aliases",), _show_aliases),
    (("federation", "bbstat", "burstbuffer", "dwstat"), _show_nothing),
    (("assoc_mgr", "associations"), _show_associations),
    (("slurmd",), _refused("slurmd", "use scontrol show node")),
    (("frontend",), _refused("frontend", "there are no front end nodes")),
)
