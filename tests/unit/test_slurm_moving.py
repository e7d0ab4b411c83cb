"""从 Slurm 搬来：照真的公开的 slurm.conf 改写的十一个文件，sacctmgr 的文件，与写坏的。"""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scns_conductor.api.cluster_file import ClusterFile
from scns_conductor.slurm.moving.account_dump import is_dump, read_dump
from scns_conductor.slurm.moving.account_records import AccountRecords
from scns_conductor.slurm.moving.account_tables import read_table
from scns_conductor.slurm.moving.findings import Findings
from scns_conductor.slurm.moving.slurm_conf import read_slurm_conf

DATA = Path(__file__).parents[1] / "data" / "slurm"
CONFS = sorted(path.name for path in DATA.glob("*.conf"))


@pytest.mark.parametrize("name", CONFS)
def test_a_public_slurm_conf_becomes_a_cluster_file(name: str) -> None:
    findings = Findings()
    content = read_slurm_conf(DATA / name, findings).content()
    assert ClusterFile.model_validate(content).content()["partitions"]
    assert all(each.reason and each.place.line >= 0 and "\n" not in each.text for each in findings.found)
    # 写了的非空的一般设置，不是搬了就是说了为什么：一个也不会悄悄没有了。
    told = {each.text.partition("=")[0] for each in findings.found}
    assert not {"prolog", "epilog", "jobsubmitplugins", "maxmempercpu", "defmempernode"} & _keys(DATA / name) - told


def _keys(path: Path) -> set[str]:
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return {line.partition("=")[0].strip().lower() for line in lines if "=" in line}


def test_what_a_teaching_cluster_wrote() -> None:
    findings = Findings()
    found = read_slurm_conf(DATA / "teaching.conf", findings)
    assert found.settings == {
        "scheduler_policy": "easy", "backfill_depth": 500, "max_switch_wait_s": 1800, "kill_invalid_dependency": True,
        "accounting_storage_enforce": ["safe", "associations", "limits", "qos"], "enforce_part_limits": True,
        "licenses": "matlab:5,ansys:2,abaqus",
    }  # fmt: skip
    assert found.content()["nodes"] == [
        {"name": "node[11-20]", "features": ["HyperThread"]},
        {"name": "node[21-30]", "features": ["gpu", "a100"], "weight": 50},
    ]
    # DEFAULT 的值给后面的，续行接上，NodeSet 展开。
    assert found.partitions == [
        {"name": "normal", "max_time": "1-00:00:00", "nodes": "node[1-20]", "is_default": True},
        {"name": "gpu", "max_time": "1-00:00:00", "nodes": "node[21-30]", "allow_accounts": ["VIP", "staff"],
         "max_cpus_per_node": 16},
        {"name": "vip", "max_time": "1-00:00:00", "nodes": "node[18-50]", "priority_tier": 10},
    ]  # fmt: skip
    told = {f"{each.place.line} {each.text}" for each in findings.found}
    assert {"18 qos=p_gpu", "19 allowgroups=vip", "19 node[31-50]", "9 privatedata=jobs"} <= told
    assert "bf_window=1440" in next(each.reason for each in findings.found if each.place.line == 4)
    assert findings.hints == {"cluster_name": '"hpc"'}


def test_power_saving_and_node_care_go_to_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text(
        "SuspendProgram=/opt/off.sh\nResumeProgram=/opt/on.sh\nResumeFailProgram=/opt/failed.sh\nSuspendTime=600\n"
        "ResumeTimeout=900\nSuspendExcParts=login\nHealthCheckProgram=/usr/sbin/nhc\nHealthCheckInterval=120\n"
        "HealthCheckNodeState=ANY,CYCLE\nRebootProgram=/sbin/reboot\nResumeStepName=x\n"
        "NodeName=n[1-4] CPUs=4\nPartitionName=burst Nodes=n[1-2] SuspendTime=60 ResumeTimeout=300\n"
        "PartitionName=warm Nodes=n[3-4] SuspendTime=INFINITE\n"
    )
    findings = Findings()
    found = read_slurm_conf(tmp_path / "slurm.conf", findings)
    assert findings.hints == {
        "suspend_program": '"/opt/off.sh"', "resume_program": '"/opt/on.sh"', "resume_fail_program": '"/opt/failed.sh"',
        "suspend_time_s": "600", "resume_timeout_s": "900", "suspend_exc_partitions": '"login"',
        "health_check_program": '"/usr/sbin/nhc"', "health_check_interval_s": "120", "reboot_program": '"/sbin/reboot"',
    }  # fmt: skip
    times = [{key: each[key] for key in each if key.endswith(("_time", "_timeout"))} for each in found.partitions]
    assert times == [{"suspend_time": 60, "resume_timeout": 300}, {"suspend_time": -1}]
    told = {each.text: each.reason for each in findings.found}
    assert told["healthchecknodestate=ANY,CYCLE"] == "值不对"
    assert "没有对应的设置" in told["resumestepname=x"]


