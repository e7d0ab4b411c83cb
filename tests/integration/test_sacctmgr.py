"""sacctmgr 与 sshare 对着真的系统；原话取自 Debian 的 slurmdbd 22.05（docs/slurm-compat.md 说怎么比的）。"""

import json
from pathlib import Path

import pytest
from test_slurm_commands import Commands

from lent_systems import set_up
from running_system import RunningSystem, as_user, wait_until


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    weights = {"fairshare": 1000, "qos": 100_000, "assoc": 10_000, "age": 0}
    return set_up(lent_system, priority_type="multifactor", priority_weights=weights, priority_calc_period_s=0.2)


@pytest.fixture
def slurm(system: RunningSystem, tmp_path: Path) -> Commands:
    return Commands.beside(system, tmp_path)


def said(slurm: Commands, *words: str, code: int = 0) -> str:
    done = slurm.run(*words)
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_a_day_of_an_administrator(slurm: Commands) -> None:
    assert said(slurm, "sacctmgr", "-i", "add", "account", "physics", "Description=Physics dept", "Organization=sci",
                "fairshare=10") == (
        " Adding Account(s)\n  physics\n Settings\n  Description     = physics dept\n  Organization    = sci\n"
        " Associations\n  A = physics    C = scns      \n Settings\n  Fairshare     = 10\n  Parent        = root\n"
    )  # fmt: skip
    assert said(slurm, "sacctmgr", "-i", "add", "account", "physics", code=1) == " Nothing new added.\n"
    said(slurm, "sacctmgr", "-i", "add", "account", "theory,exp", "parent=physics")
    assert said(slurm, "sacctmgr", "-i", "add", "user", "erin,frank", "account=exp,theory", "fairshare=5", "maxjobs=3",
                "adminlevel=operator") == (
        " Adding User(s)\n  erin\n  frank\n Settings =\n  Admin Level     = Operator\n Associations =\n"
        "  U = erin      A = exp        C = scns      \n  U = erin      A = theory     C = scns      \n"
        "  U = frank     A = exp        C = scns      \n  U = frank     A = theory     C = scns      \n"
        " Non Default Settings\n  Fairshare     = 5\n  MaxJobs       = 3\n"
    )  # fmt: skip
    said(slurm, "sacctmgr", "-i", "add", "qos", "gold", "priority=100", "GrpTRES=cpu=10,mem=4G", "flags=DenyOnLimit")
    assert said(slurm, "sacctmgr", "-i", "modify", "account", "physics", "set", "MaxWall=60", "GrpTRES=cpu=8") == (
        " Modified account associations...\n  C = scns       A = physics of root\n"
    )
    assert said(slurm, "sacctmgr", "-i", "modify", "user", "erin", "where", "account=exp", "set", "qos+=gold",
                "maxjobs=-1") == (
        " Modified user associations...\n  C = scns       A = exp                  U = erin     \n"
    )  # fmt: skip
    # 继承来的也显示；写过的 TRES 逐种合并。
    said(slurm, "sacctmgr", "-i", "modify", "qos", "gold", "set", "GrpTRES=mem=-1,node=2")
    assert said(slurm, "sacctmgr", "-Pn", "show", "qos", "gold", "format=name,priority,grptres,flags") == (
        "gold|100|cpu=10,node=2|DenyOnLimit\n"
    )
    assert said(slurm, "sacctmgr", "-Pn", "show", "assoc", "where", "user=erin",
                "format=account,user,qos,maxjobs,maxwall,share") == (
        "exp|erin|gold,normal||01:00:00|5\ntheory|erin|normal|3|01:00:00|5\n"
    )  # fmt: skip
    tree = said(slurm, "sacctmgr", "-n", "show", "assoc", "tree", "format=account%-12,user,share").splitlines()
    assert [(line[:12].rstrip(), *line[12:].split()) for line in tree] == [
        ("root", "1"),
        (" physics", "10"),
        ("  exp", "1"),
        ("   exp", "erin", "5"),
        ("   exp", "frank", "5"),
        ("  theory", "1"),
        ("   theory", "erin", "5"),
        ("   theory", "frank", "5"),
    ]
    assert said(slurm, "sacctmgr", "-p", "show", "user", "format=user,defaultaccount,adminlevel").splitlines() == [
        "User|Def Acct|Admin|",
        "erin|exp|Operator|",
        "frank|exp|Operator|",
    ]
    # 门户这样问用户有哪些账户。
    lines = said(slurm, "sacctmgr", "-n", "-s", "list", "user", "erin", "format=account%256").splitlines()
    assert [line.strip() for line in lines] == ["exp", "theory"]
    assert {len(line) for line in lines} == {257}
    # 缺省账户移出之后，换成另一个。
    said(slurm, "sacctmgr", "-i", "delete", "user", "name=erin", "account=exp")
    assert said(slurm, "sacctmgr", "-Pn", "show", "user", "erin", "format=user,defaultaccount") == "erin|theory\n"
    said(slurm, "sacctmgr", "-i", "delete", "account", "physics")
    assert said(slurm, "sacctmgr", "-Pn", "show", "user") == ""
    said(slurm, "sacctmgr", "-i", "delete", "qos", "gold")
    assert said(slurm, "sacctmgr", "-Pn", "show", "qos", "format=name") == "normal\n"


