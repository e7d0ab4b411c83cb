"""登录：真的 Unix 用户，Debian 自己的 PAM（common-auth、common-account）；终端里登录、别处批准。"""

import concurrent.futures
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

import warm_processes
from own_database import own_database, variables
from running_system import RunningSystem, free_port, wait_until
from scns_conductor.core.errors import SettingsError
from scns_conductor.core.settings import Settings
from scns_conductor.local.engines import Engines
from scns_conductor.services.password_login import PasswordLogin
from scns_conductor.services.shared_ledger import SharedLedger
from unix_people import Person, commands_for_everyone, unix_users

ALICE, BOB, ROOT_TOO = "scnspama", "scnspamb", "scnspamroot"
PASSWORD = "正确的马 battery staple"
WRONG = "wr0ng-paSSword"
SERVICE = "scns-test"
LIFETIME_S = 3600
WEB_URL = "https://web.example.org/scns"


@dataclass
class Site:
    url: str
    log: Path
    alice: Person
    database_url: str

    def call(self, method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any, dict[str, str]]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, method=method, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read()), {}
        except urllib.error.HTTPError as error:
            with error:
                return (
                    error.code,
                    json.loads(error.read()),
                    {name.lower(): value for name, value in error.headers.items()},
                )

    def login(self, user: str, password: str, **more: Any) -> tuple[int, Any]:
        status, answer, _ = self.call("POST", "/auth/login", {"user_name": user, "password": password, **more})
        return status, answer

    def waiting_code(self) -> str | None:
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(
                "SELECT user_code FROM device_logins WHERE user_name IS NULL AND NOT denied"
            ).fetchone()
        return None if row is None else str(row[0])

    def patient_login(self, user: str, password: str) -> tuple[int, Any]:
        """要等就等到许试为止。"""
        return wait_until(  # type: ignore[no-any-return]
            lambda: (found := self.login(user, password))[0] != 429 and found, what="许试了"
        )


@pytest.fixture(scope="module")
def site(engines: Engines) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("需要 root：建用户、PAM 服务")
    work = Path(tempfile.mkdtemp(prefix="scns-"))
    work.chmod(0o755)
    home = work / "home"
    home.mkdir()
    service = Path("/etc/pam.d") / SERVICE
    with unix_users(ALICE, BOB) as uids, contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, work)
        settings = stack.enter_context(own_database(engines, "t_login", work / "data"))
        # 又一个 uid 0 的名字：root 的口令不去动它。
        subprocess.run(["useradd", "-o", "-u", "0", "-M", "-d", "/nonexistent", ROOT_TOO], check=True)
        stack.callback(subprocess.run, ["userdel", "-f", ROOT_TOO], check=True)
        lines = "".join(f"{name}:{PASSWORD}\n" for name in (ALICE, BOB, ROOT_TOO))
        subprocess.run(["chpasswd"], input=lines, text=True, check=True)
        service.write_text("@include common-auth\n@include common-account\n")
        stack.callback(service.unlink)
        os.chown(home, uids[0], uids[0])
        port = free_port()
        log = work / "log"
        said = stack.enter_context(open(log, "ab"))
        api = warm_processes.start(
            "scns_conductor.api",
            env={
                **os.environ,
                **variables(settings),
                "SCNS_DATA_DIR": str(work / "data"),
                "SCNS_API_PORT": str(port),
                "SCNS_PAM_SERVICE": SERVICE,
                "SCNS_LOGIN_LIFETIME_S": str(LIFETIME_S),
                "SCNS_WEB_URL": WEB_URL,
                "SCNS_LOG_LEVEL": "DEBUG",
            },
            stdout=said,
            stderr=said,
        )
        stack.callback(api.wait, 60)
        stack.callback(api.terminate)
        alice = Person(uids[0], commands_for_everyone(work / "bin"), work, home)
        found = Site(f"http://127.0.0.1:{port}", log, alice, settings.database_url.get_secret_value())

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return found.call("GET", "/auth/methods")[1]["password"] is True
            return False

        wait_until(answers, what="API 起来")
        yield found


