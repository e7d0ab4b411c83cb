"""照 docs/deployment.md 装一个三台机器的集群：Debian 自己的 PostgreSQL 与 Redis，三个用户，一条命令也不改。"""

import re
import time
from collections.abc import Callable, Iterator

import pytest

from production.containers import Machine, debian_package, let_root_in, machines
from production.page import commands, section

USERS = ("alice", "bob", "carol")
WAIT_S = 120
MOST_BATCHES = 5
SUBMIT_SHORT = """
import os
from scns_conductor.client import Client
job = dict(name="short", memory_per_node="16M", time_limit="1", standard_output="short_%j")
job["current_working_directory"] = "/home/" + os.environ["USER"]
script = "#!/bin/sh\\nid -un\\necho $SLURM_JOB_ID >> ran\\n"
with Client() as client:
    print(*client.submit_many(dict(job=job, script=script) for _ in range({count})))
"""


def wait_until(check: Callable[[], bool], what: str) -> None:
    """等到成立；到时就失败。"""
    deadline = time.monotonic() + WAIT_S
    while not check():
        assert time.monotonic() < deadline, f"等了 {WAIT_S} 秒：{what}"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, Machine]]:
    """照着页上的命令装好的集群。容器里没有 systemd：服务照 scns setup 说的启动。"""
    page = section("多台机器")
    package = debian_package()
    with machines(["head", "n1", "n2"], subnet="10.0.0.0/24") as found:
        for machine in found.values():
            # 用户在每台机器上都有，号相同。
            for number, user in enumerate(USERS, 2001):
                machine.run(f"useradd -m -u {number} -s /bin/bash {user}")
            machine.copy_in(package, f"/root/{package.name}")
        head = found["head"]
        let_root_in(found.values())
        # 容器里没有人替它启动软件包的服务。
        head.run("pg_ctlcluster 15 main start; service redis-server start 2>/dev/null")
        for line in commands(page, "在 head 上"):
            _follow(head, line)
        # 一个节点自己动手装，别的从 head 经 ssh 装；在装好的上面再来一遍没有什么可做。
        for line in commands(page, "在每个节点上"):
            _follow(found["n1"], line)
        for line in commands(page, "节点多时"):
            said = _follow(head, line)
            assert "n1:   做好" not in said, said
            _start(found["n2"], said, "n2: 启动：")
        yield found


def _follow(machine: Machine, line: str) -> str:
    said = machine.run(f"cd /root && export DEBIAN_FRONTEND=noninteractive && {line}")
    _start(machine, said, "启动：")
    return said


def _start(machine: Machine, said: str, mark: str) -> None:
    for started in re.findall(rf"^{mark}(.*)$", said, re.MULTILINE):
        name = "api" if started.endswith(" api") else "worker"
        machine.start(started, f"/var/log/{name}.log")


def test_the_page_has_at_most_eight_commands() -> None:
    page = section("多台机器")
    introductions = ("在 head 上", "在每个节点上", "给用户令牌")
    assert sum(len(commands(page, each)) for each in introductions) <= 8


def test_the_cluster_is_healthy(cluster: dict[str, Machine]) -> None:
    head = cluster["head"]
    wait_until(lambda: "total=2" in head.run("scns health || true"), "两个节点都登记了")
    assert "就绪" in head.run("scns health")


def test_jobs_run_as_their_users_on_the_nodes(cluster: dict[str, Machine]) -> None:
    head = cluster["head"]
    for line in commands(section("多台机器"), "给用户令牌"):
        said = head.run(line)
    assert "alice" in said
    for user in USERS[1:]:
        head.run(f"scns token --user {user} --install")
        said = head.run(f"runuser -l {user} -c 'echo \"id -un; hostname\" | scns submit --wait -'")
        assert user in said
        assert re.search(r"^n[12]$", said, re.MULTILINE)


