"""本机的套接字：三个真的 Unix 用户、两个账户，环境里没有令牌；是谁由内核说，谁也装不成别人。"""

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from node_yard import end_shepherds
from starlette.datastructures import Headers

from own_database import own_database, variables
from running_system import TERMINAL, free_port, wait_until
from scns_conductor.api.local_socket import LocalSocket
from scns_conductor.api.peers import Peers
from scns_conductor.client.endpoint import LOCAL_SOCKET
from scns_conductor.core.errors import Forbidden, SettingsError, Unauthorized
from scns_conductor.local.engines import Engines
from unix_people import Person, commands_for_everyone, unix_users

NAMES = ("scnsalice", "scnsbob", "scnscarol")
NOBODY_KNOWS = 54321
PER_USER = 12
RAW = r"""
import http.client, json, socket, sys
path, method, target, headers = sys.argv[1:5]
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(path)
connection.request(method, target, headers=json.loads(headers))
answer = connection.getresponse()
print(answer.status, answer.read(2000).decode())
"""
MANY = r"""
import socket, sys
opened = [socket.socket(socket.AF_UNIX) for _ in range(int(sys.argv[2]) + 1)]
for each in opened:
    each.connect(sys.argv[1])
opened[-1].settimeout(20)
print(opened[-1].recv(4096).decode())
print("ready", flush=True)
sys.stdin.readline()
"""


@dataclass
class Site:
    """一套多用户的系统：root 的代理、API、调度器。"""

    url: str
    services: "subprocess.Popen[bytes]"
    root: Person
    alice: Person
    bob: Person
    carol: Person
    stranger: Person
    work: Path

    def raw(self, person: Person, target: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """不经客户端，自己写请求头。"""
        sent = json.dumps({name.replace("_", "-"): value for name, value in headers.items()})
        status, _, body = person.say(sys.executable, "-c", RAW, LOCAL_SOCKET, method, target, sent).partition(" ")
        return int(status), body

    def api_pid(self) -> int:
        children = Path(f"/proc/{self.services.pid}/task/{self.services.pid}/children").read_text().split()
        return next(int(pid) for pid in children if "scns_conductor.api" in Path(f"/proc/{pid}/cmdline").read_text())


@pytest.fixture(scope="module")
def site(engines: Engines) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("需要 root：多用户模式")
    work = Path(tempfile.mkdtemp(prefix="scns-"))
    work.chmod(0o755)
    (work / "run/scns-conductor").mkdir(parents=True)
    for folder in ("bin", "jobs"):
        (work / folder).mkdir()
    (work / "jobs").chmod(0o1777)
    port = free_port()
    environment = {
        **os.environ,
        "SCNS_DATA_DIR": str(work / "data"),
        "SCNS_SCRIPT_DIR": str(work / "scripts"),
        "SCNS_API_PORT": str(port),
        "SCNS_API_SOCKET": str(work / LOCAL_SOCKET.removeprefix("/")),
        "SCNS_API_CONNECTIONS_PER_ADDRESS": str(PER_USER),
        "SCNS_ACCOUNTING_STORAGE_ENFORCE": "associations",
        "SCNS_NODE_NAME": "n1",
        "SCNS_NODE_CPUS": "4",
        "SCNS_KILL_WAIT_S": "0.5",
        "SCNS_HEARTBEAT_INTERVAL_S": "0.5",
    }
    with unix_users(*NAMES) as uids, contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, work)
        settings = stack.enter_context(own_database(engines, "t_local_socket", work / "data"))
        environment |= variables(settings)
        services = subprocess.Popen(
            [sys.executable, "-m", "scns_conductor.local.services", "scheduler", "agent", "api"],
            env=environment,
            stderr=stack.enter_context(open(work / "log", "ab")),
        )
        stack.callback(end_shepherds, work)
        stack.callback(services.wait, 60)
        stack.callback(services.terminate)
        binaries = commands_for_everyone(work / "bin")
        root, *others = [Person(uid, binaries, work / "run", work / "jobs") for uid in (0, *uids, NOBODY_KNOWS)]
        found = Site(f"http://127.0.0.1:{port}", services, root, *others, work=work)
        wait_until(lambda: "n1" in found.root.run("sinfo", "-h", "-N", "-t", "idle").stdout, what="节点上线")
        found.root.say("sacctmgr", "-i", "add", "account", "physics,chemistry")
        for name, account in zip(NAMES, ("physics", "physics", "chemistry"), strict=True):
            found.root.say("sacctmgr", "-i", "add", "user", name, f"account={account}")
        yield found


