"""威胁表里节点一侧的每一行（docs/security.md）：被攻陷的作业、别的用户、能写 Valkey 的人各够得到什么。"""

import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from node_yard import NodeYard
from rq.serializers import JSONSerializer
from shepherd_yard import alive, wait_until

from scns_conductor.core.settings import Settings
from scns_conductor.core.valkey import queue_name

USER, OTHER = "nobody", "daemon"


@pytest.fixture
def yard(settings: Settings, walkable: Path) -> Iterator[NodeYard]:
    running = NodeYard(settings, walkable)
    yield running
    running.close()


@pytest.fixture
def shared(yard: NodeYard) -> NodeYard:
    """多用户的节点：root 的代理，作业各以自己的用户运行。"""
    if os.geteuid() != 0:
        pytest.skip("需要 root：多用户模式")
    yard.output.chmod(0o1777)
    yard.start_agent(SCNS_SINGLE_USER="false")
    return yard


PROBE = r"""#!/usr/bin/env python3
import json, os, signal, socket, sys
spool, scripts, agent, shepherd, victim, database, valkey, other = sys.argv[1:]

def attempt(name, action):
    try:
        found[name] = "做到了：" + str(action())
    except OSError as error:
        found[name] = "denied " + type(error).__name__

def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    return path

found = {}
attempt("列工作目录", lambda: os.listdir(spool))
attempt("连牧守进程", lambda: connect(spool + "/shepherd.sock"))
attempt("读日志", lambda: open(spool + "/shepherd.journal").read())
attempt("列脚本目录", lambda: os.listdir(scripts))
attempt("读别人的脚本", lambda: open(other).read())
attempt("往脚本目录里写", lambda: open(scripts + "/job_999.sh", "w"))
attempt("换掉自己的脚本", lambda: os.rename(__file__, __file__ + ".old"))
attempt("读代理的环境", lambda: open(f"/proc/{agent}/environ").read())
attempt("读牧守进程的内存", lambda: open(f"/proc/{shepherd}/mem", "rb"))
attempt("杀代理", lambda: os.kill(int(agent), signal.SIGKILL))
attempt("杀牧守进程", lambda: os.kill(int(shepherd), signal.SIGKILL))
attempt("杀别人的作业", lambda: os.kill(int(victim), signal.SIGKILL))
attempt("连数据库", lambda: connect(database))
attempt("连 Valkey", lambda: connect(valkey))
attempt("变成 root", lambda: os.setuid(0))
attempt("离开 cgroup", lambda: [open(path + "/tasks", "w").write("0") for path in (
    "/sys/fs/cgroup/freezer", "/sys/fs/cgroup/memory") if os.path.isdir(path)] or 1 / 0)
print(json.dumps(found, ensure_ascii=False))
print(json.dumps(dict(os.environ)))
print(os.getuid(), os.geteuid(), os.getgroups())
"""


def test_a_compromised_job_reaches_nothing_but_its_own(shared: NodeYard, engines_paths: tuple[str, str]) -> None:
    victim = shared.run("echo $$ > victim.new; mv victim.new victim; sleep 300\n", user_name=OTHER)
    victim_pid = int(shared.written("victim"))
    scripts = shared.work / "n1" / "scripts"
    arguments = [
        str(shared.spool()),
        str(scripts),
        str(shared.agents["n1"].pid),
        str(shared.shepherd_pid()),
        str(victim_pid),
        *engines_paths,
        str(scripts / f"job_{victim}.sh"),
    ]
    for parent in (scripts, *scripts.parents):
        if parent.is_relative_to(shared.work):
            parent.chmod(0o711)
    job_id = shared.run(PROBE, user_name=USER, argv=arguments)
    job = shared.ended(job_id)
    output = (shared.output_of(job_id) or b"").decode()
    assert job["state"] == "COMPLETED", (job["error_msg"], output)
    found, environment, identity = output.splitlines()[:3]
    reached = {name: result for name, result in json.loads(found).items() if not result.startswith("denied")}
    assert reached == {}
    assert "[0" not in identity
    assert not identity.startswith("0 ")
    # 环境里没有任何口令、地址与令牌。
    names = json.loads(environment)
    assert not {"SCNS_DATABASE_URL", "SCNS_REDIS_URL", "SCNS_TOKEN", "SCNS_JWT_KEY_FILE"} & names.keys()
    password = shared.urls["SCNS_REDIS_URL"].split("@")[0].rpartition(":")[2]
    assert password not in environment
    assert alive(victim_pid)
    shared.request_end(victim, "CANCELLED")
    shared.ended(victim)