def test_nothing_changes_until_somebody_says_yes(slurm: Commands) -> None:
    done = slurm.run("sacctmgr", "add", "account", "maybe", text="n\n")
    assert done.stdout.endswith("(N/y): \n Changes Discarded\n"), done.stdout
    assert "maybe" not in said(slurm, "sacctmgr", "-Pn", "show", "account")
    assert slurm.run("sacctmgr", "add", "account", "maybe", text="y\n").returncode == 0
    assert "maybe" in said(slurm, "sacctmgr", "-Pn", "show", "account")
    said(slurm, "sacctmgr", "-i", "delete", "account", "maybe")
    # 没有参数时一行一条。
    done = slurm.run("sacctmgr", "-i", "-n", text="show qos format=name%10\nquit\n")
    assert done.stdout == "sacctmgr: show qos format=name%10\n    normal \nsacctmgr: quit\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("show", "foo"), "No valid entity in list command"),
        (("frob",), "invalid keyword: frob"),
        (("show", "qos", "format=nosuchfield"), "Unknown field 'nosuchfield'"),
        (("-i", "add", "qos", "x", "nosuchopt=3"), " Unknown option: nosuchopt=3"),
        (("-i", "modify", "qos", "nosuch", "set", "priority=1"), " Nothing modified"),
        (("-i", "modify", "qos", "normal", "set"), " You didn't give me anything to set"),
        (("-i", "delete", "qos", "nosuch"), " Nothing deleted"),
        (("-i", "delete", "user"), " No conditions given to remove, not executing."),
        (("-i", "add", "user", "dave", "account=nosuch"), " This account 'nosuch' doesn't exist."),
        (("-i", "add", "user", "nobody"), " Need name of account to add user to."),
        (("-i", "add", "account", "bad", "parent=nosuch"), " Parent account 'nosuch' doesn't exist on cluster scns"),
        (("-i", "add", "qos", "bad", "GrpTRES=foo=3"), "slurmdb_format_tres_str: no TRES known by type foo"),
        (("-i", "add", "qos", "bad", "GrpTRES=cpu"), "slurmdb_format_tres_str: no TRES id found for cpu"),
        (("-i", "add", "qos", "bad", "priority=abc"), "Invalid value for Priority (abc)"),
        (("-i", "add", "qos", "bad", "preempt=nosuch"), "You gave a bad qos 'nosuch'."),
        (("-i", "add", "qos", "bad", "LimitFactor=2"), "LimitFactor is not supported by this system"),
        (("-i", "add", "account", "bad", "fairshare=parent"), "Fairshare=parent is not supported by this system"),
        (("-i", "add", "coordinator", "account=root", "names=x"), " This user 'x' doesn't exist."),
        (("-i", "add", "coordinator", "account=nosuch"), " This account 'nosuch' doesn't exist."),
        (("-i", "delete", "coordinator", "account=root"), " Nothing removed"),
        (("show", "coordinator"), "show coordinator is not supported by this system"),
        (("-i", "add", "federation", "x"), "add federation is not supported by this system"),
        (("-i", "delete", "qos", "normal"), "Error with request"),
        (("-i", "delete", "account", "root"), "Error with request"),
    ],
)
def test_what_cannot_be_is_refused_by_name(slurm: Commands, words: tuple[str, ...], text: str) -> None:
    done = slurm.run("sacctmgr", *words)
    assert done.returncode == 1
    assert text in done.stdout + done.stderr, done
    # Nothing … 写到标准输出，别的都在标准错误。
    assert done.stdout in ("", f"{text}\n")
    assert said(slurm, "sacctmgr", "-Pn", "show", "qos", "format=name") == "normal\n"