def ended_state(person: Person, job_id: str) -> str:
    """终态；没有结束是空的。"""
    state = str(json.loads(person.say("scns", "show", job_id, "--json"))["state"])
    return state if state in TERMINAL else ""


def test_three_users_work_without_any_token(site: Site) -> None:
    jobs = {}
    for person, name, account in (
        (site.alice, NAMES[0], "physics"), (site.bob, NAMES[1], "physics"), (site.carol, NAMES[2], "chemistry"),
    ):  # fmt: skip
        out = site.work / f"jobs/{name}.out"
        job_id = person.say("sbatch", "--parsable", "-o", str(out), "--wrap", "id -un; echo ${SCNS_TOKEN:-没有令牌}")
        jobs[name] = job_id
        shown = json.loads(person.say("scns", "show", job_id, "--json"))
        assert (shown["user_name"], shown["account"]) == (name, account)
        ended = wait_until(lambda job_id=job_id, person=person: ended_state(person, job_id), what="作业结束")  # type: ignore[misc]
        assert ended == "COMPLETED", person.run("scns", "show", job_id).stdout
        assert out.read_text().split() == [name, "没有令牌"]
        assert out.stat().st_uid == person.uid
    # squeue --me、sacct 只是自己的。
    sacct = site.alice.say("sacct", "-X", "-n", "-o", "user")
    assert set(sacct.split()) == {NAMES[0]}
    done = site.alice.run("scns", "submit", "--wait", "-", text="#!/bin/sh\nexit 3\n")
    assert done.returncode == 3, done.stderr


LIMITED = """#!/bin/bash
echo $(ulimit -Sn) $(ulimit -Sf)
(exec 320< /dev/null) 2> /dev/null && echo 320 opened
(exec 321< /dev/null) 2> /dev/null || echo 321 refused
(trap "" XFSZ; head -c 100000 /dev/zero > big 2> /dev/null); stat -c "%s %U" big
"""
SOFT_LIMITS = {resource.RLIMIT_NOFILE: 321, resource.RLIMIT_FSIZE: 8192}


def test_limits_of_the_submitting_shell_are_in_force_for_a_user(site: Site) -> None:
    """--propagate：不是环境里的一个数，是内核真的拦着他的进程。"""
    folder = site.work / "jobs/limits"
    folder.mkdir()
    os.chown(folder, site.alice.uid, site.alice.uid)

    def output(*options: str) -> list[str]:
        words = ("sbatch", "--wait", "-D", str(folder), "-o", "out", *options)
        site.alice.say(*words, text=LIMITED, limits=SOFT_LIMITS)
        return (folder / "out").read_text().splitlines()

    assert output() == ["321 8", "320 opened", "321 refused", f"8192 {NAMES[0]}"]
    free = output("--propagate=NONE")
    assert free[0].split()[0] != "321"
    assert free[-1] == f"100000 {NAMES[0]}"
    assert site.alice.say("srun", "bash", "-c", "ulimit -Sn", limits=SOFT_LIMITS) == "321"


PROFILE = """echo noise
id -u > ~/ran_as
export FROM_LOGIN=$(id -un) SECRET=$(cat {secret} 2> /dev/null || echo unreadable) PATH=$PATH:~/login-bin
"""
HANGING = """id -u > ~/hung_as
setsid sleep {left} &
sleep {hung}
"""