def test_includes_topology_and_loops(tmp_path: Path) -> None:
    (tmp_path / "slurm.conf").write_text(
        "ClusterName=x\ninclude nodes.%c\nPartitionName=p Nodes=n1\ninclude slurm.conf\n"
    )
    (tmp_path / "nodes.x").write_text("NodeName=n[1-4] Weight=3\n")
    (tmp_path / "topology.conf").write_text(
        "SwitchName=rack1 Nodes=n[1-2]\nSwitchName=rack2 Nodes=n[3-4]\nSwitchName=core Switches=rack[1-2]\n"
    )
    findings = Findings()
    found = read_slurm_conf(tmp_path / "slurm.conf", findings)
    assert found.nodes["n3"] == {"weight": 3, "topology": "core/rack2"}
    assert [str(each.place) for each in findings.found] == [f"{tmp_path}/slurm.conf:4"]


def test_the_accounts_of_a_dump_and_a_table() -> None:
    findings = Findings()
    text = (DATA / "accounts.dump").read_text()
    assert is_dump(text)
    records = read_dump("accounts.dump", text, findings)
    read_table("qos.table", (DATA / "qos.table").read_text(), findings, records)
    content = records.content()
    ClusterFile.model_validate({"version": 1, **content})
    accounts = {each["name"]: each for each in content["accounts"]}
    assert accounts["physics"] == {
        "name": "physics", "description": "Physics: theory & more", "organization": "sci", "shares": 10,
        "grp_tres": {"cpu": 80, "mem": 4096}, "grp_tres_mins": {"cpu": 1000000}, "grp_jobs": 20, "parent": "root",
        "coordinators": ["ann"],
    }  # fmt: skip
    assert accounts["theory"]["parent"] == "physics"
    assert {(each["account"], each["user"], each.get("partition")) for each in content["associations"]} == {
        ("root", "root", None), ("physics", "ann", None), ("theory", "ann", None), ("theory", "bob", "gpu"),
    }  # fmt: skip
    assert {each["name"]: each.get("max_jobs_per_user") for each in content["qos"]} == {
        "normal": None, "long": 5, "odd": None,
    }  # fmt: skip
    assert [f"{each.place}: {each.text}" for each in findings.found] == [
        "accounts.dump:5: GrpTRES=billing=3",
        "accounts.dump:8: Fairshare=parent",
        "accounts.dump:9: MaxJobsAccrue=5",
        "accounts.dump:12: WCKeys=a,b",
        "accounts.dump:13: Nonsense here",
        "qos.table:4: flags=OverPartQOS",
    ]


# ---- 写坏的 ----

_WORDS = st.sampled_from(
    ["NodeName", "PartitionName", "NodeSet", "SwitchName", "include", "Default", "DEFAULT", "Nodes", "Feature",
     "Weight", "MaxTime", "State", "Licenses", "ALL", "PriorityWeightAge", "PriorityWeightTRES", "SchedulerParameters",
     "PreemptMode", "DefMemPerCPU", "MaxArraySize", "KillWait", "AllowQos", "n[1-3]", "n[1-", "1-0", "UNLIMITED", "-1",
     "0", "1e400", "99999999999", "a*b", "~", "cpu=", '"', "'", "#", "\\", "Cluster - 'x'", "Account - ", "User - ",
     "QOS - ", "Parent - ", ":", "GrpTRES=cpu=-1", "Fairshare=x", "MaxJobs=-5", "UsageFactor=-1", "MaxWall=0", "Share",
     "Account|User", "Name|GraceTime", "|", "\0", "é", "nan", "5"]
)  # fmt: skip
_TEXTS = st.lists(st.lists(_WORDS | st.sampled_from(["=", " ", ","]), max_size=8).map("".join), max_size=6).map(
    "\n".join
)


@example(b"PartitionName=\0")
@given(st.binary(max_size=100) | _TEXTS.map(lambda text: text.encode("utf-8", "replace")))
def test_no_bytes_bring_a_traceback_and_what_is_written_is_valid(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.conf"
    path.write_bytes(data)
    findings = Findings()
    ClusterFile.model_validate(read_slurm_conf(path, findings).content())
    text = data.decode("utf-8-sig", "replace")
    ClusterFile.model_validate(read_dump("x", text, findings).content())
    records = AccountRecords(findings)
    read_table("x", text, findings, records)
    ClusterFile.model_validate(records.content())
