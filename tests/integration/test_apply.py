"""配置即代码：POST /cluster/apply、GET /cluster/export 对着真的数据库，scns apply、scns export 对着真的系统。"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as checked
from hypothesis import strategies as st

import warm_commands
from running_system import RunningSystem, wait_until
from scns_conductor.api.app import build_app
from scns_conductor.api.cluster_file import ClusterFile
from scns_conductor.core.async_database import async_engine
from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity, issue_token
from scns_conductor.services.cluster_apply import apply_content
from scns_conductor.statements.node_state import REGISTER_NODE

SCNS = str(Path(sys.executable).parent / "scns")
ADMIN = Identity("boss", admin=True)
_NODE = "INSERT INTO nodes (name, address, cpus, memory, state) VALUES (%s, %s, 4, 4096, 'UP')"


class Cluster:
    """一个数据库上的 API：不启动调度器。"""

    def __init__(self, client: TestClient, database_url: str) -> None:
        self.client = client
        self.database_url = database_url

    def apply(self, content: dict[str, Any], **query: Any) -> tuple[int, dict[str, Any]]:
        found = self.client.post("/cluster/apply", json=content, params=query)
        return found.status_code, found.json()

    def applied(self, content: dict[str, Any], **query: Any) -> list[str]:
        status, found = self.apply(content, **query)
        assert status == 200, found
        return [f"{each['action']} {each['section']} {each['name']}" for each in found["changes"]]

    def export(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/cluster/export").json()
        return found

    def execute(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            done = connection.execute(statement, values)
            return done.fetchall() if done.description else []


@pytest.fixture
def cluster(settings: Settings) -> Iterator[Cluster]:
    with TestClient(build_app(settings)) as client:
        client.headers["Authorization"] = f"Bearer {issue_token(settings, 'boss', admin=True)}"
        found = Cluster(client, settings.database_url.get_secret_value())
        for name in ("n1", "n2", "n3", "n4"):
            found.execute(_NODE, name, name)
        yield found


# ---- 导出的再照着改，什么也不变 ----

_COUNT = st.none() | st.integers(0, 100)
_TRES = st.dictionaries(st.sampled_from(["cpu", "mem", "node", "gres/gpu"]), st.integers(0, 5000), max_size=3)
_WALL = st.sampled_from([None, "UNLIMITED", "90", "1:30", "2-00:00:01"])
_TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=10)
_QOS = ("normal", "high", "low")
_ACCOUNTS = ("root", "physics", "theory", "exp", "bio")
_LIMITS = {"grp_tres": _TRES, "max_tres_per_job": _TRES, "grp_jobs": _COUNT, "max_wall": _WALL}
_OF_ASSOCIATION = {
    **_LIMITS, "shares": st.integers(0, 9), "qos": st.lists(st.sampled_from(_QOS), max_size=2, unique=True),
    "default_qos": st.sampled_from(_QOS), "max_jobs": _COUNT, "comment": _TEXT,
}  # fmt: skip


def _objects(names: tuple[str, ...], fields: dict[str, Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.fixed_dictionaries({"name": st.sampled_from(names)}, optional=fields)
    return st.lists(one, max_size=4, unique_by=lambda each: each["name"])


@st.composite
def _files(draw: st.DrawFn) -> dict[str, Any]:
    qos = draw(_objects(_QOS, {**_LIMITS, "priority": st.integers(0, 9), "grace_time": st.integers(0, 90),
                               "flags": st.just(["NoDecay"]), "usage_factor": st.sampled_from([0.5, 2]),
                               "description": _TEXT}))  # fmt: skip
    known = sorted({"normal", *(each["name"] for each in qos)})
    for each in qos:
        each["preempt"] = [name for name in known if name != each["name"] and draw(st.booleans())]
    accounts = draw(_objects(_ACCOUNTS, {**_OF_ASSOCIATION, "description": _TEXT, "organization": _TEXT}))
    for at, each in enumerate(accounts):
        above = [other["name"] for other in accounts[:at] if other["name"] != each["name"]]
        if each["name"] != "root" and above:
            each["parent"] = draw(st.sampled_from(above))
    names = sorted({"root", *(each["name"] for each in accounts)})
    association = st.fixed_dictionaries(
        {"account": st.sampled_from(names), "user": st.sampled_from(["ann", "bob"])}, optional=_OF_ASSOCIATION
    )
    associations = draw(st.lists(association, max_size=4, unique_by=lambda each: (each["account"], each["user"])))
    for each in (*accounts, *associations):
        each["qos"] = [name for name in each.get("qos", []) if name in known]
        if each.get("default_qos") not in known:
            each.pop("default_qos", None)
    users = [
        {"name": name, "admin_level": draw(st.sampled_from(["None", "Operator"]))}
        for name in sorted({each["user"] for each in associations})
    ]
    partitions = draw(_objects(("main", "gpu", "big"), {
        "nodes": st.sampled_from(["ALL", "n[1-2]", "n3,n4"]), "max_time": _WALL, "priority_tier": st.integers(0, 9),
        "max_memory_per_node": st.sampled_from(["1G", 1500, None]), "exclusive": st.booleans(),
        "state": st.sampled_from(["UP", "drain"]), "allow_qos": st.just(["normal"]),
    }))  # fmt: skip
    reservations = draw(_objects(("maint", "class"), {
        "users": st.just(["ann"]), "comment": _TEXT, "flags": st.sampled_from([["MAINT"], ["DAILY", "OVERLAP"]]),
    }))  # fmt: skip
    for number, each in enumerate(reservations, 1):
        each |= {"nodes": f"n{number}", "start_time": "2036-01-01T08:00:00+08:00", "duration": "2:00:00"}
        each |= draw(st.sampled_from([{}, {}, {"node_cpus": {f"n{number}": 1}}, {"core_count": 2}]))
    nodes = draw(st.lists(st.sampled_from(["n1", "n[2-3]", "n4"]), unique=True))
    return {
        "qos": qos, "accounts": accounts, "associations": associations, "users": users, "partitions": partitions,
        "reservations": reservations,
        "nodes": [{"name": name, "features": draw(st.sampled_from([[], ["a", "b"]])), "weight": draw(st.integers(0, 3))}
                  for name in nodes],
        "settings": draw(st.fixed_dictionaries({}, optional={
            "licenses": st.sampled_from(["", "matlab:3"]), "priority_type": st.just("multifactor"),
            "priority_weights": st.just({"age": 10, "tres/cpu": 2.5}), "accounting_storage_enforce": st.just(["safe"]),
        })),
    }  # fmt: skip


@checked(
    max_examples=12, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_files())
def test_what_was_exported_changes_nothing(cluster: Cluster, content: dict[str, Any]) -> None:
    """各个例子接着前一个的数据库：修改、删除、搬家都有。"""
    cluster.applied(content, prune=True)
    assert cluster.applied(content, prune=True) == []
    exported = cluster.export()
    assert cluster.apply(exported, prune=True, dry_run=True)[1]["changes"] == []
    assert cluster.applied(exported, prune=True) == []
    assert cluster.export() == exported


# ---- 一份文件的一生 ----

FILE: dict[str, Any] = {
    "settings": {"licenses": "matlab:2"},
    "nodes": [{"name": "n[1-2]", "features": ["gpu"], "weight": 10}],
    "qos": [{"name": "express", "priority": 10, "preempt": ["bulk"], "max_wall": "30"}, {"name": "bulk"}],
    "accounts": [
        {"name": "theory", "parent": "physics"},
        {"name": "physics", "shares": 3, "grp_tres": "cpu=8,mem=4G", "qos": ["normal", "express"]},
    ],
    "associations": [{"account": "theory", "user": "ann"}, {"account": "physics", "user": "bob", "max_jobs": 2}],
    "users": [{"name": "bob", "admin_level": "Operator"}],
    "partitions": [{"name": "gpu", "nodes": "n[1-2]", "max_time": "1-0", "allow_accounts": ["physics"]}],
    "reservations": [
        {"name": "maint", "nodes": "n4", "start_time": "2036-01-01", "duration": "60", "licenses": "matlab:1"}
    ],
}


def test_a_file_is_planned_applied_changed_and_pruned(cluster: Cluster) -> None:
    status, planned = cluster.apply(FILE, dry_run=True)
    assert (status, planned["applied"]) == (200, False)
    assert cluster.export()["accounts"] == [{"name": "root"}]
    status, done = cluster.apply(FILE, expect=planned["fingerprint"])
    assert (status, done["changes"]) == (200, planned["changes"])
    assert cluster.applied(FILE) == []
    # 看过之后变了：不做。
    assert cluster.apply(FILE, expect=planned["fingerprint"])[1]["code"] == "plan_changed"
    # 写了的对象就是它的全部：少写一种 TRES，就没有那个上限了；两个账户对调。
    changed = {**FILE, "accounts": [
        {"name": "theory", "grp_tres": {"cpu": 8}}, {"name": "physics", "parent": "theory", "shares": 3},
    ]}  # fmt: skip
    assert cluster.applied(changed) == ["update accounts theory", "update accounts physics"]
    assert cluster.export()["accounts"] == [
        {"name": "physics", "parent": "theory", "shares": 3},
        {"name": "root"},
        {"name": "theory", "grp_tres": {"cpu": 8}},
    ]
    # 不写 prune 什么也不删；写了也只删写了的节里的。
    fewer = {"accounts": [{"name": "theory", "grp_tres": "cpu=8"}], "qos": [{"name": "bulk"}]}
    assert cluster.applied(fewer) == []
    assert cluster.applied(fewer, prune=True) == ["delete accounts physics", "delete qos express"]
    assert [each["name"] for each in cluster.export()["partitions"]] == ["gpu", "main"]
    assert cluster.applied({"reservations": []}, prune=True) == ["delete reservations maint"]
    assert cluster.applied({"settings": {}}, prune=True) == ["delete settings licenses"]


def test_the_diff_says_what_was_and_what_will_be(cluster: Cluster) -> None:
    cluster.applied(FILE)
    content = {"partitions": [{"name": "gpu", "nodes": "n2,n1", "max_time": "90", "allow_accounts": ["physics"]}]}
    [change] = cluster.apply(content, dry_run=True)[1]["changes"]
    assert change == {
        "action": "update", "section": "partitions", "name": "gpu", "place": "partitions[0]",
        "fields": [{"name": "max_time", "before": "1-00:00:00", "after": "01:30:00"}],
    }  # fmt: skip


WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"acounts": []}, "acounts", "unknown_field", "accounts"),
    ({"qos": [{"name": "a", "max_wal": "1"}]}, "qos[0].max_wal", "unknown_field", "max_wall"),
    ({"settings": {"license": "a:1"}}, "settings.license", "unknown_field", "licenses"),
    ({"settings": {"data_dir": "/x"}}, "settings.data_dir", "unknown_field", ""),
    ({"settings": {"backfill_depth": "5"}}, "settings.backfill_depth", "invalid_field", "整数"),
    ({"qos": [{"name": "a"}, {"name": "a"}]}, "qos[1]", "duplicate_name", "qos[0]"),
    ({"nodes": [{"name": "n[1-3]"}, {"name": "n2"}]}, "nodes[1]", "duplicate_name", "nodes[0]"),
    ({"nodes": [{"name": "n[1-"}]}, "nodes[0]", "invalid_field", "方括号"),
    ({"nodes": [{"name": "n9", "weight": 2}]}, "nodes[0].name", "node_unknown", ""),
    ({"partitions": [{"name": "p", "nodes": "n[1-9]"}]}, "partitions[0].nodes", "node_unknown", "n5"),
    (
        {"accounts": [{"name": "a", "parent": "b"}, {"name": "b", "parent": "c"}, {"name": "c", "parent": "a"}]},
        "accounts[0].parent",
        "account_cycle",
        "a → b → c → a",
    ),
    ({"accounts": [{"name": "root", "parent": "a"}, {"name": "a"}]}, "accounts[0].parent", "account_cycle", "root"),
    (
        {"accounts": [{"name": "physics"}, {"name": "a", "parent": "phisics"}]},
        "accounts[1].parent",
        "account_unknown",
        "是不是 physics",
    ),
    ({"accounts": [{"name": "a", "default_qos": "norma"}]}, "accounts[0].default_qos", "qos_unknown", "normal"),
    ({"qos": [{"name": "a", "preempt": ["a"]}]}, "qos[0].preempt", "qos_preempt_loop", ""),
    ({"associations": [{"account": "x", "user": "u"}]}, "associations[0].account", "account_unknown", "root"),
    ({"users": [{"name": "nobody"}]}, "users[0].name", "user_unknown", ""),
    (
        {"reservations": [{"name": "r", "nodes": "n1", "start_time": "now+1hour", "duration": "5"}]},
        "reservations[0].start_time",
        "invalid_field",
        "写定",
    ),
    (
        {"reservations": [{"name": "r", "nodes": "n1", "start_time": "2036-01-01", "duration": "5",
                           "licenses": "abaqus"}]},
        "reservations[0].licenses",
        "license_unknown",
        "",
    ),
    ({"partitions": [{"name": "a", "is_default": True}, {"name": "b", "is_default": True}]},
     "partitions[1].is_default", "duplicate_name", "partitions[0]"),
]  # fmt: skip


def test_what_is_wrong_is_named(cluster: Cluster) -> None:
    before = cluster.export()
    for content, field, code, said in WRONG:
        status, found = cluster.apply(content)
        assert (status, found["code"], found["errors"][0]["field"]) == (422, code, field), (content, found)
        assert said in found["errors"][0]["message"], found
    assert cluster.export() == before


def test_an_account_with_jobs_is_not_deleted_and_nothing_else_happens(cluster: Cluster) -> None:
    cluster.applied({"accounts": [{"name": "physics"}, {"name": "bio"}]})
    submitted = cluster.client.post(
        "/jobs/submit", json={"job": {"account": "physics", "hold": True}, "script": "true"}
    )
    job_id = submitted.json()["job_id"]
    before = cluster.export()
    content = {"accounts": [{"name": "new"}], "qos": [{"name": "fresh"}]}
    status, found = cluster.apply(content, prune=True)
    assert (status, found["code"], found["errors"][0]["field"]) == (422, "association_in_use", "accounts")
    assert f"删除 physics：作业 {job_id}" in found["detail"]
    assert cluster.export() == before
    # 试跑也说得出来。
    assert cluster.apply(content, prune=True, dry_run=True)[0] == 422


def test_only_administrators_change_settings_operators_accounts(settings: Settings, cluster: Cluster) -> None:
    cluster.applied({"associations": [{"account": "root", "user": "op"}], "users": [
        {"name": "op", "admin_level": "Operator"}]})  # fmt: skip
    cluster.client.headers["Authorization"] = f"Bearer {issue_token(settings, 'op')}"
    assert cluster.applied({"accounts": [{"name": "lab"}]}) == ["create accounts lab"]
    for content in ({"settings": {"licenses": "a:1"}}, {"partitions": [{"name": "p"}]},
                    {"nodes": [{"name": "n1", "weight": 3}]}):  # fmt: skip
        assert cluster.apply(content)[1]["code"] == "admin_required"
    cluster.client.headers["Authorization"] = f"Bearer {issue_token(settings, 'ann')}"
    assert cluster.apply({"accounts": []})[1]["code"] == "admin_required"


def test_two_at_once_take_turns(settings: Settings, cluster: Cluster) -> None:
    content = ClusterFile.model_validate(
        {"accounts": [{"name": f"a{number}"} for number in range(20)], "qos": [{"name": "q"}]}
    ).content()

    async def both() -> list[int]:
        engine = async_engine(settings)
        try:
            done = await asyncio.gather(
                *(apply_content(engine, settings, ADMIN, content) for _ in range(3)),
            )
        finally:
            await engine.dispose()
        return sorted(len(each["changes"]) for each in done)

    assert asyncio.run(both()) == [0, 0, 21]


def test_thousands_of_associations_in_one_go(cluster: Cluster) -> None:
    many = [{"account": "root", "user": f"u{number}", "shares": number % 7} for number in range(2000)]
    assert len(cluster.applied({"associations": many})) == 2000
    assert cluster.applied(cluster.export()) == []


def test_the_schema_accepts_what_is_exported(cluster: Cluster) -> None:
    cluster.applied(FILE)
    schema = cluster.client.get("/cluster/schema").json()
    jsonschema.Draft202012Validator(schema).validate(cluster.export())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"acounts": []})


def test_what_was_pinned_survives_a_new_registration(settings: Settings, cluster: Cluster) -> None:
    """代理重新登记：写定的不动，别的照它的设置。"""
    cluster.applied({"nodes": [{"name": "n1", "features": ["fast"], "weight": 7}]})
    # 与这里无关的参数都是空的：以后再加列也不必改。
    given = dict.fromkeys(REGISTER_NODE.compile().params)
    values = {
        **given, "address": "x", "cpus": 4, "sockets": 1, "cores_per_socket": 4, "threads_per_core": 1,
        "memory": 4096, "temporary_disk": 0, "gres": "{}", "features": ["own"], "weight": 2,
        "topology": "core/rack1", "containment": "{}", "beat": 0, "keep_gres": False,
    }  # fmt: skip
    engine = sync_engine(settings)
    with engine.begin() as connection:
        for name in ("n1", "n2"):
            connection.execute(REGISTER_NODE, {**values, "name": name})
    engine.dispose()
    rows = cluster.execute("SELECT name, features, weight, topology FROM nodes WHERE name <= 'n2' ORDER BY name")
    assert rows == [("n1", ["fast"], 7, "core/rack1"), ("n2", ["own"], 2, "core/rack1")]


def test_what_came_from_slurm_is_applied(cluster: Cluster) -> None:
    """scns import slurm 写出的，系统收得下，再收一遍什么也不变。"""
    data = Path(__file__).parents[1] / "data" / "slurm"
    made = subprocess.run(
        [SCNS, "import", "slurm", "--conf", str(data / "teaching.conf"), "--accounts", str(data / "accounts.dump"),
         "--accounts", str(data / "qos.table"), "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    content = json.loads(made.stdout)["content"]
    for number in range(1, 51):
        cluster.execute(_NODE, f"node{number}", "x")
    # 分区写着的账户要先有：缺的一处处指出来。
    status, refused = cluster.apply(content)
    assert (status, [each["field"] for each in refused["errors"]]) == (422, ["partitions[1].allow_accounts"] * 2)
    content["accounts"] += [{"name": "VIP"}, {"name": "staff"}]
    assert "create associations theory/bob/gpu" in cluster.applied(content)
    assert cluster.applied(content) == []
    assert cluster.applied(cluster.export(), prune=True) == []


# ---- 命令与调度器 ----


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    return lent_system


def scns(system: RunningSystem, *words: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    return warm_commands.run([SCNS, *words], text=text, env=system.environment)


def test_the_command_shows_asks_applies_and_names_the_line(system: RunningSystem, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("accounts:\n  - name: lab\n    max_wall: 1:30:00\n  - name: sub\n    parent: lab\n")
    shown = scns(system, "apply", "-f", str(file), "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == (
        "+ accounts lab\n    max_wall: 01:30:00\n+ accounts sub\n    parent: lab\n新建 2，修改 0，删除 0\n"
    )
    # 没有人可问：什么也不改。
    asked = scns(system, "apply", "-f", str(file))
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    assert scns(system, "apply", "-f", str(file), "--yes").stdout.endswith("改好了，共 2 处\n")
    exported = scns(system, "export")
    assert "name: sub" in exported.stdout
    again = scns(system, "apply", "-f", "-", "--yes", "--prune", text=exported.stdout)
    assert (again.returncode, again.stdout) == (0, "没有差别，什么也不用改\n"), again.stderr
    file.write_text("accounts:\n  - name: lab\n  - name: sub\n    # 写错了\n    parent: lap\n    max_wal: 5\n")
    wrong = scns(system, "apply", "-f", str(file), "--yes")
    assert wrong.returncode == 1
    assert wrong.stderr == f"scns：{file}:6：accounts[1].max_wal：不认识的字段 'max_wal'；是不是 max_wall？\n"
    file.write_text(file.read_text().replace("    max_wal: 5\n", ""))
    assert (
        f"{file}:5：accounts[1].parent：没有账户 'lap'；是不是 lab？"
        in scns(system, "apply", "-f", str(file), "--yes").stderr
    )
    file.write_text("accounts:\n  - name: lab\n  - name: sub\n  - name: lab\n")
    twice = scns(system, "apply", "-f", str(file), "--yes")
    said = f"scns：{file}:4：accounts[2]：lab 与 accounts[0]（第 2 行） 重复\n"
    assert (twice.returncode, twice.stderr) == (1, said)
    assert json.loads(scns(system, "apply", "--schema").stdout)["title"] == "cluster.yaml"


def test_settings_take_effect_without_a_restart(system: RunningSystem, tmp_path: Path) -> None:
    """API 与调度器都照新的办：许可证有了，作业才提交得了、启动得了；多因子打开了，排队的有优先级。"""
    wanted = {"job": {"licenses": "matlab:1", "current_working_directory": str(tmp_path)}, "script": "true"}
    status, refused = system.call("POST", "/jobs/submit", wanted)
    assert (status, refused["code"]) == (422, "license_unknown")
    settings = {"licenses": "matlab:1", "priority_type": "multifactor", "priority_weights": {"job_size": 1000}}
    assert system.call("POST", "/cluster/apply", {"settings": settings})[0] == 200
    assert system.call("GET", "/config")[1]["settings"]["licenses"] == "matlab:1"
    assert system.call("GET", "/licenses")[1]["licenses"][0]["total"] == 1
    status, submitted = system.call("POST", "/jobs/submit", wanted)
    assert status in (200, 201), submitted
    system.wait_state(submitted["job_id"], "COMPLETED")
    held = system.submit("sleep 60", cpus_per_task=2)
    waiting = system.submit("true", cpus_per_task=2)

    def factors() -> Any:
        found = system.call("GET", f"/priorities?job_id={waiting}")[1].get("priorities") or []
        return found and found[0]["factors"].get("job_size")

    assert wait_until(factors, what="多因子的优先级")
    for job_id in (held, waiting):
        system.call("POST", f"/jobs/cancel/{job_id}")
    assert system.call("POST", "/cluster/apply?prune=true", {"settings": {}})[0] == 200
    assert system.call("GET", "/config")[1]["settings"]["licenses"] == ""
