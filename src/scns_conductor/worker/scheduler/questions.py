"""用户的问题（explain、plan、priorities、shares）不在领导者的循环里回答。

fork 一个子进程，它有此刻记忆的副本（写时复制），自己连数据库写回答，做完就退出；循环只付 fork 的几毫秒。

一次只有一个子进程，一轮里每个用户答一个问题：一个用户问得再多，别人也至多多等他一个。
"""

import contextlib
import gc
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scns_conductor.core.database import sync_engine
from scns_conductor.core.settings import Settings
from scns_conductor.statements.answers import answer_insert, notify_answer

# 答一个问题至多这么久（秒）；问的人也只等这么久（services.answers）。
MOST_S = 10
# 一轮至多这么多个用户；一个用户至多等着这么多个问题，再多的不答（504）。
MOST_USERS = 16
MOST_WAITING = 64
# 让路给调度与作业。
NICENESS = 5

logger = logging.getLogger(__name__)

# (连接, 种类, 内容) -> 回答。
Answer = Callable[[Connection, str, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Question:
    """收件箱里的一个问题；asked 是收到的时刻（time.monotonic）。"""

    kind: str
    payload: Mapping[str, Any]
    asked: float


class Questions:
    """等着的问题与正在回答的子进程。"""

    def __init__(self, settings: Settings, answer: Answer) -> None:
        self._settings = settings
        self._answer = answer
        self._waiting: dict[str, deque[Question]] = {}
        self._child: int | None = None
        # 子进程的 pidfd：它退出时可读，用来叫醒循环；没有子进程是 None。
        self.descriptor: int | None = None

    def add(self, kind: str, payload: Mapping[str, Any]) -> None:
        """收下一个问题。"""
        user = str(payload.get("user_name", ""))
        own = self._waiting.setdefault(user, deque())
        if len(own) < MOST_WAITING:
            own.append(Question(kind, payload, time.monotonic()))
        else:
            logger.warning("question_dropped", extra={"user_name": user, "kind": kind})

    def advance(self, sessions: Sequence[int]) -> None:
        """上一轮答完了就开始下一轮。sessions 是领导者的会话的套接字，子进程不留着它们。"""
        if self._child is not None and not self._finished(os.WNOHANG):
            return
        chosen = self._choose()
        if not chosen:
            return
        child = os.fork()
        if child == 0:
            self._serve(chosen, sessions)
        self._child, self.descriptor = child, os.pidfd_open(child)

    def close(self) -> None:
        """停下正在回答的。"""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            self._finished(0)

    def _finished(self, options: int) -> bool:
        assert self._child is not None
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self._child, options)
            if pid == 0:
                return False
            if status:
                logger.warning("questions_unanswered", extra={"status": status})
        if self.descriptor is not None:
            os.close(self.descriptor)
        self._child = self.descriptor = None
        return True

    def _choose(self) -> list[Question]:
        """每个用户最早的一个；没有人再等的扔掉。没有轮到的用户下一轮排在前面。"""
        chosen: list[Question] = []
        oldest = time.monotonic() - MOST_S
        for user in list(self._waiting):
            own = self._waiting[user]
            while own and own[0].asked < oldest:
                own.popleft()
            if own and len(chosen) < MOST_USERS:
                chosen.append(own.popleft())
                # 问过的排到后面去。
                self._waiting[user] = self._waiting.pop(user)
            if not own:
                del self._waiting[user]
        return chosen

    def _serve(self, chosen: list[Question], sessions: Sequence[int]) -> NoReturn:
        """子进程的一生；绝不回到调用者那里。"""
        failed = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            # 领导者死了，它的会话就得断开，锁才放得开。
            nothing = os.open(os.devnull, os.O_RDWR)
            for session in sessions:
                os.dup2(nothing, session)
            gc.disable()
            with contextlib.suppress(OSError):
                # systemd 的单元也许不许改优先级。
                os.nice(NICENESS)
            failed = self._answer_all(chosen)
        except BaseException:  # fork 出来的副本不能沿着调用栈回到调度循环里去
            logger.exception("questions_failed")
        finally:
            os._exit(failed)

    def _answer_all(self, chosen: list[Question]) -> int:
        signal.alarm(MOST_S)
        engine = sync_engine(self._settings, pool_size=1, role="scheduler-answers", direct=True)
        failed = 0
        with engine.connect() as connection:
            for question in chosen:
                # 到时内核结束它，不占住后面的。
                signal.alarm(MOST_S)
                request_id = str(question.payload["request_id"])
                try:
                    with connection.begin():
                        answer = self._answer(connection, question.kind, question.payload)
                        connection.execute(answer_insert(request_id, answer))
                        connection.execute(notify_answer(request_id))
                except (ArithmeticError, LookupError, TypeError, ValueError, sa.exc.DBAPIError):
                    failed = 1
                    logger.exception("question_failed", extra={"kind": question.kind, "request_id": request_id})
        return failed
