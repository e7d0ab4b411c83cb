"""sdiag：调度器的统计（sdiag(1)）。RPC 的统计是 API 各端点的。"""

import time
from collections.abc import Mapping
from typing import Any

from scns_conductor.slurm.parse.options import flags, hints, option, refused, values
from scns_conductor.slurm.session import Fatal, connect, parse_or_exit
from scns_conductor.slurm.table.json_answer import asked_version, structured, write_answer

OPTIONS = [
    *flags("-r --reset", "-i --sort-by-id", "-t --sort-by-time", "-T --sort-by-time2", "-V --version"),
    *hints(flags("-a --all")),
    *flags("-h --help", "--usage"),
    *refused(values("-M --cluster --clusters")),
    option("--json", "optional"),
    option("--yaml", "optional"),
]
_USAGE = """Usage: sdiag [OPTIONS]
  -a, --all           all statistics
  -r, --reset         reset statistics
  -M, --cluster       direct the request to a specific cluster
  -i, --sort-by-id    sort RPCs by id
  -t, --sort-by-time  sort RPCs by total run time
  -T, --sort-by-time2 sort RPCs by average run time
  --json[=VERSION]    JSON; VERSION such as v0.0.42, list shows all
  --yaml[=VERSION]    YAML
  -V, --version       display current version number

Help options:
  --help          show this help message
  --usage         display brief usage message"""
_RULE = "*" * 55


def main(words: list[str]) -> int:
    """打印统计；-r 归零（管理员）。"""
    parsed = parse_or_exit("sdiag", words, OPTIONS)
    if "help" in parsed or "usage" in parsed:
        print(_USAGE)
        return 0
    if "cluster" in parsed:
        raise Fatal("-M/--cluster is not supported by this system")
    with connect() as client:
        if "reset" in parsed:
            client.reset_diag()
            print("Reset scheduling statistics")
            return 0
        found = client.diag()
    if structured(parsed):
        from scns_conductor.slurm.shapes.statistics import statistics_record

        record = statistics_record(asked_version(parsed), found)
        return write_answer(parsed, "openapi_diag_resp", "statistics", record)
    keys = {"sort_by_time": "total_time", "sort_by_time2": "average_time"}
    key = next((name for option, name in keys.items() if option in parsed), "count")
    rpcs = sorted(found["rpcs_by_message_type"], key=lambda row: -int(row[key]))
    if "sort_by_id" in parsed:
        # 端点没有号，名字就是它的号。
        rpcs.sort(key=lambda row: str(row["message_type"]))
    print("\n".join(lines(found, rpcs)))
    return 0


def _moment(seconds: int) -> str:
    return f"{time.strftime('%a %b %d %H:%M:%S %Y', time.localtime(seconds))} ({seconds})"


def lines(found: Mapping[str, Any], rpcs: list[dict[str, Any]]) -> list[str]:
    """照 Slurm 的次序与写法；没有做过回填时不打印回填的平均（同 Slurm）。"""
    text = [
        _RULE,
        f"sdiag output at {_moment(found['req_time'])}",
        f"Data since      {_moment(found['req_time_start'])}",
        _RULE,
        f"Server thread count:  {found['server_thread_count']}",
        f"Agent queue size:     {found['agent_queue_size']}",
        f"Agent count:          {found['agent_count']}",
        f"Agent thread count:   {found['agent_thread_count']}",
        f"DBD Agent queue size: {found['dbd_agent_queue_size']}",
        "",
        f"Jobs submitted: {found['jobs_submitted']}",
        f"Jobs started:   {found['jobs_started']}",
        f"Jobs completed: {found['jobs_completed']}",
        f"Jobs canceled:  {found['jobs_canceled']}",
        f"Jobs failed:    {found['jobs_failed']}",
        "",
        f"Job states ts:  {_moment(found['job_states_ts'])}",
        f"Jobs pending:   {found['jobs_pending']}",
        f"Jobs running:   {found['jobs_running']}",
        "",
        "Main schedule statistics (microseconds):",
        f"\tLast cycle:   {found['schedule_cycle_last']}",
        f"\tMax cycle:    {found['schedule_cycle_max']}",
        f"\tTotal cycles: {found['schedule_cycle_total']}",
    ]
    if found["schedule_cycle_total"]:
        text += [
            f"\tMean cycle:   {found['schedule_cycle_mean']}",
            f"\tMean depth cycle:  {found['schedule_cycle_mean_depth']}",
        ]
    text += [
        f"\tCycles per minute: {found['schedule_cycle_per_minute']}",
        f"\tLast queue length: {found['schedule_queue_length']}",
        "",
        "Backfilling stats",
        f"\tTotal backfilled jobs (since last slurm start): {found['bf_backfilled_jobs']}",
        f"\tTotal backfilled jobs (since last stats cycle start): {found['bf_last_backfilled_jobs']}",
        f"\tTotal backfilled heterogeneous job components: {found['bf_backfilled_het_jobs']}",
        f"\tTotal cycles: {found['bf_cycle_counter']}",
        f"\tLast cycle when: {_moment(found['bf_when_last_cycle']) if found['bf_when_last_cycle'] else 'N/A'}",
        f"\tLast cycle: {found['bf_cycle_last']}",
        f"\tMax cycle:  {found['bf_cycle_max']}",
    ]
    if found["bf_cycle_counter"]:
        text.append(f"\tMean cycle: {found['bf_cycle_mean']}")
    text += [
        f"\tLast depth cycle: {found['bf_last_depth']}",
        f"\tLast depth cycle (try sched): {found['bf_last_depth_try']}",
    ]
    if found["bf_cycle_counter"]:
        text += [
            f"\tDepth Mean: {found['bf_depth_mean']}",
            f"\tDepth Mean (try depth): {found['bf_depth_mean_try']}",
        ]
    text.append(f"\tLast queue length: {found['bf_queue_len']}")
    if found["bf_cycle_counter"]:
        text.append(f"\tQueue length mean: {found['bf_queue_len_mean']}")
    text.append(f"\tLast table size: {found['bf_table_size']}")
    if found["bf_cycle_counter"]:
        text.append(f"\tMean table size: {found['bf_table_size_mean']}")
    text += ["", "Remote Procedure Call statistics by message type"]
    text += [
        f"\t{row['message_type']:<40}({row['type_id']:5d}) count:{row['count']:<6} "
        f"ave_time:{row['average_time']:<6} total_time:{row['total_time']}"
        for row in rpcs
    ]
    text += ["", "Remote Procedure Call statistics by user", "", "Pending RPC statistics", "\tNo pending RPCs"]
    return text