def test_a_coordinator_manages_his_account(system: RunningSystem, slurm: Commands, tmp_path: Path) -> None:
    said(slurm, "sacctmgr", "-i", "add", "account", "bio")
    said(slurm, "sacctmgr", "-i", "add", "account", "bio1", "parent=bio")
    said(slurm, "sacctmgr", "-i", "add", "user", "pia", "account=bio")
    own = Commands(as_user(system, "pia"), tmp_path / "own", tmp_path / "work")
    assert "Access/permission denied" in own.run("sacctmgr", "-i", "add", "user", "max", "account=bio1").stderr
    assert said(slurm, "sacctmgr", "-i", "add", "coordinator", "account=bio", "names=pia") == (
        " Adding Coordinator User(s)\n  pia\n To Account(s) and all sub-accounts\n  bio\n"
    )
    assert said(slurm, "sacctmgr", "-Pn", "show", "user", "pia", "format=user,coordinators") == "pia|bio\n"
    wait_until(lambda: own.run("sacctmgr", "-i", "add", "user", "max", "account=bio1").returncode == 0, 60, "生效")
    assert "Access/permission denied" in own.run("sacctmgr", "-i", "add", "user", "max", "account=root").stderr
    assert (
        "Access/permission denied" in own.run("sacctmgr", "-i", "modify", "account", "bio", "set", "maxjobs=9").stderr
    )
    said(own, "sacctmgr", "-i", "modify", "account", "bio1", "set", "maxjobs=9")
    assert said(slurm, "sacctmgr", "-i", "delete", "coordinator", "names=pia") == (
        " Removing Coordinators with user name\n  pia\n From Account(s)\n  bio\n"
    )
    assert said(slurm, "sacctmgr", "-Pn", "show", "user", "pia", "format=user,coordinators") == "pia|\n"
    said(slurm, "sacctmgr", "-i", "delete", "account", "bio")


def test_only_administrators_change_anything(system: RunningSystem, slurm: Commands, tmp_path: Path) -> None:
    said(slurm, "sacctmgr", "-i", "add", "account", "lab")
    said(slurm, "sacctmgr", "-i", "add", "user", "olga", "account=lab")
    own = Commands(as_user(system, "olga"), tmp_path / "own", tmp_path / "work")
    assert "Access/permission denied" in own.run("sacctmgr", "-i", "add", "qos", "mine").stderr
    assert said(own, "sacctmgr", "-Pn", "show", "assoc", "user=olga", "format=account") == "lab\n"
    said(slurm, "sacctmgr", "-i", "modify", "user", "olga", "set", "adminlevel=operator")
    wait_until(lambda: own.run("sacctmgr", "-i", "add", "qos", "mine").returncode == 0, 60, "Operator 生效")
    assert (
        "Access/permission denied" in own.run("sacctmgr", "-i", "modify", "user", "olga", "set", "admin=admin").stderr
    )
    said(slurm, "sacctmgr", "-i", "modify", "user", "olga", "set", "adminlevel=admin")
    wait_until(lambda: own.run("scontrol", "create", "partition", "partitionname=p1").returncode == 0, 60, "管理员")
    said(slurm, "sacctmgr", "-i", "delete", "user", "olga")
    said(slurm, "sacctmgr", "-i", "delete", "qos", "mine")
    said(slurm, "sacctmgr", "-i", "delete", "account", "lab")


