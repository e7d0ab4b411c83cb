"""webhook 真的送到：真的 HTTP 服务器、真的作业；签名、重试、重送、死了的地址、后台进程被杀。"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

import warm_commands
from running_system import RunningSystem, as_user, database_url, free_port, wait_until

SCNS = str(Path(sys.executable).parent / "scns")
RECEIVER = Path(__file__).parents[2] / "examples" / "webhook_receiver.py"


class Inbox:
    """收下的请求；按路径答什么写在 answers 里，缺省 204。"""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        # 收下了，这些路径的要等到它才答。
        self.held: dict[str, threading.Event] = {}

    def at(self, path: str) -> list[dict[str, Any]]:
        """这个路径收到的请求体，依次。"""
        return [body for where, _, body in list(self.got) if where.partition("?")[0] == path]

    def ids(self, path: str) -> list[str]:
        """这个路径收到的 webhook-id，依次。"""
        return [headers["webhook-id"] for where, headers, _ in list(self.got) if where == path]


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[tuple[Inbox, int]]:
    """在回环地址上听着的收件人。"""
    inbox = Inbox()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inbox.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            held = inbox.held.get(self.path)
            if held is not None:
                held.wait(30)
            status, headers, said = inbox.answers.get(self.path.partition("?")[0], (204, {}, b""))
            with contextlib.suppress(ConnectionError):
                self._answer(status, headers, said)

        def _answer(self, status: int, headers: dict[str, str], said: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield inbox, server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def inbox() -> Iterator[tuple[Inbox, int]]:
    with listening() as found:
        yield found


@pytest.fixture(scope="module")
def system(lent_system: RunningSystem) -> RunningSystem:
    """开了 webhook、许了回环的一个地址的系统。"""
    return lent_system


def subscribed(system: RunningSystem, url: str, **values: Any) -> dict[str, Any]:
    status, answer = system.call("POST", "/webhooks", {"url": url, **values})
    assert status == 201, answer
    made: dict[str, Any] = answer
    return made


def deliveries(system: RunningSystem, webhook_id: int) -> list[dict[str, Any]]:
    status, answer = system.call("GET", f"/webhooks/deliveries?webhook_id={webhook_id}")
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["deliveries"]
    return found


def scns(system: RunningSystem, *words: str) -> "subprocess.CompletedProcess[str]":
    return warm_commands.run([SCNS, "webhooks", *words], env=system.environment)


def due_now(system: RunningSystem) -> None:
    """把等着再试的都提前到现在，死了的进程的租期也算过了。"""
    with psycopg.connect(database_url(system), autocommit=True) as connection:
        connection.execute("UPDATE webhook_deliveries SET next_try_at = clock_timestamp() WHERE state = 'QUEUED'")
        connection.execute("UPDATE webhooks SET resume_at = NULL, leased_until = NULL")


def test_the_example_receiver_gets_what_was_asked_for_and_refuses_forgeries(
    system: RunningSystem, scratch: Path
) -> None:
    """文档里的收件人照抄运行：签名对的收下，改过的、旧的不收。"""
    port = free_port()
    added = scns(system, "add", f"http://127.0.0.1:{port}/", "-e", "job.started", "-e", "job.ended")
    assert added.returncode == 0, added.stderr
    number, secret = (line.split()[-1] for line in added.stdout.splitlines())
    log = scratch / "receiver.log"
    with open(log, "w") as stream:
        receiver = subprocess.Popen([sys.executable, str(RECEIVER), str(port), secret], stdout=stream)
    try:
        wait_until(lambda: _listens(port), what="收件人")
        job = system.submit("#!/bin/bash\nexit 3\n", name="训练")
        system.wait_state(job)
        wait_until(lambda: len(log.read_text().splitlines()) == 2, what="两件事")
        assert log.read_text().splitlines() == [f"job.started {job} 训练 -", f"job.failed {job} 训练 3:0"]
        body = deliveries(system, int(number))[0]["payload"].encode()
        for headers in ({}, {"webhook-signature": "v1,AAAA", "webhook-timestamp": "1700000000", "webhook-id": "x"}):
            forged = urllib.request.Request(f"http://127.0.0.1:{port}/", body, headers)
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(forged, timeout=10)
        assert len(log.read_text().splitlines()) == 2
    finally:
        receiver.terminate()
        receiver.wait()
    assert scns(system, "delete", number).returncode == 0


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_everybody_hears_only_of_their_own(system: RunningSystem, inbox: tuple[Inbox, int]) -> None:
    box, port = inbox
    ada = as_user(system, "ada")
    mine = subscribed(ada, f"http://127.0.0.1:{port}/ada", events=["job.*"])
    whole = subscribed(system, f"http://127.0.0.1:{port}/all", events=["*"], scope="cluster")
    assert ada.call("POST", "/webhooks", {"url": "http://1.1.1.1/", "scope": "cluster"})[0] == 403
    assert ada.call("POST", "/webhooks", {"url": "http://1.1.1.1/", "scope": "account", "account": "x"})[0] == 403
    assert ada.call("GET", f"/webhooks/{whole['webhook_id']}")[0] == 404
    assert ada.call("DELETE", f"/webhooks/{whole['webhook_id']}")[0] == 404
    assert "secret" not in ada.call("GET", f"/webhooks/{mine['webhook_id']}")[1]
    job = system.submit("#!/bin/bash\n:\n")
    system.wait_state(job)
    name = system.call("GET", "/nodes")[1]["nodes"][0]["name"]
    assert system.call("PATCH", f"/nodes/{name}", {"state": "DRAIN", "reason": "换盘"})[0] == 200
    assert system.call("PATCH", f"/nodes/{name}", {"state": "RESUME"})[0] == 200
    reservation = {"name": "考试", "start_time": "now", "duration": "60", "nodes": name, "users": ["root"]}
    reservation["name"] = "exam"
    assert system.call("POST", "/reservations", reservation)[0] == 201
    assert system.call("DELETE", "/reservations/exam")[0] == 204

    def types() -> list[str]:
        return [body["type"] for body in box.at("/all")]

    wanted = {"job.submitted", "job.started", "job.completed", "node.drained", "node.resumed", "reservation.deleted"}
    wait_until(lambda: wanted <= set(types()), what=f"{wanted}")
    ended = next(body for body in box.at("/all") if body["type"] == "job.completed")["data"]
    assert (ended["job_id"], ended["state"], ended["exit_code"]) == (job, "COMPLETED", "0:0")
    assert next(body for body in box.at("/all") if body["type"] == "node.drained")["data"]["reason"] == "换盘"
    # 一件不多：状态没有变的（修改）不算。
    assert types().count("job.completed") == 1
    assert not box.at("/ada")
    for owner, hook in ((ada, mine), (system, whole)):
        assert owner.call("DELETE", f"/webhooks/{hook['webhook_id']}")[0] == 204


def test_who_is_demoted_or_deleted_hears_nothing_more(system: RunningSystem, inbox: tuple[Inbox, int]) -> None:
    """降了级的、删了的用户从前定的停下，自己打不开，也换不了地址；作业的仍是本人的。"""
    _, port = inbox
    assert system.call("POST", "/accounts", {"name": "fallen"})[0] == 201
    assert system.call("POST", "/associations", {"account": "fallen", "user": "eve"})[0] == 201
    assert system.call("PATCH", "/users/eve", {"admin_level": "Administrator"})[0] == 200
    eve = as_user(system, "eve")
    wanted = {"cluster": {}, "account": {"account": "fallen"}, "user": {}}
    made: dict[str, int] = {}
    for scope, more in wanted.items():
        hook = wait_until(
            lambda scope=scope, more=more: eve.call(
                "POST", "/webhooks", {"url": f"http://127.0.0.1:{port}/eve", "scope": scope, **more}
            )[1].get("webhook_id"),
            what="级别生效",
        )
        made[scope] = hook

    def active() -> set[str]:
        return {scope for scope, hook in made.items() if system.call("GET", f"/webhooks/{hook}")[1]["active"]}

    assert active() == {"cluster", "account", "user"}
    for level, left in (("Operator", {"account", "user"}), ("None", {"user"})):
        assert system.call("PATCH", "/users/eve", {"admin_level": level})[0] == 200
        assert active() == left
    for scope in ("cluster", "account"):
        for change in ({"active": True}, {"url": f"http://127.0.0.1:{port}/other"}):
            status, answer = wait_until(
                lambda scope=scope, change=change: (
                    found if (found := eve.call("PATCH", f"/webhooks/{made[scope]}", change))[0] != 200 else None
                ),
                what="级别生效",
            )
            assert (status, answer["code"]) == (403, "admin_required")
        assert eve.call("PATCH", f"/webhooks/{made[scope]}", {"active": False})[0] == 200
    assert system.call("DELETE", "/users/eve")[0] == 204
    assert active() == set()
    assert system.call("DELETE", "/accounts/fallen")[0] == 200
    for hook in made.values():
        assert system.call("DELETE", f"/webhooks/{hook}")[0] == 204


def test_the_cluster_tells_of_nodes_settings_and_the_scheduler(system: RunningSystem, inbox: tuple[Inbox, int]) -> None:
    """排空的节点先说开始排空，空了才说排空了；空下来的写明了才有；设置改了；当选的记着。"""
    box, port = inbox
    name = system.call("GET", "/nodes")[1]["nodes"][0]["name"]
    whole = subscribed(system, f"http://127.0.0.1:{port}/cluster", events=["node.*", "setting.*"], scope="cluster")
    idle = subscribed(system, f"http://127.0.0.1:{port}/idle", events=["node.idle"], scope="cluster")
    job = system.submit("#!/bin/bash\nsleep 600\n")
    system.wait_state(job, "RUNNING")
    assert system.call("PATCH", f"/nodes/{name}", {"state": "DRAIN", "reason": "换盘"})[0] == 200
    assert system.call("POST", f"/jobs/{job}/cancel")[0] == 200
    wait_until(lambda: box.at("/cluster")[1:], what="排空了")
    assert system.call("PATCH", f"/nodes/{name}", {"state": "RESUME"})[0] == 200
    for depth in (77, None):
        wanted = {} if depth is None else {"backfill_depth": depth}
        assert system.call("POST", "/cluster/apply?prune=true", {"settings": wanted})[0] == 200
    wanted = ["node.draining", "node.drained", "node.resumed", "setting.updated", "setting.updated"]
    wait_until(lambda: len(box.at("/cluster")) >= len(wanted), what="五件事")
    told = box.at("/cluster")
    assert [body["type"] for body in told] == wanted
    assert told[0]["data"] == {"node": name, "state": "UP", "drain": True, "reason": "换盘", "reason_user": "root"}
    assert told[3]["data"] == {"setting": "backfill_depth", "before": None, "value": 77}
    assert told[4]["data"] == {"setting": "backfill_depth", "before": 77, "value": None}
    wait_until(lambda: box.at("/idle"), what="空下来了")
    assert {(body["type"], body["data"]["node"]) for body in box.at("/idle")} == {("node.idle", name)}
    # 空下来的不在节点的历史里：太多。
    _, history = system.call("GET", f"/nodes/{name}/events")
    assert [one["event"] for one in history["events"][:3]] == ["resumed", "drained", "draining"]
    for hook in (whole, idle):
        assert system.call("DELETE", f"/webhooks/{hook['webhook_id']}")[0] == 204


@pytest.mark.faults
def test_a_scheduler_that_went_away_is_told_once(system: RunningSystem, inbox: tuple[Inbox, int]) -> None:
    """停住的：没有人接任也说，醒来再当选不再说一遍。被杀的：接任的说。"""
    box, port = inbox
    hook = subscribed(system, f"http://127.0.0.1:{port}/scheduler", events=["scheduler.*"], scope="cluster")

    def leader() -> str:
        with psycopg.connect(database_url(system)) as connection:
            row = connection.execute("SELECT holder FROM scheduler_leader").fetchone()
        assert row is not None
        return str(row[0])

    def told() -> list[tuple[str, str]]:
        return [(body["type"], body["data"]["scheduler"]) for body in box.at("/scheduler")]

    first = leader()
    pid = int(first.rpartition(":")[2])
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: told() == [("scheduler.failed", first)], what="不见了", wait_s=120)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: len(told()) == 2, what="又当选", wait_s=120)
    second = leader()
    assert told()[1] == ("scheduler.elected", second)
    os.kill(int(second.rpartition(":")[2]), signal.SIGKILL)
    wait_until(lambda: len(told()) == 4, what="接任的", wait_s=120)
    assert told()[2:] == [("scheduler.failed", second), ("scheduler.elected", leader())]
    assert system.call("DELETE", f"/webhooks/{hook['webhook_id']}")[0] == 204


def test_a_dead_host_is_retried_and_delays_nobody(system: RunningSystem, inbox: tuple[Inbox, int]) -> None:
    box, port = inbox
    silent = socket.create_server(("127.0.0.1", 0))
    dead_port, away = silent.getsockname()[1], free_port()
    slow = subscribed(system, f"http://127.0.0.1:{dead_port}/", events=["job.ended"])
    gone = subscribed(system, f"http://127.0.0.1:{away}/away", events=["job.ended"])
    moved = subscribed(system, f"http://127.0.0.1:{port}/moved", events=["job.ended"])
    box.answers["/moved"] = (302, {"Location": f"http://127.0.0.1:{port}/elsewhere"}, b"")
    good = subscribed(system, f"http://127.0.0.1:{port}/good", events=["job.ended"])
    jobs = [system.submit("#!/bin/bash\n:\n") for _ in range(5)]
    for job in jobs:
        system.wait_state(job)
    wait_until(lambda: len(box.at("/good")) == 5, what="好的地址收到五件")

    def errors(hook: dict[str, Any]) -> list[str]:
        return [one["error"] for one in deliveries(system, hook["webhook_id"]) if one["error"]]

    # 连不上的：只试一件，别的跟着等。
    wait_until(lambda: errors(slow) and errors(gone) and errors(moved), what="各试过")
    assert "3 秒" in errors(slow)[0]
    assert len(errors(gone)) == 1
    assert "302" in errors(moved)[0]
    assert not box.at("/elsewhere")
    states = {one["state"] for hook in (slow, gone, moved) for one in deliveries(system, hook["webhook_id"])}
    assert states == {"QUEUED"}
    with listening(away) as (back, _):
        due_now(system)
        wait_until(lambda: len(back.at("/away")) == 5, what="回来了的地址补上五件")
        assert sorted(body["data"]["job_id"] for body in back.at("/away")) == sorted(jobs)
    # 收下连接而从不回答的：到时候断开，过一会儿再试，仍只试头一件。
    tries = lambda: sorted(one["attempts"] for one in deliveries(system, slow["webhook_id"]))  # noqa: E731
    wait_until(lambda: max(tries()) >= 2, what="又试了一次")
    assert tries()[:-1] == [0, 0, 0, 0]
    assert len(box.at("/good")) == 5
    silent.close()
    for hook in (slow, gone, moved, good):
        system.call("DELETE", f"/webhooks/{hook['webhook_id']}")


def test_dead_letters_are_seen_and_sent_again_under_the_same_id(
    system: RunningSystem, inbox: tuple[Inbox, int]
) -> None:
    box, port = inbox
    hook = subscribed(system, f"http://127.0.0.1:{port}/letters", events=["job.ended"])
    box.answers["/letters"] = (500, {}, b"")
    job = system.submit("#!/bin/bash\n:\n")
    system.wait_state(job)
    wait_until(lambda: box.at("/letters"), what="试过一次")
    with psycopg.connect(database_url(system), autocommit=True) as connection:
        # 两天都没有收下。
        connection.execute("UPDATE webhook_deliveries SET created_at = created_at - interval '3 days'")
    due_now(system)
    (one,) = wait_until(
        lambda: [each for each in deliveries(system, hook["webhook_id"]) if each["state"] == "DEAD"], what="不再试"
    )
    assert one["status_code"] == 500
    shown = scns(system, "deliveries", str(hook["webhook_id"]), "-s", "DEAD")
    assert "DEAD" in shown.stdout
    assert "500" in shown.stdout
    del box.answers["/letters"]
    assert scns(system, "redeliver", str(hook["webhook_id"])).returncode == 0
    wait_until(lambda: deliveries(system, hook["webhook_id"])[0]["state"] == "SENT", what="重送")
    assert set(box.ids("/letters")) == {one["message_id"]}
    status, answer = system.call("POST", f"/webhooks/{hook['webhook_id']}/redeliver", {"delivery_ids": [10**9]})
    assert (status, answer["code"]) == (404, "delivery_not_found")
    # 那边说再也不要了：停下。
    box.answers["/letters"] = (410, {}, b"")
    assert scns(system, "ping", str(hook["webhook_id"])).returncode == 0
    wait_until(lambda: not system.call("GET", f"/webhooks/{hook['webhook_id']}")[1]["active"], what="停下")
    assert "停着" in scns(system).stdout
    assert system.call("POST", f"/webhooks/{hook['webhook_id']}/ping")[1]["code"] == "webhook_inactive"
    system.call("DELETE", f"/webhooks/{hook['webhook_id']}")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "ftp://example.org/"}, "url"),
        ({"url": "http://user:pass@example.org/"}, "url"),
        ({"url": "http://127.0.0.2/"}, "url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://example.org/", "events": ["job.exploded"]}, "events"),
        ({"url": "https://example.org/", "secret": "short"}, "secret"),
        ({"url": "https://example.org/", "format": "slack", "secret": "x"}, "secret"),
        ({"url": "https://example.org/", "scope": "account"}, "account"),
    ],
)
def test_bad_subscriptions_are_refused_by_name(system: RunningSystem, body: dict[str, Any], field: str) -> None:
    status, answer = system.call("POST", "/webhooks", body)
    assert status == 422, answer
    assert any(field in error["field"] for error in answer["errors"])


def test_a_name_of_an_inner_address_is_not_connected_to(system: RunningSystem) -> None:
    """名字解析成许了的以外的地址（本机的名字解析成 ::1、127.0.1.1 等，或写法古怪的 127.0.0.2）：不连，不再试。"""
    with socket.create_server(("127.0.0.2", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        # 0x7f.2 就是 127.0.0.2：只看文字看不出来。
        hook = subscribed(system, f"http://0x7f.2:{port}/")
        assert system.call("POST", f"/webhooks/{hook['webhook_id']}/ping")[0] == 202
        (one,) = wait_until(
            lambda: [each for each in deliveries(system, hook["webhook_id"]) if each["state"] == "DEAD"], what="拒绝"
        )
        assert "webhook_allowed_networks" in one["error"]
        with pytest.raises(BlockingIOError):
            server.accept()
    system.call("DELETE", f"/webhooks/{hook['webhook_id']}")


def test_a_chat_gets_the_due_events_in_one_message(system: RunningSystem, inbox: tuple[Inbox, int]) -> None:
    box, port = inbox
    box.answers["/ding"] = (200, {}, b'{"errcode":0,"errmsg":"ok"}')
    hook = subscribed(system, f"http://127.0.0.1:{port}/ding?access_token=t", format="dingtalk", secret="SECabc")
    job = system.submit("#!/bin/bash\nexit 1\n", name="<@all> 训练")
    system.wait_state(job)
    (said,) = wait_until(lambda: box.at("/ding"), what="群消息")
    assert f"作业 {job} ＜＠all＞ 训练" in said["text"]["content"]
    assert "FAILED" in said["text"]["content"]
    where = next(path for path, _, _ in box.got if path.startswith("/ding"))
    assert "access_token=t&timestamp=" in where
    assert "&sign=" in where
    wait_until(lambda: {one["state"] for one in deliveries(system, hook["webhook_id"])} == {"SENT"}, what="记下")
    # 机器人答 200 而没有收下，也算没有送到。
    box.answers["/ding"] = (200, {}, b'{"errcode":310000,"errmsg":"sign not match"}')
    system.call("POST", f"/webhooks/{hook['webhook_id']}/ping")
    (one,) = wait_until(
        lambda: [each for each in deliveries(system, hook["webhook_id"]) if each["error"]], what="没有收下"
    )
    assert "310000 sign not match" in one["error"]
    system.call("DELETE", f"/webhooks/{hook['webhook_id']}")


@pytest.mark.faults
def test_nothing_is_lost_when_the_background_process_is_killed(system: RunningSystem, inbox: tuple[Inbox, int]) -> None:
    box, port = inbox
    hook = subscribed(system, f"http://127.0.0.1:{port}/killed", events=["job.ended"])
    jobs = [system.submit("#!/bin/bash\n:\n")]
    box.held["/killed"] = threading.Event()
    # 第一次正送到一半：收的一方收下了，还没有答。
    wait_until(lambda: box.at("/killed"), what="送到一半")
    for _ in range(2):
        background = wait_until(lambda: system.background(), what="后台进程")
        os.kill(background, signal.SIGKILL)
        jobs += [system.submit("#!/bin/bash\n:\n") for _ in range(4)]
        wait_until(lambda killed=background: system.background() not in (None, killed), what="重启")
    box.held.pop("/killed").set()
    due_now(system)
    for job in jobs:
        system.wait_state(job)

    def told() -> set[str]:
        return {body["data"]["job_id"] for body in box.at("/killed")}

    wait_until(lambda: told() == set(jobs), what="每一件都送到")
    found = deliveries(system, hook["webhook_id"])
    assert len(found) == len(jobs)
    # 重的也是同一个 webhook-id。
    assert set(box.ids("/killed")) == {one["message_id"] for one in found}
    assert len(box.ids("/killed")) > len(jobs)
    system.call("DELETE", f"/webhooks/{hook['webhook_id']}")


def blocked_by(look: "psycopg.Connection[tuple[Any, ...]]", holder: int) -> bool:
    found = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
    return look.execute(found, (holder,)).fetchone() != (0,)


@pytest.mark.parametrize("other", ["记下没有送到", "再送一遍"])
def test_a_subscription_is_deleted_while_its_deliveries_change(system: RunningSystem, other: str) -> None:
    """删掉的先锁订阅再锁要送的；别的也照这个次序，不互相等。"""
    log = system.data_dir / "logs" / "postgres.log"
    before = log.read_text(errors="replace").count("deadlock detected")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hook = subscribed(system, f"http://127.0.0.1:{silent.getsockname()[1]}/", events=["job.ended"])
        number = hook["webhook_id"]
        system.wait_state(system.submit("#!/bin/bash\n:\n"))
        # 租下了，正送着。
        silent.settimeout(60)
        sending, _ = silent.accept()
        with (
            sending,
            psycopg.connect(database_url(system)) as deleting,
            psycopg.connect(database_url(system), autocommit=True) as look,
        ):
            if other == "再送一遍":
                look.execute("UPDATE webhook_deliveries SET state = 'DEAD' WHERE webhook_id = %s", (number,))
            deleting.execute("SELECT 1 FROM webhooks WHERE webhook_id = %s FOR UPDATE", (number,))
            again = threading.Thread(target=system.call, args=("POST", f"/webhooks/{number}/redeliver", {}))
            if other == "再送一遍":
                again.start()
            wait_until(lambda: blocked_by(look, deleting.info.backend_pid), what="等着订阅的行")
            deleting.execute("DELETE FROM webhooks WHERE webhook_id = %s", (number,))
            deleting.commit()
            if other == "再送一遍":
                again.join()
    assert system.call("GET", f"/webhooks/{number}")[0] == 404
    assert log.read_text(errors="replace").count("deadlock detected") == before
