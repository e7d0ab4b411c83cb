"""多因子优先级对着真的系统：公平份额由用量推出，次序真的变；sprio 与 sshare 说的是同一套数。"""

from pathlib import Path
from typing import Any

import pytest
from slurm_links import Commands

from lent_systems import set_up
from running_system import RunningSystem, as_user, wait_until

WEIGHTS = {"fairshare": 10_000, "age": 1, "job_size": 0, "partition": 0}


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    return set_up(lent_system, priority_type="multifactor", priority_weights=WEIGHTS, priority_calc_period_s=0.2)


def test_who_used_less_goes_first(system: RunningSystem, tmp_path: Path) -> None:
    alice, bob = as_user(system, "alice"), as_user(system, "bob")
    # alice 先用掉一些：两个 CPU，一秒多。
    used = alice.submit("sleep 1.2\n", tasks=2, account="lab")
    alice.wait_state(used, "COMPLETED")
    # 挡在前面的也是 alice 的：用量只有它在涨，名次从此不变，下面几次看到的是同一套数。
    wall = alice.submit(f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done\n", tasks=2, account="lab")
    alice.wait_state(wall, "RUNNING")
    # 都排在 wall 后面；alice 先提交，但 bob 没有用过。
    script = f"echo $SLURM_JOB_USER $SLURM_JOB_NAME >> {tmp_path}/order\n"
    first = alice.submit(script, tasks=2, account="lab", name="first")
    nice = bob.submit(script, tasks=2, account="lab", name="nice", nice=9_000)
    second = bob.submit(script, tasks=2, account="lab", name="second")
    urgent = system.submit(script, tasks=2, account="lab", name="urgent", priority=1_000_000)

    def listed() -> dict[str, float]:
        rows = system.call("GET", "/priorities")[1]["priorities"]
        return {row["job_id"]: row["priority"] for row in rows}

    wait_until(lambda: listed().get(first, 1e9) < listed().get(second, 0), 60, "公平份额算出来")
    values = listed()
    assert values[urgent] > values[second] > values[first] > values[nice]

    def lab_shares() -> dict[str, dict[str, Any]]:
        rows = system.call("GET", "/shares")[1]["shares"]
        return {row["user_name"]: row for row in rows if row["account"] == "lab"}

    # 树隔一阵子重算一次：刚提交过的 bob 下一次才在里面。
    wait_until(lambda: "bob" in lab_shares(), 60, "树里有 bob")
    shares = lab_shares()
    assert shares["alice"]["usage"] > 2
    assert shares["bob"]["usage"] == 0
    assert shares["bob"]["factor"] > shares["alice"]["factor"]

    (tmp_path / "work").mkdir()
    slurm = Commands(system, tmp_path / "bin", tmp_path / "work")

    def printed_as_told() -> bool:
        """树里刚多了用户时，前后两次问到的不是同一套数：再问一遍。"""
        values, shares = listed(), lab_shares()
        printed = {line.split()[0]: line.split()[2] for line in slurm.run("sprio", "-h").stdout.splitlines()}
        shown = slurm.run("sshare", "-a", "-P", "-A", "lab", "-o", "User,RawShares,FairShare").stdout
        return (
            printed == {job: str(round(value)) for job, value in values.items()}
            and f"bob|1|{shares['bob']['factor']:.6f}" in shown.splitlines()
            and slurm.run("squeue", "-h", "-j", second, "-o", "%Q").stdout.strip() == str(round(values[second]))
            and f"Priority={round(values[second])} " in slurm.run("scontrol", "show", "job", second).stdout
        )

    wait_until(printed_as_told, 60, "命令印的就是接口说的")

    (tmp_path / "go").touch()
    for job in (first, second, nice, urgent):
        system.wait_state(job, "COMPLETED")
    assert [line.split()[1] for line in (tmp_path / "order").read_text().splitlines()] == [
        "urgent",
        "second",
        "first",
        "nice",
    ]


def test_basic_priority_has_no_factors(running_system: RunningSystem) -> None:
    held = running_system.submit("true\n", hold=True)
    status, answer = running_system.call("GET", f"/priorities?job_id={held}")
    assert (status, answer["priority_type"]) == (200, "basic")
    assert [row["factors"] for row in answer["priorities"]] == [{}]
    assert running_system.call("GET", "/shares")[1]["shares"] == []
    assert running_system.call("GET", "/priorities?job_id=x")[0] == 422
    running_system.call("POST", f"/jobs/cancel/{held}")