def test_shares_follow_the_tree_and_qos_and_association_raise_priority(
    system: RunningSystem, slurm: Commands, tmp_path: Path
) -> None:
    for name, shares in (("big", 3), ("small", 1)):
        said(slurm, "sacctmgr", "-i", "add", "account", name, f"fairshare={shares}")
    said(slurm, "sacctmgr", "-i", "add", "account", "inner", "parent=big", "fairshare=7")
    for user, account in (("gina", "inner"), ("hugo", "big"), ("ivan", "small")):
        said(slurm, "sacctmgr", "-i", "add", "user", user, f"account={account}")
    said(slurm, "sacctmgr", "-i", "add", "qos", "gold", "priority=10")
    gina, hugo, ivan = (as_user(system, name) for name in ("gina", "hugo", "ivan"))
    for who in (gina, ivan):
        # 没有写账户：取缺省的。
        who.wait_state(who.submit("sleep 1.2\n"), "COMPLETED")

    def shown() -> dict[str, list[str]]:
        lines = said(slurm, "sshare", "-a", "-l", "-P", "-h").splitlines()
        cells = [line.split("|") for line in lines]
        return {f"{row[0].strip()}/{row[1]}": row for row in cells}

    rows = wait_until(lambda: shown() if float(shown()["small/"][4]) > 0 and float(shown()["inner/"][4]) > 0 else None)
    # RawShares、NormShares：同胞之间归一。
    assert [rows[name][2:4] for name in ("big/", "small/", "inner/", "big/hugo", "inner/gina")] == [
        ["3", "0.750000"], ["1", "0.250000"], ["7", "0.875000"], ["1", "0.125000"], ["1", "1.000000"],
    ]  # fmt: skip
    lines = said(slurm, "sshare", "-a", "-h", "-o", "account%-10,user%6").splitlines()
    assert [line.rstrip() for line in lines] == [
        "root", " big", "  big        hugo", "  inner", "   inner     gina", " small", "  small      ivan",
    ]  # fmt: skip
    # 公平树：hugo 没有用过，在份额大的一边，名次最好。
    factors = {name: float(rows[f"{account}/{name}"][7]) for account, name in
               (("big", "hugo"), ("inner", "gina"), ("small", "ivan"))}  # fmt: skip
    assert factors["hugo"] == 1.0
    assert factors["hugo"] > factors["gina"]
    assert factors["hugo"] > factors["ivan"]
    assert said(slurm, "sshare", "-U", "--format", "Account%256", "--noheader") == ""

    said(slurm, "sacctmgr", "-i", "modify", "account", "small", "set", "priority=5")
    wall = system.submit(f"while [ ! -e {tmp_path}/go ]; do sleep 0.1; done\n", tasks=2)
    system.wait_state(wall, "RUNNING")
    jobs = [hugo.submit("true\n", tasks=2), ivan.submit("true\n", tasks=2), gina.submit("true\n", tasks=2, qos="gold")]

    def priorities() -> list[float]:
        found = {row["job_id"]: row for row in system.call("GET", "/priorities")[1]["priorities"]}
        return [found[job]["priority"] for job in jobs]

    def settled() -> bool:
        plain, raised, gold = priorities()
        return gold > raised > plain and raised - plain > 8000 and gold - raised > 80_000

    wait_until(settled, 60, f"QOS 与关联的因子：{priorities()}")
    (tmp_path / "go").touch()
    for job in jobs:
        system.wait_state(job, "COMPLETED")


def test_names_are_lower_case_and_the_default_account_is_joined_too(slurm: Commands) -> None:
    said(slurm, "sacctmgr", "-i", "add", "account", "Chem", "Phys")
    assert said(slurm, "sacctmgr", "-nP", "show", "account", "CHEM", "format=account") == "chem\n"
    said(slurm, "sacctmgr", "-i", "add", "user", "Marie", "DefaultAccount=chem", "account=PHYS")
    assert said(slurm, "sacctmgr", "-nP", "show", "assoc", "user=MARIE", "format=user,account") == (
        "marie|chem\nmarie|phys\n"
    )
    said(slurm, "sacctmgr", "-i", "modify", "user", "marie", "set", "MaxJobsPerUser=3", "MaxSubmitPU=9")
    assert said(slurm, "sacctmgr", "-nP", "show", "assoc", "user=marie", "format=maxjobs,maxsubmit") == "3|9\n3|9\n"
    said(slurm, "sacctmgr", "-i", "delete", "user", "MARIE")
    said(slurm, "sacctmgr", "-i", "delete", "account", "Chem,PHYS")