def _sleeping(seconds: int) -> bool:
    words = f"sleep\0{seconds}\0".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "cmdline").read_bytes() == words:
                    return True
    return False


def test_the_login_environment_is_read_as_the_user_and_never_hangs_the_job(site: Site) -> None:
    home, secret = site.work / "jobs/home", site.work / "root-only"
    home.mkdir()
    secret.write_text("secret of root")
    secret.chmod(0o600)
    os.chown(home, site.bob.uid, site.bob.uid)
    profile = home / ".bash_profile"
    profile.write_text(PROFILE.format(secret=secret))
    own = {"HOME": str(home), "SHELL": "/bin/bash"}
    script = "#!/bin/bash\necho $FROM_LOGIN/$SECRET\ncase $PATH in *login-bin) echo path;; esac\n"

    def output(*options: str) -> list[str]:
        site.bob.say("sbatch", "--wait", "-o", str(home / "out"), "-D", str(home), *options, text=script, **own)
        return (home / "out").read_text().splitlines()

    assert output() == ["/"]
    assert output("--get-user-env")[0] == f"{NAMES[1]}/unreadable"
    # 程序是他的身份运行的，文件也是他的。
    assert (home / "ran_as").read_text().strip() == str(site.bob.uid)
    assert (home / "ran_as").stat().st_uid == site.bob.uid
    # 不带提交时的环境，连 PATH 也是登录之后的。
    assert output("--export=HOME,SHELL", "--get-user-env") == [f"{NAMES[1]}/unreadable", "path"]
    hung, left = 86_000 + os.getpid() % 399, 85_000 + os.getpid() % 399
    profile.write_text(HANGING.format(hung=hung, left=left))
    told, shown = output("--get-user-env=2")
    assert told.endswith("Unable to get user's local environment, running only with passed environment: timed out")
    assert shown == "/"
    assert (home / "hung_as").read_text().strip() == str(site.bob.uid)
    # 启动文件留下的，连另开了会话的，都没有了。
    wait_until(lambda: not _sleeping(hung) and not _sleeping(left), what="启动文件留下的进程没有了")


def test_one_user_is_not_another(site: Site) -> None:
    job_id = site.alice.say("sbatch", "--parsable", "--hold", "--wrap", "true")
    refused = site.bob.run("scancel", job_id)
    assert refused.returncode == 1
    assert "Access/permission denied" in refused.stderr
    assert site.bob.run("scns", "logs", job_id).returncode == 1
    # 别的账户的关联没有。
    assert "Invalid account" in site.carol.run("sbatch", "-A", "physics", "--wrap", "true").stderr
    # 不是管理员。
    assert site.bob.run("scontrol", "update", "nodename=n1", "state=drain", "reason=x").returncode == 1
    assert site.alice.say("squeue", "-h", "--me", "-o", "%i %u") == f"{job_id} {NAMES[0]}"
    assert site.bob.say("squeue", "-h", "--me") == ""
    # root 是管理员。
    site.root.say("scancel", job_id)
    assert site.alice.say("squeue", "-h", "--me") == ""


def test_nobody_can_pose_as_another(site: Site) -> None:
    status, body = site.raw(site.bob, "/whoami")
    assert (status, json.loads(body)["user_name"], json.loads(body)["admin"]) == (200, NAMES[1], False)
    for headers in (
        {"X_SLURM_USER_NAME": NAMES[0]},
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic cm9vdDo="},
        {"X_SLURM_USER_TOKEN": ""},
        # 反向代理接到套接字上：那一头是代理，不是提问的人。
        {"X_Forwarded_For": "10.0.0.1"},
        {"Via": "1.1 proxy"},
    ):
        assert site.raw(site.bob, "/whoami", **headers)[0] == 401, headers
    # 自己的名字照写无妨（slurmrestd 的客户端总写）。
    assert site.raw(site.bob, "/whoami", X_SLURM_USER_NAME=NAMES[1])[0] == 200
    assert site.raw(site.root, "/whoami")[1].startswith('{"user_name":"root","admin":true')
    # 经端口来的没有这回事。
    done = site.alice.run("scns", "jobs", SCNS_URL=site.url)
    assert done.returncode == 1
    assert "需要令牌" in done.stderr