def test_short_jobs_of_several_users_follow_one_another(cluster: dict[str, Machine]) -> None:
    """三个人各一批短作业，槽少得多：接力不分是谁的，每个仍以自己的身份、写自己别人进不去的家，恰好一遍。"""
    head, nodes, each = cluster["head"], [cluster["n1"], cluster["n2"]], 90
    for node in nodes:
        node.run("chmod 700 /home/*")
    done = "SELECT count(*) FROM jobs WHERE name = 'short' AND state = 'COMPLETED'"
    chained = (
        "SELECT count(DISTINCT user_name) FROM jobs JOIN resource_allocations USING (job_id) WHERE relay_chain > 0"
    )
    # 平均不到 50 毫秒的才成链：挤着的机器上一批没有成，再来一批。
    for batches in range(1, MOST_BATCHES + 1):
        # 都交齐了才放开：三个人的都攒着，接力才轮得到每个人。
        head.run("/usr/local/bin/scontrol update partitionname=main state=DOWN")
        for user in USERS:
            head.run(f"echo '{SUBMIT_SHORT.format(count=each)}' > /tmp/submit.py")
            head.run(f"cd /tmp && runuser -u {user} -- /opt/scns/bin/python3 /tmp/submit.py >> /tmp/{user}.ids")
        head.run("/usr/local/bin/scontrol update partitionname=main state=UP")
        count = each * batches
        wait_until(lambda count=count: _ask(head, done) == str(count * len(USERS)), "都做完")  # type: ignore[misc]
        if _ask(head, chained) == str(len(USERS)):
            break
    for user in USERS:
        told = f"cd /home/{user} && (cat ran; echo; cat short_*; echo; stat -c %U ran short_*) || true"
        ran, said, owners = (
            " ".join(parts).split() for parts in zip(*(node.run(told).split("\n\n") for node in nodes), strict=True)
        )
        assert sorted(ran) == sorted(head.run(f"cat /tmp/{user}.ids").split())
        assert said == [user] * count
        assert set(owners) == {user}
    assert _ask(head, chained) == str(len(USERS))
    assert _ask(head, "SELECT sum(allocated_cpus), sum(allocated_memory) FROM nodes") == "0|0"


def _ask(head: Machine, statement: str) -> str:
    return head.run(f'cd / && runuser -u postgres -- psql -At scns -c "{statement}"').strip()


def test_commands_inside_a_job_find_the_api(cluster: dict[str, Machine]) -> None:
    said = cluster["head"].run(
        "runuser -l alice -c 'echo \"scns jobs; squeue; srun id -un\" | scns submit --wait --job-name inside -'"
    )
    assert re.search(r"inside\s+alice\s+RUNNING", said)
    assert re.search(r"inside\s+alice\s+R ", said)
    assert said.splitlines().count("alice") == 1


def test_slurm_commands_work_where_the_users_log_in(cluster: dict[str, Machine]) -> None:
    head = cluster["head"]
    said = head.run("runuser -l bob -c 'sbatch --wait --wrap true; sacct -n -X -o state'")
    assert "Submitted batch job" in said
    assert "COMPLETED" in said


def test_a_multi_node_job_gets_both(cluster: dict[str, Machine]) -> None:
    said = cluster["head"].run(
        "runuser -l alice -c 'echo \"echo \\$SLURM_JOB_NODELIST\" | scns submit --wait --nodes 2 -'"
    )
    assert "n[1-2]" in said


def test_settings_and_key_are_not_for_everybody(cluster: dict[str, Machine]) -> None:
    head = cluster["head"]
    assert head.run("stat -c '%a %U %G' /etc/scns-conductor/config.toml").split() == ["640", "root", "scns"]
    assert head.run("stat -c '%a %U' /var/lib/scns-conductor/jwt.key").split() == ["600", "scns"]
    assert "Permission denied" in head.run("runuser -l alice -c 'cat /etc/scns-conductor/config.toml' 2>&1 || true")


