"""预留对着真的系统：维护窗口挡住长作业、放过短作业；许用的人进得去；错误说得清。"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from slurm_links import Commands

from lent_systems import set_up
from running_system import RunningSystem, as_user, wait_until


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    return set_up(lent_system, licenses="matlab:3")


@pytest.fixture
def slurm(system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(system, tmp_path)


def test_a_maintenance_window(system: RunningSystem, slurm: Commands) -> None:
    made = slurm.run(
        "scontrol", "create", "reservation", "reservationname=maint", "starttime=now+1hour", "duration=120",
        "nodes=ALL", "flags=MAINT", "users=daemon",
    )  # fmt: skip
    assert (made.returncode, made.stdout) == (0, "Reservation created: maint\n"), made.stderr
    shown = slurm.run("scontrol", "show", "res", "maint").stdout
    assert "ReservationName=maint" in shown
    assert "Duration=02:00:00" in shown
    assert "Nodes=node[1-2] NodeCnt=2 CoreCnt=4 Features=(null) PartitionName=(null)" in shown
    assert "Flags=MAINT,SPEC_NODES,ALL_NODES" in shown
    assert slurm.run("sinfo", "-T").stdout.splitlines()[1].split()[:2] == ["maint", "INACTIVE"]
    long = system.submit("true\n", time_limit="300")
    endless = system.submit("true\n")
    short = system.submit("true\n", time_limit="30")
    system.wait_state(short, "COMPLETED")
    for job in (long, endless):
        wait_until(lambda job=job: system.call("GET", f"/jobs/{job}")[1]["reason"] == "ReqNodeNotAvail", 60, "原因")  # type: ignore[misc]
    expected = system.call("GET", f"/jobs/{long}")[1]["expected_start_time"]
    assert expected is not None
    # Slurm 的话。
    assert "(ReqNodeNotAvail, Reserved for maintenance)" in slurm.run("squeue", "-j", long).stdout
    assert "Reason=ReqNodeNotAvail,_Reserved_for_maintenance" in slurm.run("scontrol", "show", "job", long).stdout
    unknown = system.call("PATCH", f"/jobs/{long}", {"reservation": "nowhere"})
    assert (unknown[0], unknown[1]["code"]) == (422, "reservation_unknown")
    assert system.call("PATCH", f"/jobs/{long}", {"reservation": "maint"})[1]["code"] == "reservation_denied"
    assert slurm.run("scontrol", "delete", "reservationname=maint").returncode == 0
    for job in (long, endless):
        system.wait_state(job, "COMPLETED")
    assert slurm.run("scontrol", "show", "reservation").stdout == "No reservations in the system\n"


def test_only_the_listed_user_gets_in_and_the_end_frees_the_nodes(system: RunningSystem, slurm: Commands) -> None:
    alice = as_user(system, "alice")
    body = {"name": "class", "node_count": 1, "users": ["alice"], "start_time": "now", "duration": "60"}
    status, answer = system.call("POST", "/reservations", body)
    assert status == 201, answer
    assert answer["state"] == "ACTIVE"
    node = answer["nodes"]
    everyone = [system.submit("true\n", tasks=2, time_limit="5", required_nodes=node)]
    inside = alice.submit("sleep 0.3\n", tasks=2, time_limit="5", reservation="class")
    found = alice.wait_state(inside, "COMPLETED")
    assert found["detail"]["node_list"] == node
    assert system.query(everyone[0])["state"] == "PENDING"
    too_long = alice.submit("true\n", time_limit="600", reservation="class")
    wait_until(lambda: system.call("GET", f"/jobs/{too_long}")[1]["reason"] == "Reservation", 60, "比预留长")
    refused = system.call("POST", "/jobs/submit", {"job": {"reservation": "class"}, "script": "true\n"})
    assert (refused[0], refused[1]["code"]) == (403, "reservation_denied")
    assert "预留 class" in alice.call("GET", f"/jobs/{too_long}/why")[1]["text"]
    in_use = system.call("DELETE", "/reservations/class")
    assert (in_use[0], in_use[1]["code"]) == (409, "reservation_in_use")
    alice.call("POST", f"/jobs/cancel/{too_long}")
    # 提前结束：改短之后，到时自己放开。
    assert system.call("PATCH", "/reservations/class", {"end_time": "now+1"})[0] == 200
    system.wait_state(everyone[0], "COMPLETED")


def test_bad_requests_are_told(system: RunningSystem, slurm: Commands) -> None:
    def code(body: dict[str, object]) -> str:
        return str(system.call("POST", "/reservations", {"name": "x", "start_time": "now+1hour", **body})[1]["code"])

    assert code({}) == "reservation_endless"
    assert code({"duration": "10"}) == "reservation_nodes_missing"
    assert code({"duration": "10", "nodes": "nowhere"}) == "node_not_found"
    assert code({"duration": "10", "node_count": 9}) == "reservation_too_large"
    assert code({"end_time": "now", "nodes": "ALL"}) == "reservation_empty"
    assert code({"duration": "10", "nodes": "ALL", "flags": ["USER_DELET"]}) == "flag_unknown"
    assert code({"duration": "10", "nodes": "ALL", "flags": ["DAILY", "WEEKLY"]}) == "flags_conflict"
    assert code({"duration": "61", "nodes": "ALL", "flags": ["HOURLY"]}) == "reservation_long"
    assert code({"duration": "10", "partition": "nowhere"}) == "partition_unknown"
    assert code({"duration": "10", "nodes": "node1", "flags": ["PART_NODES"]}) == "flags_conflict"
    assert code({"duration": "10", "licenses": "matlab"}) == "reservation_nodes_missing"
    assert code({"duration": "10", "flags": ["LICENSE_ONLY"]}) == "flags_conflict"
    assert code({"duration": "10", "licenses": "maple", "flags": ["LICENSE_ONLY"]}) == "license_unknown"
    for licenses in ("matlab:x", "matlab:0", "matlab:²"):
        assert code({"duration": "10", "licenses": licenses, "flags": ["LICENSE_ONLY"]}) == "invalid_field"
    assert code({"duration": "10", "licenses": "matlab:4", "flags": ["ANY_NODES"]}) == "reservation_too_large"
    assert code({"duration": "10", "licenses": "matlab", "nodes": "node1", "flags": ["ANY_NODES"]}) == "flags_conflict"
    assert code({"duration": "10", "nodes": "ALL", "colour": "red"}) == "unknown_field"
    holder = system.submit("sleep 60\n")
    system.wait_state(holder, "RUNNING")
    assert code({"duration": "10", "nodes": "ALL"}) == "reservation_nodes_busy"
    assert system.call("POST", "/reservations", {"name": "x", "start_time": "now+1hour", "duration": "10",
                                                 "nodes": "ALL", "flags": ["ignore_jobs"]})[0] == 201  # fmt: skip
    assert code({"name": "y", "duration": "10", "nodes": "node1", "flags": ["IGNORE_JOBS"]}) == "reservation_overlaps"
    assert code({"duration": "10", "nodes": "node1", "flags": ["IGNORE_JOBS", "OVERLAP"]}) == "reservation_exists"
    bob = as_user(system, "bob")
    assert bob.call("DELETE", "/reservations/x")[1]["code"] == "admin_required"
    assert system.call("DELETE", "/reservations/x")[0] == 204
    assert system.call("DELETE", "/reservations/x")[1]["code"] == "reservation_not_found"
    system.call("POST", f"/jobs/cancel/{holder}")
    done = slurm.run("sbatch", "--reservation=none", text="#!/bin/bash\ntrue\n")
    assert (done.returncode, done.stderr) == (
        1, "sbatch: error: Batch job submission failed: Requested reservation is invalid\n",
    )  # fmt: skip


def scontrol(slurm: Commands, *words: str) -> str:
    done = slurm.run("scontrol", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_recurring_one_comes_again(system: RunningSystem, slurm: Commands) -> None:
    """每小时重复：这一次过去，显示的就是下一次；比空隙长的作业进不去，短的照跑。"""
    # 已经过去的、不重复的，时间多半写错了。
    past = {"name": "gone", "nodes": "ALL", "start_time": "now-50minutes", "duration": "30", "users": ["alice"]}
    refused, problem = system.call("POST", "/reservations", past)
    assert (refused, problem["code"]) == (422, "reservation_over")
    done = slurm.run(
        "scontrol", "create", "reservation", "starttime=2020-01-01", "duration=10", "nodes=ALL", "users=daemon"
    )
    assert (done.returncode, done.stderr) == (1, "Error creating the reservation: Invalid time specified\n")
    body = {"name": "hourly", "nodes": "ALL", "start_time": "now-50minutes", "duration": "30", "flags": ["hourly"]}
    status, answer = system.call("POST", "/reservations", {**body, "users": ["alice"]})
    assert (status, answer["state"]) == (201, "INACTIVE"), answer
    begin, end = (datetime.fromisoformat(answer[key]) for key in ("start_time", "end_time"))
    assert end - begin == timedelta(minutes=30)
    assert timedelta(minutes=9) < begin - datetime.now(UTC) <= timedelta(minutes=10)
    short = system.submit("true\n", time_limit="5")
    system.wait_state(short, "COMPLETED")
    # 10 分钟之后开始、再 30 分钟之后才有 30 分钟的空隙：20 分钟的等到那时，40 分钟的等不到。
    medium, long = (system.submit("true\n", time_limit=limit) for limit in ("20", "40"))
    for job in (medium, long):
        wait_until(lambda job=job: system.call("GET", f"/jobs/{job}")[1]["reason"] == "ReqNodeNotAvail", 60, "原因")  # type: ignore[misc]
    assert "(ReqNodeNotAvail, May be reserved for other job)" in slurm.run("squeue", "-j", long).stdout
    assert datetime.fromisoformat(system.call("GET", f"/jobs/{medium}")[1]["expected_start_time"]) == end
    assert system.call("GET", f"/jobs/{long}")[1]["expected_start_time"] is None
    assert "hourly" in system.call("GET", f"/jobs/{long}/why")[1]["text"]
    assert "Flags=HOURLY,SPEC_NODES,ALL_NODES" in scontrol(slurm, "show", "res", "hourly")
    # 与下一次碰上的新预留不行。
    clash = {"name": "clash", "nodes": "node1", "start_time": "now+75minutes", "duration": "5"}
    assert system.call("POST", "/reservations", clash)[1]["code"] == "reservation_overlaps"
    scontrol(slurm, "update", "reservationname=hourly", "flags-=HOURLY", "users+=bob")
    shown = system.call("GET", "/reservations/hourly")[1]
    assert (shown["flags"], shown["users"]) == (["SPEC_NODES", "ALL_NODES"], ["alice", "bob"])
    assert datetime.fromisoformat(shown["start_time"]) == begin
    assert scontrol(slurm, "delete", "reservationname=hourly") == ""
    for job in (medium, long):
        system.wait_state(job, "COMPLETED")


def test_the_turn_of_a_recurring_one_is_noticed(system: RunningSystem) -> None:
    """这一次结束时放开节点，而这个预留还在（下一次在一天之后）。"""
    body = {"name": "daily", "nodes": "ALL", "start_time": "now", "end_time": "now+3", "flags": ["DAILY"]}
    assert system.call("POST", "/reservations", body)[1]["state"] == "ACTIVE"
    waiting = system.submit("true\n", time_limit="5")
    wait_until(lambda: system.call("GET", f"/jobs/{waiting}")[1]["reason"] == "ReqNodeNotAvail", 60, "挡住")
    system.wait_state(waiting, "COMPLETED")
    shown = system.call("GET", "/reservations/daily")[1]
    assert shown["state"] == "INACTIVE"
    assert datetime.fromisoformat(shown["start_time"]) > datetime.now(UTC) + timedelta(hours=23)
    blocked = system.submit("true\n", time_limit="1-00:00:00")
    wait_until(lambda: system.call("GET", f"/jobs/{blocked}")[1]["reason"] == "ReqNodeNotAvail", 60, "碰到明天的")
    system.call("POST", f"/jobs/cancel/{blocked}")
    assert system.call("DELETE", "/reservations/daily")[0] == 204


def test_nodes_of_a_partition(system: RunningSystem, slurm: Commands) -> None:
    """PartitionName 取它的节点；PART_NODES 的跟着它变；没有写分区的作业用预留的分区。"""
    assert system.call("POST", "/partitions", {"name": "right", "nodes": "node2"})[0] == 201
    future = ("starttime=now+1hour", "duration=10", "users=daemon")
    scontrol(slurm, "create", "reservationname=fixed", *future, "partitionname=right")
    scontrol(slurm, "create", "reservationname=moving", "starttime=now+3hours", "duration=10", "users=daemon",
             "partitionname=right", "nodes=ALL", "flags=PART_NODES")  # fmt: skip
    for name, flags in (("fixed", ""), ("moving", "SPEC_NODES,PART_NODES")):
        shown = scontrol(slurm, "show", "res", name)
        assert "Nodes=node2 NodeCnt=1 CoreCnt=2 Features=(null) PartitionName=right" in shown
        assert f"Flags={flags}\n" in shown
    assert system.call("PATCH", "/partitions/right", {"nodes": "ALL"})[0] == 200
    assert "Nodes=node2 NodeCnt=1" in scontrol(slurm, "show", "res", "fixed")
    assert "Nodes=node[1-2] NodeCnt=2" in scontrol(slurm, "show", "res", "moving")
    # 调度器也看见了：碰到 moving 的，两个节点都不行。
    long = system.submit("true\n", time_limit="240")
    wait_until(lambda: system.call("GET", f"/jobs/{long}")[1]["reason"] == "ReqNodeNotAvail", 60, "原因")
    assert system.call("PATCH", "/partitions/right", {"nodes": "node2"})[0] == 200
    assert system.wait_state(long, "COMPLETED")["detail"]["node_list"] == "node1"
    scontrol(slurm, "update", "reservationname=fixed", "nodecnt=2", "partitionname=main")
    assert "Nodes=node[1-2] NodeCnt=2 CoreCnt=4 Features=(null) PartitionName=main" in scontrol(
        slurm, "show", "res", "fixed"
    )
    scontrol(slurm, "update", "reservationname=fixed", "nodecnt=1")
    assert "NodeCnt=1 CoreCnt=2" in scontrol(slurm, "show", "res", "fixed")
    inside = as_user(system, "daemon").submit("true\n", reservation="moving", time_limit="1")
    assert system.call("GET", f"/jobs/{inside}")[1]["partition"] == "right"
    system.call("POST", f"/jobs/cancel/{inside}")
    in_use = system.call("DELETE", "/partitions/right")
    assert (in_use[0], in_use[1]["code"]) == (409, "partition_in_use")
    for name in ("fixed", "moving"):
        scontrol(slurm, "delete", f"reservationname={name}")
    assert system.call("DELETE", "/partitions/right")[0] == 204


def test_reserved_licenses(system: RunningSystem, slurm: Commands) -> None:
    """留给 daemon（scontrol 要本机有的用户）两个许可证：别人只用得到剩下的一个，daemon 三个都行，节点不限。"""
    made = slurm.run("scontrol", "create", "reservationname=lic", "starttime=now", "duration=60", "users=daemon",
                     "licenses=matlab:2")  # fmt: skip
    assert made.returncode == 1
    scontrol(slurm, "create", "reservationname=lic", "starttime=now", "duration=60", "users=daemon",
             "licenses=matlab:2", "flags=LICENSE_ONLY")  # fmt: skip
    shown = scontrol(slurm, "show", "res", "lic")
    assert "Nodes=(null) NodeCnt=0 CoreCnt=0" in shown
    assert "Flags=ANY_NODES" in shown
    assert "Licenses=matlab:2" in shown
    one, two = (system.submit("sleep 0.3\n", licenses=f"matlab:{count}", time_limit="5") for count in (1, 2))
    system.wait_state(one, "COMPLETED")
    wait_until(lambda: system.call("GET", f"/jobs/{two}")[1]["reason"] == "Licenses", 60, "许可证")
    text = system.call("GET", f"/jobs/{two}/why")[1]["text"]
    assert "许可证 matlab 不够：要 2，总共 3，还剩 1" in text
    assert "lic（已开始" in text
    owner = as_user(system, "daemon")
    mine = owner.submit("sleep 0.3\n", licenses="matlab:3", reservation="lic", time_limit="5")
    owner.wait_state(mine, "COMPLETED")
    assert system.query(two)["state"] == "PENDING"
    scontrol(slurm, "delete", "reservationname=lic")
    system.wait_state(two, "COMPLETED")


def test_flexible_and_magnetic_ones_and_lists(system: RunningSystem) -> None:
    alice, bob = as_user(system, "alice"), as_user(system, "bob")

    def create(name: str, **values: object) -> None:
        body = {"name": name, "duration": "60", "nodes": "node1", **values}
        status, answer = system.call("POST", "/reservations", body)
        assert status == 201, answer

    # FLEX：没有开始的也用得上，外面的节点也用得上。
    create("flexible", start_time="now+1hour", users=["alice"], flags=["FLEX"])
    early = [alice.submit("true\n", reservation="flexible", time_limit="120", exclusive=True) for _ in range(2)]
    for job_id in early:
        alice.wait_state(job_id, "COMPLETED")
    assert system.call("DELETE", "/reservations/flexible")[0] == 204
    # MAGNETIC：许用的人不指名也进得去，别人进不去。
    create("magnet", nodes="ALL", users=["alice"], flags=["MAGNETIC"])
    drawn = alice.submit("true\n", time_limit="5")
    alice.wait_state(drawn, "COMPLETED")
    # 在哪里面记在作业上，数组的任务也是；原来写的另记着。
    array = alice.submit("true\n", array="0-1", time_limit="5")
    alice.wait_state(array, "COMPLETED")
    tasks = system.call("GET", f"/jobs?job_id={drawn},{array}&fields=reservation,requested_reservation")[1]["jobs"]
    assert [(task["reservation"], task["requested_reservation"]) for task in tasks] == [("magnet", "")] * 3
    kept_out = bob.submit("true\n", time_limit="5")
    wait_until(lambda: system.call("GET", f"/jobs/{kept_out}")[1]["reason"] == "ReqNodeNotAvail", 60, "原因")
    bob.call("POST", f"/jobs/cancel/{kept_out}")
    assert system.call("DELETE", "/reservations/magnet")[0] == 204
    refused = system.call(
        "POST", "/reservations", {"name": "m", "duration": "5", "nodes": "ALL", "flags": ["MAGNETIC"]}
    )
    assert (refused[0], refused[1]["code"]) == (422, "flags_conflict")
    # 列了几个：先写的进不去，用后写的。
    create("later", start_time="now+1hour", users=["alice"])
    create("current", users=["alice"], duration="30")
    either = alice.submit("true\n", reservation="later,current", time_limit="5")
    alice.wait_state(either, "COMPLETED")
    chosen = system.call("GET", f"/jobs/{either}")[1]
    assert (chosen["reservation"], chosen["requested_reservation"]) == ("current", "later,current")
    for job_id, asked in ((drawn, None), (either, "later,current")):
        assert system.call("POST", f"/jobs/{job_id}/requeue?hold=true")[0] == 200
        assert system.call("GET", f"/jobs/{job_id}")[1]["reservation"] == asked
        system.call("POST", f"/jobs/cancel/{job_id}")
    status, answer = alice.call("POST", "/jobs/submit", {"script": "true", "job": {"reservation": "current,nowhere"}})
    assert (status, answer["code"]) == (422, "reservation_unknown")
    # 组里的人也许用；TIME_FLOAT 总在前面。
    create("floating", start_time="now+2hours", groups=["daemon"], nodes="node2", flags=["TIME_FLOAT"])
    shown = system.call("GET", "/reservations/floating")[1]
    assert shown["state"] == "INACTIVE"
    # 秒数是在两处各按自己的钟算的。
    assert shown["flags"][0].startswith("TIME_FLOAT=")
    assert abs(int(shown["flags"][0].partition("=")[2]) - 7200) < 60
    member = as_user(system, "daemon").submit("true\n", reservation="floating", hold=True)
    system.call("POST", f"/jobs/cancel/{member}")
    assert bob.call("POST", "/jobs/submit", {"script": "true", "job": {"reservation": "floating"}})[0] == 403
    for name in ("later", "current", "floating"):
        assert system.call("DELETE", f"/reservations/{name}")[0] == 204


def test_idle_ones_are_purged_and_broken_nodes_replaced(system: RunningSystem, slurm: Commands) -> None:
    body = {"duration": "60", "users": ["daemon"]}
    status, answer = system.call(
        "POST", "/reservations", {**body, "name": "replacing", "node_count": 1, "flags": ["REPLACE_DOWN"]}
    )
    assert status == 201, answer
    first = answer["node_list"]
    other = "node2" if first == "node1" else "node1"
    # 按核留的也换；那里已有别的整个的预留时不换，所以等它换完才挪这一个。
    by_core = {**body, "name": "some_cores", "node_count": 1, "core_count": 1, "flags": ["REPLACE_DOWN"]}
    assert system.call("POST", "/reservations", by_core)[1]["node_cpus"] == {other: 1}
    assert system.call("PATCH", "/reservations/some_cores", {"flags": ["REPLACE_DOWN", "OVERLAP"]})[0] == 200
    assert slurm.run("scontrol", "update", f"nodename={other}", "state=drain", "reason=x").returncode == 0
    assert system.call("DELETE", "/reservations/replacing")[0] == 204
    wait_until(lambda: system.call("GET", "/reservations/some_cores")[1]["node_cpus"] == {first: 1}, 60, "换了节点")
    assert system.call("GET", "/reservations/some_cores")[1]["node_list"] == first
    assert system.call("DELETE", "/reservations/some_cores")[0] == 204
    assert slurm.run("scontrol", "update", f"nodename={other}", "state=resume").returncode == 0
    back = {**body, "name": "replacing", "nodes": first, "node_count": 1, "flags": ["REPLACE_DOWN"]}
    assert system.call("POST", "/reservations", back)[1]["node_list"] == first
    assert slurm.run("scontrol", "update", f"nodename={first}", "state=drain", "reason=x").returncode == 0
    wait_until(lambda: system.call("GET", "/reservations/replacing")[1]["node_list"] == other, 60, "换了节点")
    assert slurm.run("scontrol", "update", f"nodename={first}", "state=resume").returncode == 0
    assert system.call("DELETE", "/reservations/replacing")[0] == 204
    # 没有写的也换；STATIC_ALLOC 不换：一起看，换了的那个到了就知道领导者看过。
    spare = system.call("POST", "/reservations", {**body, "name": "static", "node_count": 1, "flags": ["STATIC_ALLOC"]})
    kept = spare[1]["node_list"]
    assert system.call("DELETE", "/reservations/static")[0] == 204
    assert slurm.run("scontrol", "update", f"nodename={kept}", "state=drain", "reason=x").returncode == 0
    for name, flags in (("static", ["STATIC_ALLOC", "OVERLAP"]), ("plain", ["OVERLAP"])):
        row = {**body, "name": name, "node_count": 1, "flags": flags}
        assert system.call("POST", "/reservations", row)[1]["node_list"] == kept
    wait_until(lambda: system.call("GET", "/reservations/plain")[1]["node_list"] != kept, 30, "换了节点")
    assert system.call("GET", "/reservations/static")[1]["node_list"] == kept
    assert slurm.run("scontrol", "update", f"nodename={kept}", "state=resume").returncode == 0
    for name in ("static", "plain"):
        assert system.call("DELETE", f"/reservations/{name}")[0] == 204
    made = slurm.run(
        "scontrol", "create", "reservation", "reservationname=brief", "starttime=now", "duration=60", "corecnt=3",
        "users=daemon", "flags=PURGE_COMP=0:01",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    shown = slurm.run("scontrol", "show", "res", "brief").stdout
    if shown != "Reservation brief not found\n":
        # 3 个核要两个 2 核的节点。
        assert "NodeCnt=2 CoreCnt=3" in shown
        assert "PURGE_COMP=00:00:01" in shown
    wait_until(lambda: system.call("GET", "/reservations/brief")[0] == 404, 60, "清掉了")
    wrong = system.call("POST", "/reservations", {**body, "name": "w", "nodes": "node1", "flags": ["REPLACE"]})
    assert (wrong[0], wrong[1]["code"]) == (422, "flags_conflict")


def test_jobs_go_elsewhere_after_the_end_when_it_says_so(system: RunningSystem, slurm: Commands) -> None:
    for name, flags in (("parting", "OVERLAP"), ("letting_go", "OVERLAP,NO_HOLD_JOBS_AFTER")):
        made = slurm.run(
            "scontrol", "create", "reservation", f"reservationname={name}", "starttime=now", "duration=60",
            "nodes=node1", "users=root", f"flags={flags}",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
    assert (
        "Flags=OVERLAP,SPEC_NODES,NO_HOLD_JOBS_AFTER_END" in slurm.run("scontrol", "show", "res", "letting_go").stdout
    )
    # 不限时的作业放不进一小时：排着。
    wanted = ("parting", "letting_go", "letting_go,parting")
    stays, goes, both = (system.submit("true\n", reservation=names) for names in wanted)
    for name in ("parting", "letting_go"):
        ended = slurm.run("scontrol", "update", f"reservationname={name}", "endtime=now+1seconds")
        assert ended.returncode == 0, ended.stderr
    assert system.wait_state(goes)["state"] == "COMPLETED"
    wait_until(lambda: system.call("GET", f"/jobs/{both}")[1]["reservation"] == "parting", 30, "只等另一个")
    wait_until(lambda: "已经结束" in system.call("GET", f"/jobs/{stays}/why")[1]["text"], 30, "说明")
    for job in (stays, both):
        assert system.call("GET", f"/jobs/{job}")[1]["state"] == "PENDING"
        system.call("POST", f"/jobs/cancel/{job}")
    for name in ("parting", "letting_go"):
        assert system.call("DELETE", f"/reservations/{name}")[0] == 204


def test_only_so_many_cores_of_a_node_are_kept(system: RunningSystem, slurm: Commands) -> None:
    daemon = as_user(system, "daemon")
    made = slurm.run(
        "scontrol", "create", "reservation", "reservationname=cores", "starttime=now", "duration=60",
        "nodes=node[1-2]", "corecnt=1,2", "users=daemon",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    shown = slurm.run("scontrol", "show", "res", "cores").stdout
    assert "Nodes=node[1-2] NodeCnt=2 CoreCnt=3 Features=(null) PartitionName=(null) Flags=SPEC_NODES" in shown
    assert "     NodeName=node1 CoreIDs=0\n     NodeName=node2 CoreIDs=0-1\n   TRES=cpu=3" in shown
    # 外面的只剩一个核；里面的恰好三个。
    outside = [system.submit("sleep 300\n", time_limit="30") for _ in range(2)]
    inside = [daemon.submit("sleep 300\n", time_limit="30", reservation="cores") for _ in range(4)]

    def running(jobs: list[str]) -> list[str]:
        return [job for job in jobs if system.query(job)["state"] == "RUNNING"]

    wait_until(lambda: len(running(outside)) == 1 and len(running(inside)) == 3, 60, "一个在外，三个在里")
    assert system.query(running(outside)[0])["detail"]["node_list"] == "node1"
    waiting = next(job for job in outside if job not in running(outside))
    text = system.call("GET", f"/jobs/{waiting}/why")[1]["text"]
    assert "cores（已开始" in text, text
    assert "CPU@cores" in daemon.call("GET", f"/jobs/{inside[3]}/why")[1]["text"]
    # 外面的走了，轮到外面的；里面的照旧等着。
    system.call("POST", f"/jobs/cancel/{running(outside)[0]}")
    wait_until(lambda: running(outside) == [waiting], 60, "外面的接上")
    assert system.query(inside[3])["state"] == "PENDING"
    # 少留一个：里面的多出来的照跑完，不再给新的；多留的留不出来。
    busy = slurm.run("scontrol", "update", "reservationname=cores", "corecnt=2,2")
    assert (busy.returncode, busy.stderr.splitlines()[0]) == (
        1, "Error updating the reservation: Requested nodes are busy",
    )  # fmt: skip
    assert slurm.run("scontrol", "update", "reservationname=cores", "corecnt=1,1").returncode == 0
    assert "CoreCnt=2" in slurm.run("scontrol", "show", "res", "cores").stdout
    system.call("POST", f"/jobs/cancel/{inside[0]}")
    for job in [*outside, *inside]:
        system.call("POST", f"/jobs/cancel/{job}")
    for job in [*outside, *inside]:
        system.wait_state(job, "CANCELLED")
    assert slurm.run("scontrol", "delete", "reservationname=cores").returncode == 0


def test_cores_are_chosen_checked_and_kept_apart_from_other_reservations(
    system: RunningSystem, slurm: Commands
) -> None:
    body = {"start_time": "now+1hour", "duration": "10", "users": ["daemon"]}

    def made(name: str, **more: object) -> tuple[int, dict[str, object]]:
        return system.call("POST", "/reservations", {**body, "name": name, **more})

    try:
        status, first = made("one", core_count=1)
        assert (status, list(first["node_cpus"].values())) == (201, [1])  # type: ignore[attr-defined]
        # 一个节点一个；TRES= 也是这样写。
        assert made("two", core_count=2, node_count=2)[1]["node_cpus"] == {"node1": 1, "node2": 1}
        for more, code in (
            ({"core_count": 2}, "reservation_too_large"),
            ({"node_count": 1}, "reservation_too_large"),
            ({"nodes": "node1", "core_count": 2}, "reservation_nodes_busy"),
            ({"nodes": "node1"}, "reservation_overlaps"),
            ({"nodes": "node1", "core_count": 3}, "reservation_too_large"),
            ({"nodes": "node[1-2]", "core_count": [1, 1, 1]}, "core_count_mismatch"),
            ({"core_count": [1, 1]}, "core_count_mismatch"),
            ({"nodes": "node[1-2]", "core_count": 1}, "core_count_mismatch"),
            ({"node_cpus": {"nowhere": 1}}, "node_not_found"),
            ({"partition": "main", "nodes": "ALL", "flags": ["PART_NODES"], "core_count": 2}, "flags_conflict"),
        ):
            answer = made("x", **more)
            assert answer[1].get("code") == code, (more, answer)
        # 许重叠的照留；改成整个节点也要没有别的。
        assert made("over", nodes="node1", core_count=2, flags=["OVERLAP"])[0] == 201
        assert system.call("PATCH", "/reservations/two", {"node_cpus": None})[1]["code"] == "reservation_overlaps"
        tres = slurm.run("scontrol", "create", "reservation", "reservationname=t", "start=now+3hours", "duration=1",
                         "users=daemon", "tres=cpu=3,node=2")  # fmt: skip
        assert tres.returncode == 0, tres.stderr
        assert system.call("GET", "/reservations/t")[1]["node_cpus"] in (
            {"node1": 2, "node2": 1}, {"node1": 1, "node2": 2},
        )  # fmt: skip
        wrong = slurm.run("scontrol", "create", "reservation", "reservationname=u", "start=now+3hours", "duration=1",
                          "users=daemon", "tres=gres/gpu=1")  # fmt: skip
        assert wrong.returncode == 1
        assert "gres/gpu" in wrong.stderr
    finally:
        for name in ("one", "two", "over", "t"):
            system.call("DELETE", f"/reservations/{name}")


def test_who_may_use_it_may_delete_it_when_it_says_so(system: RunningSystem, slurm: Commands) -> None:
    alice, body = as_user(system, "alice"), {"nodes": "node1", "start_time": "now+1hour", "duration": "10"}
    for name, users, flags in (
        ("hers", ["alice"], ["USER_DELETE"]), ("theirs", ["daemon"], ["USER_DELETE", "OVERLAP"]),
        ("fixed", ["alice"], ["OVERLAP"]),
    ):  # fmt: skip
        made = system.call("POST", "/reservations", {**body, "name": name, "users": users, "flags": flags})
        assert made[0] == 201, made
    assert "Flags=SPEC_NODES,USER_DELETE\n" in slurm.run("scontrol", "show", "res", "hers").stdout
    assert alice.call("DELETE", "/reservations/hers")[0] == 204
    for name in ("theirs", "fixed"):
        assert alice.call("DELETE", f"/reservations/{name}")[0] == 403
        assert system.call("DELETE", f"/reservations/{name}")[0] == 204
    assert alice.call("DELETE", "/reservations/hers")[0] == 404
