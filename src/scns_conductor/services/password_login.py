"""用户与口令登录：问系统的 PAM（/etc/shadow、LDAP、SSSD 由管理员配）。口令不留、不记日志。"""

import asyncio
import importlib.util
import json
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from scns_conductor.core.errors import Forbidden, ServiceUnavailable, SettingsError, TooManyRequests, Unauthorized
from scns_conductor.core.settings import Settings
from scns_conductor.services.login_delays import LoginDelays
from scns_conductor.services.pam_check import PamAnswer
from scns_conductor.services.shared_ledger import SharedLedger

_MODULE = "scns_conductor.services.pam_check"
_SERVICE_DIRS = (Path("/etc/pam.d"), Path("/usr/lib/pam.d"))
# 一次至多问这么久（秒）；同时问几个；排着队的至多几个。
CHECK_S = 30.0
AT_ONCE = 4
WAITING_MOST = 64
# 没有成功的，都在整数个这么久（秒）之后回答：看不出有没有这个用户、口令对不对了一半。
ANSWER_STEP_S = 0.5
logger = structlog.get_logger(__name__)


class PasswordLogin:
    """一个 API 进程一个；settings.pam_service 有值才用。"""

    def __init__(self, settings: Settings, ledger: SharedLedger) -> None:
        """没有装要的库、没有这个 PAM 服务都抛 SettingsError。"""
        service = settings.pam_service or ""
        if importlib.util.find_spec("pamela") is None:
            raise SettingsError("设了 pam_service，却没有装 PAM 的库；请执行 pip install 'scns-conductor[pam]'")
        # 没有这个文件时 PAM 会悄悄换成 other。
        if not any((folder / service).is_file() for folder in _SERVICE_DIRS):
            raise SettingsError(
                f"没有 PAM 服务 {service}（pam_service）；请写好 /etc/pam.d/{service}，见 docs/operators.md"
            )
        self._service = service
        self._root = settings.login_root
        self._owner = os.geteuid() if settings.single_user else None
        self._delays = LoginDelays()
        self._ledger = ledger
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def user(
        self, user_name: str, password: str, address: str, failed: Callable[[str, str], Awaitable[None]]
    ) -> str:
        """口令对，返回系统里的用户名；不对的告诉 failed（用户，为什么）。

        不对抛 Unauthorized，口令过期、账号不许用抛 Forbidden，要等抛 TooManyRequests，PAM 不行抛 ServiceUnavailable。
        """
        began = time.monotonic()
        wait_s = self._delays.wait_s(user_name, address, began)
        if wait_s == 0:
            # 各 API 进程合起来的；问的时候别的请求也在问，自己的账再看一遍。
            wait_s = await self._ledger.try_login(user_name, address) or self._delays.wait_s(user_name, address, began)
        if wait_s > 0:
            seconds = math.ceil(wait_s)
            raise TooManyRequests(f"登录失败太多次；请 {seconds} 秒之后再试", "login_slowed", seconds)
        self._delays.charge(user_name, address, began)
        found = await self._in_turn(user_name, password, address)
        if found["result"] == "ok" and found["uid"] == 0 and not self._root:
            found = {"result": "refused", "known": True}
        if found["result"] != "ok":
            # 名字写成了口令的人不少：不认识的名字不进日志。
            shown = user_name if found.get("known") else "(unknown)"
            logger.warning("login_failed", method="password", user=shown, address=address, result=found["result"])
            await failed(shown, str(found["result"]))
            elapsed = time.monotonic() - began
            await asyncio.sleep(math.ceil(elapsed / ANSWER_STEP_S) * ANSWER_STEP_S - elapsed)
            raise _refusal(found)
        self._delays.succeeded(user_name, address)
        await self._ledger.login_succeeded(user_name, address)
        if self._owner is not None and found["uid"] != self._owner:
            await failed(user_name, "login_refused")
            raise Forbidden("单用户模式只有启动它的用户能登录：作业都以他的身份运行", code="login_refused")
        return str(found["user"])

    async def _in_turn(self, user_name: str, password: str, address: str) -> PamAnswer:
        if self._waiting >= WAITING_MOST:
            raise ServiceUnavailable("同时登录的人太多；请稍后再试", code="login_busy")
        self._waiting += 1
        try:
            async with self._turns:
                return await self._ask(user_name, password, address)
        finally:
            self._waiting -= 1

    async def _ask(self, user_name: str, password: str, address: str) -> PamAnswer:
        asked = {"service": self._service, "user": user_name, "password": password, "address": address}
        # 环境里有数据库的口令：PAM 的模块不必知道。
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _MODULE),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=kept,
            cwd="/",
        )
        try:
            async with asyncio.timeout(CHECK_S):
                said, _ = await process.communicate(json.dumps(asked).encode())
            found: PamAnswer = json.loads(said)
        except TimeoutError:
            return {"result": "broken", "why": f"{CHECK_S:g} 秒没有回答"}
        except ValueError:
            return {"result": "broken", "why": f"退出码 {process.returncode}"}
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return found


def _refusal(found: PamAnswer) -> Exception:
    if found["result"] == "password_expired":
        return Forbidden("口令过期了；请先在终端里改好（passwd），再登录", code="password_expired")
    if found["result"] == "account_refused":
        return Forbidden("这个账号现在不许登录（过期、停用，或不合 PAM 的规则）；请找管理员", code="account_refused")
    if found["result"] == "broken":
        logger.error("pam_unusable", why=found.get("why"))
        return ServiceUnavailable(
            "系统的 PAM 现在答不了，登录不了；请稍后再试，或找管理员", code="pam_unusable", retry_after_s=5
        )
    return Unauthorized("用户名或口令不对", code="login_failed")