def test_setup_again_changes_nothing(cluster: dict[str, Machine]) -> None:
    for machine, words in ((cluster["head"], "api --address head --allow 10.0.0.0/24"), (cluster["n1"], "worker")):
        before = machine.run("find /etc -type f -newermt @0 -printf '%p %T@\\n' | sort | md5sum")
        said = machine.run(f"scns setup {words}")
        assert "做好" not in said
        assert machine.run("find /etc -type f -newermt @0 -printf '%p %T@\\n' | sort | md5sum") == before


def test_a_node_that_cannot_be_reached_does_not_stop_the_others(cluster: dict[str, Machine]) -> None:
    """没有这台机器、那边的设置是别人的：说清是哪一台、为什么，别的照做，退出码不为 0。"""
    head, node = cluster["head"], cluster["n1"]
    node.run("echo '# 我改过' >> /etc/scns-conductor/config.toml")
    said = head.run("scns setup node nosuch,n[1-2] 2>&1; echo rc=$?")
    assert "nosuch: 没有做成。ssh 连不上" in said
    assert "n1: 没有做成。那边已有内容不同的 /etc/scns-conductor/config.toml；要换掉它用 --replace-settings" in said
    assert "n2: 没有做成" not in said
    assert "3 台里有 2 台没有做成：" in said
    assert said.endswith("rc=1\n")
    head.run("scns setup node n1 --replace-settings")
    assert "我改过" not in node.read("/etc/scns-conductor/config.toml")
    assert head.run("scns setup node n1 --dry-run").splitlines() == ["n1: 都已经好了。", "什么也没有动。"]


def test_a_port_somebody_else_holds_is_told_before_anything_is_started(cluster: dict[str, Machine]) -> None:
    node = cluster["n1"]
    node.start("python3 -m http.server 6820", "/var/log/stranger.log")
    wait_until(lambda: ":6820" in node.run("ss -ltn"), "别人占着端口")
    said = node.run("scns setup api 2>&1; echo rc=$?")
    assert "端口有别的程序占着；看是谁：ss -ltnp 'sport = :6820'" in said
    assert said.endswith("rc=1\n")
    # 写错的、连不上的地址不会记下来；与记着的不一样的不会悄悄不算。
    node.run("mv /etc/scns-conductor/config.toml /root/kept.toml")
    for url, complaint in {
        "mysql://x": "SCNS_DATABASE_URL 必须是 postgresql://…",
        "postgresql://scns:bad@head/scns": "请检查 --database-url",
    }.items():
        said = node.run(f"scns setup api --database-url {url} --redis-url redis://head 2>&1; echo rc=$?")
        assert complaint in said
        assert "Traceback" not in said
        assert said.endswith("rc=1\n")
        assert "config.toml" not in node.run("ls /etc/scns-conductor")
    node.run("mv /root/kept.toml /etc/scns-conductor/config.toml")
    said = node.run("scns setup api --cluster-name other 2>&1; echo rc=$?")
    assert "里已有不同的 cluster_name，--cluster-name 不会改它" in said
    assert said.endswith("rc=1\n")
    node.run("kill $(ss -ltnpH 'sport = :6820' | grep -o 'pid=[0-9]*' | cut -d= -f2)")


def test_another_network_is_kept_out(cluster: dict[str, Machine]) -> None:
    rules = cluster["head"].run("cat /etc/postgresql/15/main/pg_hba.conf")
    assert "host  scns  scns  10.0.0.0/24  scram-sha-256" in rules
    refused = cluster["n1"].run("redis-cli -h head ping 2>&1 || true")
    assert "NOAUTH" in refused


def test_remove_leaves_the_settings_and_purge_does_not(cluster: dict[str, Machine]) -> None:
    node = cluster["n2"]
    node.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y scns-conductor")
    assert node.run("ls /opt /usr/local/bin").split() == ["/opt:", "/usr/local/bin:"]
    assert "config.toml" in node.run("ls /etc/scns-conductor")
    node.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y scns-conductor")
    assert node.run("ls -d /etc/scns-conductor 2>/dev/null || true") == ""