@pytest.fixture
def engines_paths(yard: NodeYard) -> tuple[str, str]:
    """PostgreSQL 与 Valkey 的套接字。"""
    host = yard.urls["SCNS_DATABASE_URL"].split("host=")[1].split("&")[0].replace("%2F", "/")
    valkey = yard.urls["SCNS_REDIS_URL"].split("@")[1].split("?")[0]
    return f"{host}/.s.PGSQL.5432", valkey


def test_output_goes_only_where_the_user_may_write(shared: NodeYard) -> None:
    """别人的文件、指向它的链接、root 的目录：作业失败并说明，文件不变。"""
    theirs = shared.output / "theirs"
    theirs.write_text("别人的\n")
    theirs.chmod(0o644)
    os.chown(theirs, 1, 1)
    (shared.output / "link").symlink_to(theirs)
    for target in (str(theirs), str(shared.output / "link"), "/etc/scns-probe", "/root/scns-probe"):
        job = shared.ended(shared.run("echo 改了\n", user_name=USER, standard_output=target))
        assert job["state"] == "FAILED"
        assert target in job["error_msg"]
    assert theirs.read_text() == "别人的\n"
    assert not Path("/etc/scns-probe").exists()


def test_output_read_back_is_only_what_the_user_may_read(shared: NodeYard) -> None:
    """作业把输出换成指向 /etc/shadow 的链接：收进数据库的尾部不会是它。"""
    job_id = shared.run("rm slurm-$SLURM_JOB_ID.out; ln -s /etc/shadow slurm-$SLURM_JOB_ID.out\n", user_name=USER)
    assert shared.ended(job_id)["state"] == "COMPLETED"
    assert shared.output_of(job_id) is None


def test_unknown_user_and_root_are_refused(shared: NodeYard) -> None:
    stranger = shared.run("true\n", user_name="no-such-user")
    root = shared.run("true\n")
    assert "no-such-user" in shared.ended(stranger)["error_msg"]
    assert "root" in shared.ended(root)["error_msg"]
    assert {shared.job(job_id)["state"] for job_id in (stranger, root)} == {"FAILED"}


def test_job_runs_as_the_submitting_user(shared: NodeYard) -> None:
    job_id = shared.run("id -un; echo $HOME $USER; cat $0 | head -1\n", user_name="nobody")
    assert shared.ended(job_id)["state"] == "COMPLETED", shared.job(job_id)
    output = shared.output_of(job_id) or b""
    assert output.decode().splitlines()[0] == "nobody"
    assert output.decode().splitlines()[2].startswith("id -un")
    assert (shared.output / f"slurm-{job_id}.out").owner() == "nobody"


def push(yard: NodeYard, identifier: str, fields: dict[str, bytes]) -> None:
    """能写 Valkey 的人：直接往节点的队列里塞一条 RQ 消息。"""
    with redis.Redis.from_url(yard.urls["SCNS_REDIS_URL"]) as client:
        client.hset(f"rq:job:{identifier}", mapping=fields)
        client.rpush(f"rq:queue:{queue_name('n1')}", identifier)


def message(function: str, payload: object) -> dict[str, bytes]:
    data = JSONSerializer.dumps((function, None, [payload], {}))
    return {"data": data, "origin": queue_name("n1").encode(), "created_at": b"2026-11-24T00:00:00.000000Z"}