def test_the_cluster_exists_and_its_limits_are_those_of_the_root_account(slurm: Commands) -> None:
    again = said(slurm, "sacctmgr", "-i", "add", "cluster", "scns", code=1)
    assert again == " This cluster 'scns' already exists.  Not adding.\n"
    other = said(slurm, "sacctmgr", "-i", "add", "cluster", "other", "fairshare=1", code=1)
    assert "one system is one cluster" in other
    said(slurm, "sacctmgr", "-i", "modify", "cluster", "scns", "set", "grpjobs=700")
    assert said(slurm, "sacctmgr", "-nP", "show", "assoc", "account=root", "user=", "format=grpjobs") == "700\n"
    said(slurm, "sacctmgr", "-i", "modify", "cluster", "set", "grpjobs=-1")
    assert said(slurm, "sacctmgr", "-i", "modify", "cluster", "nosuch", "set", "grpjobs=1", code=1) == (
        " Nothing modified\n"
    )
    for words in (("cluster", "nosuch"), ("cluster", "name=nosuch"), ("assoc", "cluster=nosuch"),
                  ("account", "cluster=nosuch")):  # fmt: skip
        assert said(slurm, "sacctmgr", "-nP", "show", *words) == "", words
    assert json.loads(said(slurm, "sacctmgr", "--json", "show", "cluster", "nosuch"))["clusters"] == []
    assert said(slurm, "sacctmgr", "-nP", "show", "cluster", "SCNS", "format=cluster") == "scns\n"


def test_the_tree_is_dumped_and_loaded_again(slurm: Commands, tmp_path: Path) -> None:
    """dump 写 Slurm 的文件；删掉、改掉之后 load 回来，再 load 没有事可做。"""
    said(slurm, "sacctmgr", "-i", "add", "account", "geo", "Description=Earth: and sky", "fairshare=7",
         "GrpTRES=cpu=8,mem=4G")  # fmt: skip
    said(slurm, "sacctmgr", "-i", "add", "account", "rocks", "parent=geo", "MaxWall=1-0")
    said(slurm, "sacctmgr", "-i", "add", "user", "gus", "account=rocks", "maxjobs=3")
    said(slurm, "sacctmgr", "-i", "add", "coordinator", "account=geo", "names=gus")
    assert said(slurm, "sacctmgr", "-nP", "show", "account", "geo", "format=account,coord") == "geo|gus\n"
    assert said(slurm, "sacctmgr", "-nP", "show", "account", "geo", "withcoord").endswith("|geo|gus\n")
    file = tmp_path / "scns.cfg"
    said(slurm, "sacctmgr", "dump", "scns", f"file={file}")
    lines = file.read_text().splitlines()
    assert "Account - 'geo':Description='earth: and sky':Organization='geo':Fairshare=7:GrpTRES=cpu=8,mem=4096" in lines
    assert lines.index("Parent - 'geo'") < lines.index("Parent - 'rocks'")
    assert "User - 'gus':Coordinator='geo':DefaultAccount='rocks':Fairshare=1:MaxJobs=3" in lines
    assert said(slurm, "sacctmgr", "-i", "load", f"file={file}") == "There is nothing to do.\n"
    said(slurm, "sacctmgr", "-i", "delete", "account", "geo")
    loaded = said(slurm, "sacctmgr", "-i", "load", f"file={file}")
    assert " Adding accounts\n  rocks\n" in loaded
    assert said(slurm, "sacctmgr", "-Pn", "show", "assoc", "user=gus", "format=account,maxjobs,maxwall") == (
        "rocks|3|1-00:00:00\n"
    )
    assert said(slurm, "sacctmgr", "-i", "load", str(file)) == "There is nothing to do.\n"
    # 不加 clean 什么也不删；写坏的指到行，什么也不改。
    said(slurm, "sacctmgr", "-i", "add", "account", "later")
    assert said(slurm, "sacctmgr", "-i", "load", str(file)) == "There is nothing to do.\n"
    assert " Deleting accounts\n  later\n" in said(slurm, "sacctmgr", "-i", "load", "clean", f"file={file}")
    file.write_text(file.read_text() + "Account - 'x':Fairshare=parent\n")
    assert f"{file}:{len(lines) + 1}: Fairshare=parent" in said(slurm, "sacctmgr", "-i", "load", str(file), code=1)
    assert "No such file" in said(slurm, "sacctmgr", "load", "/nowhere/x", code=1)
    assert "returned nothing" in said(slurm, "sacctmgr", "dump", "other", code=1)