@pytest.fixture
def changed_account() -> Iterator[list[str]]:
    """bob 的账号改成了什么样子；测试完恢复。"""
    words: list[str] = []
    yield words
    subprocess.run(["usermod", "-e", "", BOB], check=True)
    subprocess.run(["chpasswd"], input=f"{BOB}:{PASSWORD}\n", text=True, check=True)
    subprocess.run(["chage", "-d", str(int(time.time() // 86400)), BOB], check=True)


def test_the_right_password_is_a_token_of_its_user(site: Site) -> None:
    status, found = site.login(ALICE, PASSWORD)
    assert (status, found["user_name"]) == (200, ALICE)
    _, who, _ = site.call("GET", "/whoami", token=found["token"])
    assert (who["user_name"], who["admin"], who["expires_at"]) == (ALICE, False, found["expires_at"])
    assert 0 < found["expires_at"] - time.time() <= LIFETIME_S
    short = site.login(ALICE, PASSWORD, lifetime_s=60)[1]
    assert short["expires_at"] - time.time() <= 60
    # 要得再久也只有设置的那么久。
    assert site.login(ALICE, PASSWORD, lifetime_s=30 * 86400)[1]["expires_at"] - time.time() <= LIFETIME_S


def test_wrong_passwords_unknown_users_and_root_get_the_same_answer(site: Site) -> None:
    tries = ((BOB, WRONG), ("scnsnobody", WRONG), (ROOT_TOO, PASSWORD), ("a b:c", "x"))
    answers = [site.login(*each) for each in tries]
    assert answers[0][0] == 401
    assert answers[0][1]["code"] == "login_failed"
    assert all(each == answers[0] for each in answers)


def test_failures_slow_a_name_down_and_no_other(site: Site) -> None:
    name = "scnsguessed"
    codes = []
    while not codes or codes[-1] == "login_failed":
        codes.append(site.login(name, WRONG)[1]["code"])
    assert codes[-1] == "login_slowed"
    assert len(codes) >= 4
    status, _, headers = site.call("POST", "/auth/login", {"user_name": name, "password": WRONG})
    assert status == 429
    assert int(headers["retry-after"]) >= 1
    # 在等的时候，对的口令也不看；别人照常。
    assert site.login(ALICE, PASSWORD)[0] == 200
    # 等过了又看。
    assert site.patient_login(name, WRONG)[1]["code"] == "login_failed"


def test_a_failed_login_is_in_the_audit_without_unknown_names(site: Site) -> None:
    with psycopg.connect(site.database_url) as connection:
        rows = connection.execute(
            "SELECT actor, method, address, after FROM audit_log WHERE action = 'login.failed'"
        ).fetchall()
    assert (BOB, "password", "127.0.0.1", {"reason": "refused"}) in rows
    # 不认识的名字也许是口令。
    assert {row[0] for row in rows} <= {ALICE, BOB, ROOT_TOO, "(unknown)"}


def test_the_right_password_counts_again_after_the_wait(site: Site) -> None:
    for _ in range(4):
        assert site.patient_login(BOB, WRONG)[0] == 401
    assert site.login(BOB, PASSWORD)[0] == 429
    assert site.patient_login(BOB, PASSWORD)[0] == 200
    assert site.login(BOB, WRONG)[0] == 401


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["usermod", "-e", "1", BOB], "account_refused"),
        (["chage", "-d", "0", BOB], "password_expired"),
        (["usermod", "-L", BOB], "login_failed"),
        (["passwd", "-q", "-d", BOB], "login_failed"),
    ],
)
def test_an_account_that_may_not_log_in(site: Site, changed_account: list[str], words: list[str], code: str) -> None:
    assert site.patient_login(BOB, PASSWORD)[0] == 200
    subprocess.run(words, check=True)
    password = "x" if words[0] == "passwd" else PASSWORD
    assert site.patient_login(BOB, password)[1]["code"] == code


def test_bad_input_is_refused_before_pam(site: Site) -> None:
    assert site.login(ALICE, "")[0] == 422
    assert site.login("a\x00b", "x")[0] == 422
    assert site.login(ALICE, "x" * 5000)[0] == 422
    assert site.login(ALICE, "x" * 20_000)[0] == 413
    assert site.call("POST", "/auth/login", {"user_name": ALICE})[0] == 422
    # 口令里的 NUL 到不了 C 的字符串里。
    assert site.login(ALICE, f"{PASSWORD}\x00tail")[0] == 422


def test_the_commands_log_in_and_out(site: Site) -> None:
    environment = {"HOME": str(site.alice.work), "SCNS_LANG": "zh"}
    refused = site.alice.run("scns", "whoami", **environment)
    assert refused.returncode == 1
    words = ("scns", "login", "--url", site.url, "--password-stdin")
    wrong = site.alice.run(*words, text=f"{WRONG}\n", **environment)
    assert (wrong.returncode, wrong.stderr) == (1, "scns：用户名或口令不对\n")
    assert ALICE in site.alice.say(*words, text=f"{PASSWORD}\n", **environment)
    stored = site.alice.work / ".config/scns-conductor/client.json"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert stored.stat().st_uid == site.alice.uid
    shown = site.alice.say("scns", "whoami", **environment)
    assert ALICE in shown
    assert "到期" in shown
    assert json.loads(site.alice.say("scns", "whoami", "--json", **environment))["user_name"] == ALICE
    assert site.alice.run("squeue", "--me", **environment).returncode == 0
    token = json.loads(stored.read_text())["token"]
    site.alice.say("scns", "logout", **environment)
    assert "token" not in stored.read_text()
    assert wait_until(lambda: site.call("GET", "/whoami", token=token)[0] == 401, what="令牌作废")
    assert site.alice.run("scns", "whoami", **environment).returncode == 1
    # 地址还记得：再登录不必写。
    site.alice.say("scns", "login", "--password-stdin", text=f"{PASSWORD}\n", **environment)
    assert site.alice.run("scns", "whoami", **environment).returncode == 0


def test_a_terminal_gets_the_token_of_who_approves_it_once(site: Site) -> None:
    status, begun, _ = site.call("POST", "/auth/device", {"host": "login1"})
    assert status == 200
    assert begun["verification_url_complete"] == f"{WEB_URL}/device?code={begun['user_code']}"
    ask = {"device_code": begun["device_code"]}
    assert site.call("POST", "/auth/device/token", ask)[1]["status"] == "pending"
    alice = site.patient_login(ALICE, PASSWORD)[1]["token"]
    typed = begun["user_code"].lower().replace("-", " ")
    path = "/auth/device/" + urllib.parse.quote(typed)
    assert site.call("GET", path)[0] == 401
    assert site.call("POST", path, {"allow": True})[0] == 401
    shown = site.call("GET", path, token=alice)[1]
    assert (shown["host"], shown["address"]) == ("login1", "127.0.0.1")
    assert site.call("POST", path, {"allow": True}, token=alice)[0] == 200
    # 批准过的不能再批准、改主意。
    assert site.call("POST", path, {"allow": False}, token=alice)[1]["code"] == "user_code_unknown"
    status, found, _ = site.call("POST", "/auth/device/token", ask)
    assert (status, found["user_name"]) == (200, ALICE)
    assert site.call("GET", "/whoami", token=found["token"])[1]["user_name"] == ALICE
    # 只换一次。
    assert site.call("POST", "/auth/device/token", ask)[1]["code"] == "device_code_unknown"
    assert site.call("POST", "/auth/device/token", {"device_code": begun["user_code"]})[0] == 404


def test_a_refused_terminal_gets_nothing(site: Site) -> None:
    begun = site.call("POST", "/auth/device", {})[1]
    alice = site.patient_login(ALICE, PASSWORD)[1]["token"]
    assert site.call("POST", f"/auth/device/{begun['user_code']}", {"allow": False}, token=alice)[0] == 200
    ask = {"device_code": begun["device_code"]}
    assert site.call("POST", "/auth/device/token", ask)[1]["code"] == "login_denied"
    assert site.call("POST", "/auth/device/token", ask)[1]["code"] == "device_code_unknown"


def test_the_command_waits_for_the_approval(site: Site) -> None:
    environment = {"HOME": str(site.alice.work), "SCNS_LANG": "zh"}
    alice = site.patient_login(ALICE, PASSWORD)[1]["token"]
    words = ["scns", "login", "--url", site.url, "--web"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # 码要等命令说完才看得到：从数据库里看。
        coming = pool.submit(site.alice.run, *words, **environment)
        code = wait_until(site.waiting_code, what="终端拿到了码")
        assert site.call("POST", f"/auth/device/{code}", {"allow": True}, token=alice)[0] == 200
        done = coming.result()
    assert done.returncode == 0, done.stderr
    assert code in done.stdout
    assert ALICE in site.alice.say("scns", "whoami", **environment)


def test_waiting_terminals_are_bounded(site: Site) -> None:
    answers = [site.call("POST", "/auth/device", {"host": "x"})[0] for _ in range(60)]
    assert answers[0] == 200
    assert answers[-1] == 429
    assert site.call("POST", "/auth/device", {"host": "<script>"})[0] == 422


def test_passwords_are_nowhere_to_be_read(site: Site) -> None:
    site.login(BOB, WRONG)
    written = site.log.read_text()
    assert "login" in written
    assert f"user={BOB}" in written or BOB in written
    assert WRONG not in written
    assert PASSWORD not in written
    # 名字那一格里写成了口令的，也不记。
    site.patient_login(WRONG, "x")
    assert WRONG not in site.log.read_text()


def test_the_service_user_can_ask_when_in_the_shadow_group(site: Site) -> None:
    """文档说的：API 不是 root，本机的口令要它在 shadow 组里；不在组里就是不对。"""
    asked = json.dumps({"service": SERVICE, "user": ALICE, "password": PASSWORD, "address": "::1"})
    answers = []
    for groups in ("--groups=shadow", "--clear-groups"):
        said = subprocess.run(
            ["setpriv", "--reuid=nobody", "--regid=nogroup", groups, "--no-new-privs",
             sys.executable, "-m", "scns_conductor.services.pam_check"],
            input=asked, capture_output=True, text=True, check=True,
        )  # fmt: skip
        answers.append(json.loads(said.stdout)["result"])
    assert answers[0] == "ok"
    assert answers[1] != "ok"


def test_it_is_off_until_configured(running_system: RunningSystem) -> None:
    assert running_system.call("GET", "/auth/methods") == (200, {"password": False, "oidc": None, "device": False})
    status, answer = running_system.call("POST", "/auth/login", {"user_name": "a", "password": "b"})
    assert (status, answer["code"]) == (404, "password_login_off")


def test_a_service_that_is_not_there_is_an_error() -> None:
    """没有这个文件时 PAM 会悄悄换成 other。"""
    settings = Settings(pam_service="scns-no-such-service")
    with pytest.raises(SettingsError, match=r"/etc/pam\.d"):
        PasswordLogin(settings, SharedLedger(settings))