class Evil:
    """还原这个对象就会执行命令。"""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_writer_to_valkey_gets_no_code_executed(yard: NodeYard) -> None:
    """pickle、任意函数名、未知版本、乱码、不存在的作业：一律拒收并说明，代理照常工作。"""
    yard.start_agent()
    owned = yard.work / "owned"
    push(yard, "pickled", {**message("launch", {}), "data": pickle.dumps((Evil(owned), None, (), {}))})
    push(yard, "system", message("os.system", {"version": 1, "command": f"touch {owned}"}))
    push(yard, "string", message("subprocess.getoutput", f"touch {owned}"))
    push(yard, "future", message("launch", {"version": 99, "job_ids": [1]}))
    push(yard, "noise", {"data": b"\x80\x05\xff", "created_at": b"x"})
    push(yard, "absent", message("launch", {"version": 1, "job_ids": [10**12]}))
    push(yard, "wrong", message("launch", {"version": 1, "job_ids": "x"}))
    push(yard, "wrong-signal", message("signal", {"version": 1, "jobs": [[1]], "signal": "../../x"}))
    with redis.Redis.from_url(yard.urls["SCNS_REDIS_URL"]) as client:
        client.rpush(f"rq:queue:{queue_name('n1')}", "没有这条消息", b"\xff\xfe")
    job_id = yard.run("echo ran\n")
    assert yard.ended(job_id)["state"] == "COMPLETED"
    wait_until(lambda: "bus_version_unknown" in yard.log(), "未知版本")
    wait_until(lambda: yard.log().count("bus_message") >= 5, "拒收都写明了")
    assert not owned.exists()
    assert yard.agents["n1"].poll() is None
    # 队列没有卡住：后来的消息照样立即送到。
    with redis.Redis.from_url(yard.urls["SCNS_REDIS_URL"]) as client:
        wait_until(lambda: client.llen(f"rq:queue:{queue_name('n1')}") == 0, "队列取空")


def test_messages_cannot_start_what_the_database_did_not_allocate(yard: NodeYard) -> None:
    """伪造的 launch：没有分配、分配给别的节点、已经结束的作业都不会启动。"""
    yard.start_agent()
    pending = yard.submit("touch forged\n")
    done = yard.run("echo once >> once\n")
    assert yard.ended(done)["state"] == "COMPLETED"
    yard.start_agent("n2")
    yard.kill_agent("n2")
    elsewhere = yard.submit("touch forged\n")
    yard.start(elsewhere, ["n2"], send=False)
    yard.send("launch", job_ids=[pending, done, elsewhere])
    assert yard.ended(yard.run("true\n"))["state"] == "COMPLETED"
    assert not (yard.output / "forged").exists()
    assert (yard.output / "once").read_text() == "once\n"
    assert yard.job(pending)["state"] == "PENDING"


def test_secrets_are_neither_on_command_lines_nor_in_logs_nor_in_readable_files(yard: NodeYard) -> None:
    yard.start_agent()
    yard.ended(yard.run("env; exit 1\n"))
    password = yard.urls["SCNS_REDIS_URL"].split("@")[0].rpartition(":")[2].encode()
    assert len(password) >= 16
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                assert password not in (entry / "cmdline").read_bytes(), entry
            except OSError:
                continue
    assert password.decode() not in yard.log()
    assert password not in (yard.spool() / "shepherd.log").read_bytes()
    for path in yard.spool().iterdir():
        if path.is_file():
            assert password not in path.read_bytes(), path
    assert yard.spool().stat().st_mode & 0o777 == 0o700
    assert (yard.spool() / "shepherd.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("target", ["/proc/self/maps", "/proc/self/cmdline", "/proc/thread-self/status"])
def test_output_that_turns_into_a_link_to_proc_does_not_show_the_agent(shared: NodeYard, target: str) -> None:
    """/proc/self 谁打开就是谁：收尾部的、回答 read_log 的进程都不是作业。"""
    job_id = shared.run(f"echo own; ln -sf {target} slurm-$SLURM_JOB_ID.out\n", user_name=USER)
    assert shared.ended(job_id)["state"] == "COMPLETED"
    assert os.readlink(shared.output / f"slurm-{job_id}.out") == target
    stored = shared.query("SELECT content FROM job_outputs WHERE job_id = :job_id", job_id=job_id)
    assert b"".join(bytes(row["content"]) for row in stored) in (b"", b"own\n")


@pytest.mark.faults
def test_nodes_of_both_modes_do_not_share_a_database(yard: NodeYard) -> None:
    """单用户的 API 以自己的身份读输出：多用户的节点来登记，被拒绝，说明怎么办。"""
    yard.start_agent("n1")
    yard.start_agent("n2", wait=False, SCNS_SINGLE_USER="false")
    assert yard.agents["n2"].wait(timeout=60) == 2
    assert "SCNS_SINGLE_USER" in (yard.work / "n2.log").read_text()
    assert yard.node("n2") == {}
    yard.agents.pop("n2")
    # 同一种模式的照常；另一种的停了之后就可以换。
    yard.start_agent("n3")
    yard.kill_agent("n1")
    yard.kill_agent("n3")
    yard.execute("UPDATE nodes SET state = 'DOWN'")
    yard.start_agent("n2", SCNS_SINGLE_USER="false")
