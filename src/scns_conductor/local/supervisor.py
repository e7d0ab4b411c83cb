"""监督者：启动一组进程，死了的退避重启，收信号，逐个停下。单线程，信号用 sigtimedwait 同步地收。"""

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scns_conductor.local.child import SUPERVISED_SIGNALS, log_tail

FIRST_BACKOFF_S = 0.2
LAST_BACKOFF_S = 10.0
# 活过这么久就算起来了，退避从头算。
STABLE_S = 30.0
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

logger = logging.getLogger(__name__)


class StopRequested(Exception):
    """收到了停机的信号。"""


@dataclass
class Service:
    """一个受监督的进程。spawn 启动它；stop_signal 请它正常停下，stop_wait_s 秒还不停就杀掉整个会话。"""

    name: str
    spawn: Callable[[], "subprocess.Popen[bytes]"]
    log: Path | None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_wait_s: float = 15.0
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    restart_at: float | None = field(default=None, init=False)
    backoff_s: float = field(default=FIRST_BACKOFF_S, init=False)
    started_at: float = field(default=0.0, init=False)
    deaths: int = field(default=0, init=False)
    # 最近一次死时的退出码。
    exit_code: int | None = field(default=None, init=False)

    @property
    def running(self) -> bool:
        """进程还在。"""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """进程的父亲。构造时阻塞信号，close 时恢复；须在主线程里用，进程里不能有别的线程。"""

    def __init__(self) -> None:
        self.services: list[Service] = []
        self._old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, SUPERVISED_SIGNALS)
        self._stop_requests = 0

    def close(self) -> None:
        """恢复信号。"""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._old_mask)

    def start(self, service: Service) -> None:
        """启动并从此看着它。"""
        self.services.append(service)
        self._spawn(service)

    def _spawn(self, service: Service) -> None:
        service.restart_at = None
        service.started_at = time.monotonic()
        service.process = service.spawn()
        logger.info("service_started", extra={"service": service.name, "pid": service.process.pid})

    def wait(self, wait_s: float) -> None:
        """看着全部进程，最多 wait_s 秒；收到停机信号抛 StopRequested。"""
        self._pass_time(wait_s)
        if self._stop_requests:
            raise StopRequested

    def wait_until(self, condition: Callable[[], bool], wait_s: float, poll_s: float = 0.02) -> bool:
        """看着全部进程，直到 condition 为真；wait_s 秒没有等到返回 False。"""
        deadline = time.monotonic() + wait_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.wait(poll_s)
        return True

    def _pass_time(self, wait_s: float, *, restart: bool = True) -> None:
        """收信号、收尸、到点重启，共用至多 wait_s 秒。"""
        deadline = time.monotonic() + wait_s
        while True:
            now = time.monotonic()
            due = [service.restart_at for service in self.services if service.restart_at is not None] if restart else []
            info = signal.sigtimedwait(SUPERVISED_SIGNALS, max(0.0, min([deadline, *due]) - now))
            self._reap()
            if restart:
                self._note_deaths()
                self._restart_due()
            if info is not None and info.si_signo in STOP_SIGNALS:
                self._stop_requests += 1
                return
            if time.monotonic() >= deadline:
                return

    def _reap(self) -> None:
        """收掉全部已结束的子进程。作为容器的 1 号进程时，还有过继来的孤儿。"""
        known = {service.process.pid: service.process for service in self.services if service.process is not None}
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            process = known.get(ended.si_pid)
            if process is None:
                os.waitpid(ended.si_pid, 0)
            else:
                process.wait()

    def _note_deaths(self) -> None:
        now = time.monotonic()
        for service in self.services:
            if service.process is None or service.process.poll() is None:
                continue
            if now - service.started_at > STABLE_S:
                service.backoff_s = FIRST_BACKOFF_S
            service.restart_at = now + service.backoff_s
            service.deaths += 1
            service.exit_code = service.process.returncode
            logger.warning(
                "service_died",
                extra={
                    "service": service.name,
                    "pid": service.process.pid,
                    "exit": service.process.returncode,
                    "restart_in_s": service.backoff_s,
                    "log_tail": log_tail(service.log, 500),
                },
            )
            service.backoff_s = min(service.backoff_s * 2, LAST_BACKOFF_S)
            service.process = None

    def _restart_due(self) -> None:
        now = time.monotonic()
        for service in self.services:
            if service.restart_at is not None and service.restart_at <= now:
                try:
                    self._spawn(service)
                except Exception as error:  # 一个起不来不能连累别的：照样退避再试
                    service.restart_at = now + service.backoff_s
                    service.backoff_s = min(service.backoff_s * 2, LAST_BACKOFF_S)
                    logger.error("service_not_started", extra={"service": service.name, "error": str(error)})

    def stop(self, *services: Service, number: signal.Signals | None = None, wait_s: float | None = None) -> None:
        """请这些进程同时停下并等到它们结束，不再重启。等待中再收到一次停机信号，或到时还不停，就杀掉。"""
        for service in services:
            if service in self.services:
                self.services.remove(service)
            service.restart_at = None
            if service.process is not None and service.running:
                service.process.send_signal(number or service.stop_signal)
        longest = wait_s if wait_s is not None else max((service.stop_wait_s for service in services), default=0.0)
        deadline = time.monotonic() + longest
        patience = self._stop_requests
        while any(service.running for service in services):
            if time.monotonic() > deadline or self._stop_requests > patience + 1:
                for service in services:
                    self._kill(service)
                return
            signal_info = signal.sigtimedwait(SUPERVISED_SIGNALS, 0.05)
            if signal_info is not None and signal_info.si_signo in STOP_SIGNALS:
                self._stop_requests += 1
        for service in services:
            service.process = None

    def _kill(self, service: Service) -> None:
        process, service.process = service.process, None
        if process is None or process.poll() is not None:
            return
        logger.warning("service_killed", extra={"service": service.name, "pid": process.pid})
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