def test_a_uid_without_a_name_is_refused(site: Site) -> None:
    done = site.stranger.run("scns", "jobs")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(NOBODY_KNOWS) in done.stderr
    assert json.loads(site.raw(site.stranger, "/jobs")[1])["code"] == "peer_unknown"
    asked = site.stranger.run("squeue", "--me")
    assert asked.returncode == 1
    assert "Traceback" not in asked.stderr
    audited = json.loads(site.root.say("scns", "audit", "--action", "token.refused", "--json"))["audit"]
    assert ("socket", {"code": "peer_unknown"}) in [(each["method"], each["after"]) for each in audited]


def test_a_token_for_elsewhere_is_got_over_the_socket(site: Site) -> None:
    token = site.alice.say("scontrol", "token").removeprefix("SLURM_JWT=")
    shown = json.loads(site.alice.say("scns", "whoami", "--json", SCNS_URL=site.url, SCNS_TOKEN=token))
    assert shown["user_name"] == NAMES[0]
    assert shown["expires_at"] is not None
    refused = site.alice.run("scontrol", "token", f"username={NAMES[1]}")
    assert refused.returncode == 1


def test_what_if_asks_as_the_user(site: Site) -> None:
    """「假如」的子进程以 API 的身份连套接字：它带着替用户签的令牌，不是 root。"""
    status, body = site.raw(site.alice, "/simulate?since=now-1hour")
    assert status == 200
    assert "event: accepted" in body
    assert "token" not in body


def test_one_user_cannot_take_all_the_connections(site: Site) -> None:
    taken = subprocess.Popen(
        ["setpriv", f"--reuid={site.bob.uid}", "--clear-groups", sys.executable, "-c", MANY,
         str(site.work / LOCAL_SOCKET.removeprefix("/")), str(PER_USER)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with taken:
        assert taken.stdout is not None
        assert "429" in taken.stdout.readline()
        wait_until(lambda: taken.stdout.readline().strip() == "ready", what="占满了")  # type: ignore[union-attr]
        assert site.raw(site.alice, "/whoami")[0] == 200
        taken.terminate()


@pytest.mark.faults
def test_the_socket_comes_back_after_a_crash(site: Site) -> None:
    before = site.api_pid()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: site.alice.run("scns", "jobs").returncode == 0, what="API 又答话")
    assert site.api_pid() != before


def test_two_do_not_listen_at_one_place() -> None:
    place = Path(tempfile.mkdtemp(prefix="scns-", dir="/tmp")) / "s"
    try:
        first = LocalSocket(place)
        with pytest.raises(SettingsError, match="已有进程"):
            LocalSocket(place)
        first.close()
        assert not place.exists()
        # 死了的留下的文件不碍事；别人换上的不动。
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(place))
        second = LocalSocket(place)
        place.unlink()
        place.touch()
        second.close()
        assert place.exists()
        for wrong, why in ((place.parent / "none/s", "目录"), (place.parent / ("x" * 120), "太长")):
            with pytest.raises(SettingsError, match=why):
                LocalSocket(wrong)
    finally:
        shutil.rmtree(place.parent)


def test_a_single_user_system_admits_its_owner_only() -> None:
    peers = Peers(single_user=True)
    owner = asyncio.run(peers.identity(os.geteuid(), Headers()))
    assert owner.admin
    with pytest.raises(Forbidden):
        asyncio.run(peers.identity(12345, Headers()))
    # 内核分不出的 uid（别的用户命名空间里的）不是 nobody。
    with pytest.raises(Unauthorized):
        asyncio.run(Peers(single_user=False).identity(65534, Headers()))
