"""总线的一头：收到的消息排到控制线程去做；读日志各在自己的道上。"""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.engine import Engine

from scns_conductor.core.errors import first_line
from scns_conductor.core.valkey import queue_name
from scns_conductor.worker.agent.database_faults import DATABASE_ERRORS
from scns_conductor.worker.agent.job_log import answer_read_log
from scns_conductor.worker.agent.job_operations import JobControl
from scns_conductor.worker.agent.launch_plan import LaunchContext, LaunchRefused, signal_number
from scns_conductor.worker.agent.timings import AgentTimings
from scns_conductor.worker.bus import BusUnavailable, Consumer, Handler
from scns_conductor.worker.host.thread_owner import Lanes
from scns_conductor.worker.wire.bus_messages import (
    REMINDERS,
    AttachStep,
    BusMessage,
    ChangedJobs,
    LaunchJobs,
    LaunchStep,
    LimitStep,
    ReadLog,
    Sample,
    SignalJobs,
    SignalStep,
)

BUS_WAIT_S = 5
RETRY_S = 1.0
LOG_READERS_MOST = 16

_Message = TypeVar("_Message", bound=BusMessage)

logger = logging.getLogger(__name__)


class BusListener:
    """control 办消息里的事，在控制线程里；enqueue 排到那里去；incarnation 是现在的数据库的化身。"""

    def __init__(
        self,
        redis_url: str,
        engine: Engine,
        context: LaunchContext,
        control: JobControl,
        *,
        stopping: threading.Event,
        incarnation: Callable[[], str | None],
        enqueue: Callable[[Callable[[], object]], None],
        timings: AgentTimings,
    ) -> None:
        self._redis_url = redis_url
        self._engine = engine
        self._context = context
        self._node = context.node.node_name
        self._control = control
        self._stopping = stopping
        self._incarnation = incarnation
        self._enqueue = enqueue
        self._timings = timings
        self._logs = Lanes("read-log", most=LOG_READERS_MOST)

    def run(self) -> None:
        """直到停止（在自己的线程里）。"""
        handlers: dict[str, Handler] = {
            # 只是提醒：该做什么以数据库为准。
            **dict.fromkeys(REMINDERS, self._asking(self._on_changed)),
            "launch": self._hear_launch,
            SignalJobs.function: self._asking(self._on_signal),
            ReadLog.function: self._on_read_log,
            LaunchStep.function: self._asking(self._control.launch_step),
            SignalStep.function: self._asking(self._on_signal_step),
            LimitStep.function: self._asking(self._on_limit_step),
            AttachStep.function: self._asking(self._on_attach_step),
            Sample.function: self._asking(self._on_sample),
        }
        handlers = {name: self._counting(name, handler) for name, handler in handlers.items()}
        consumer = Consumer(self._redis_url, queue_name(self._node), handlers, self._incarnation)
        away = False
        while not self._stopping.is_set():
            try:
                if away:
                    # 连上就核对，不等下一条消息：不在的时候丢了什么只有数据库知道。
                    consumer.check()
                    away = False
                    self._enqueue(lambda: self._control.sync(None))
                consumer.handle_next(BUS_WAIT_S)
            except BusUnavailable as error:
                if not away:
                    logger.warning("bus_unavailable", extra={"node": self._node, "error": str(error)})
                away = True
                self._stopping.wait(RETRY_S)
        consumer.close()

    def _counting(self, name: str, handler: Handler) -> Handler:
        def counted(message: BusMessage) -> None:
            self._timings.count(self._timings.messages, name)
            handler(message)

        return counted

    def _asking(self, action: Callable[[_Message], None]) -> Callable[[_Message], None]:
        """排到控制线程去做的。"""
        return lambda message: self._enqueue(lambda: self._guarded(message, action))

    def _guarded(self, message: _Message, action: Callable[[_Message], None]) -> None:
        """消息来自外面：内容办不到的（不认识的信号）拒收并说明，不影响代理。"""
        try:
            action(message)
        except (KeyError, TypeError, ValueError, LaunchRefused) as error:
            logger.error("bus_message_refused", extra={"node": self._node, "error": repr(error)})

    def _on_launch(self, message: LaunchJobs) -> None:
        self._control.launch(message.job_ids)

    def _hear_launch(self, message: LaunchJobs) -> None:
        """接下来的当场就换：不排在控制线程的事后面。"""
        offered = message.successors
        if offered is not None:
            self._guarded(message, lambda _: self._control.relay.offer(offered))
        if message.job_ids:
            self._enqueue(lambda: self._guarded(message, self._on_launch))

    def _on_changed(self, message: ChangedJobs) -> None:
        self._control.sync(message.job_ids)

    def _on_signal(self, message: SignalJobs) -> None:
        self._control.signal(message.named, signal_number(str(message.signal)), message.target)

    def _on_signal_step(self, message: SignalStep) -> None:
        self._control.signal_step(message.job_id, message.restart_count, message.step_id, message.signal)

    def _on_limit_step(self, message: LimitStep) -> None:
        self._control.limit_step(message.job_id, message.restart_count, message.step_id, message.time_limit_s)

    def _on_attach_step(self, message: AttachStep) -> None:
        self._control.attach_step(message.job_id, message.restart_count, message.step_id, message.connection)

    def _on_sample(self, message: Sample) -> None:
        """此刻就采样一次（sstat）；各节点都答，问的人等到齐或到时。"""
        self._control.answer_sampled(message.request_id)

    def _on_read_log(self, message: ReadLog) -> None:
        """读文件在自己的线程里，一个作业一条道：不答话的盘不耽误别的作业，也不耽误控制线程。"""

        def answer() -> None:
            try:
                self._guarded(message, lambda asked: answer_read_log(self._engine, self._context, asked))
            except DATABASE_ERRORS as error:
                logger.warning("read_log_unanswered", extra={"node": self._node, "error": first_line(error)})

        self._logs.submit(str(message.job_id), answer)