def test_the_smaller_shows(slurm: Commands, system: RunningSystem, tmp_path: Path) -> None:
    node = system.call("GET", "/nodes")[1]["nodes"][0]["name"]
    assert said(slurm, "sacctmgr", "-Pn", "show", "event") == ""
    system.call("PATCH", f"/nodes/{node}", {"state": "DRAIN", "reason": "memory"})
    assert said(slurm, "sacctmgr", "-Pn", "show", "event", "format=nodename,timeend,reason,user").startswith(
        f"{node}|Unknown|memory|"
    )
    system.call("PATCH", f"/nodes/{node}", {"state": "RESUME"})
    body = {"name": "maint", "start_time": "2036-01-01T00:00:00Z", "duration": "60", "nodes": node, "users": ["gus"]}
    assert system.call("POST", "/reservations", body)[0] == 201
    assert said(slurm, "sacctmgr", "-Pn", "show", "reservation", "maint", "format=cluster,name,tres,associations") == (
        "scns|maint|node=1|gus\n"
    )
    system.call("DELETE", "/reservations/maint")
    job_id = system.submit("true", wckey="weather")
    system.wait_state(job_id, "COMPLETED")
    wanted = ("sacctmgr", "-Pn", "show", "wckey", "format=wckey,cluster")
    wait_until(lambda: said(slurm, *wanted).strip() == "weather|scns", what="wckey 列得出来")
    assert said(slurm, "sacctmgr", "show", "runawayjobs") == ("Runaway Jobs: No runaway jobs found on cluster scns\n")
    assert "AccountingStorageEnforce = none" in said(slurm, "sacctmgr", "show", "config").replace("  ", "")
    assert "GET /" in said(slurm, "sacctmgr", "show", "stats")
    assert "not supported" in said(slurm, "sacctmgr", "show", "federation", code=1)


def test_transactions_come_from_the_audit(slurm: Commands, system: RunningSystem, tmp_path: Path) -> None:
    said(slurm, "sacctmgr", "-i", "add", "account", "ledger", "fairshare=7")
    said(slurm, "sacctmgr", "-i", "add", "user", "tess", "account=ledger", "maxjobs=2")
    said(slurm, "sacctmgr", "-i", "modify", "account", "ledger", "set", "fairshare=9")
    said(slurm, "sacctmgr", "-i", "delete", "user", "tess")
    form = "format=action,actor,where,info"
    lines = said(slurm, "sacctmgr", "-Pn", "show", "transaction", "where", "accounts=ledger", form).splitlines()
    actor = system.call("GET", "/whoami")[1]["user_name"]
    found = [line.split("|") for line in lines]
    assert [each[:2] for each in found if each[0].endswith("Accounts")] == [
        ["Add Accounts", actor], ["Modify Accounts", actor],
    ]  # fmt: skip
    assert "shares=9" in found[[each[0] for each in found].index("Modify Accounts")][3]
    assert any(each[0] == "Add Associations" and "tess" in each[2] for each in found)
    assert said(slurm, "sacctmgr", "-Pn", "show", "transaction", "where", "start=now+1hour", form) == ""
    header = said(slurm, "sacctmgr", "-P", "list", "txn", "where", "actor=nobody").splitlines()
    assert header == ["Time|Action|Actor|Where|Info"]
    ordinary = Commands(as_user(system, "nobody"), tmp_path / "other", slurm.work)
    assert ordinary.run("sacctmgr", "show", "transaction").returncode == 1
