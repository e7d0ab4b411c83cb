"""控制总线：RQ 队列，每个节点一条，后台进程每样差事一条（名字里带着数据库的化身），消息是 JSON 数据。

消息可以全部丢失（数据库才是真相），也可能重复；收的一方按固定的函数表处理，
绝不按消息里的名字去导入代码：能写 Valkey 的人不能因此在节点上执行代码。
"""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.exceptions import DequeueTimeout
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from scns_conductor.core.valkey import BACKGROUND, WEBHOOKS, own_name, queue_name, valkey_trouble
from scns_conductor.worker.wire.bus_messages import (
    MESSAGES,
    REMINDERS,
    BusMessage,
    ChangedJobs,
    VersionUnknown,
    read_message,
)
from scns_conductor.worker.wire.record import RecordError

# 没有人收的消息（节点没了）留在队列里的上限；真相在数据库里，过期无妨。
MESSAGE_TTL_S = 300
CONNECT_WAIT_S = 2.0
SEND_WAIT_S = 2.0
# 须长于 handle_next 的等待。
RECEIVE_WAIT_S = 30.0
AWAY_S = 1.0
UNSENT_MOST = 1000
# 化身的样子（statements.incarnation）。
_INCARNATION = re.compile(r"[0-9a-f]{32}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """要送的一条：function 与 payload 见 wire/bus_messages.py，照懂得它的最早一版标版本。"""

    function: str
    payload: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, body: BusMessage, function: str = "") -> "Message":
        """由写好的消息；几种合用一个样子的（REMINDERS）说是哪一种。"""
        return cls(function or body.function, body.to_wire())

    @property
    def version(self) -> int:
        """懂得它的最早一版。"""
        return MESSAGES.get(self.function, BusMessage).since


def sync_message(job_ids: Sequence[int]) -> Message:
    """这些作业变了，自己看数据库。"""
    return Message.of(ChangedJobs(job_ids=list(job_ids)), "sync")


# 收到的消息（wire/bus_messages.py 的一种）怎样办。
Handler = Callable[[Any], None]


class BusUnavailable(Exception):
    """Valkey 不在；调用者应当继续靠数据库工作。"""


def connect(redis_url: str, wait_s: float) -> "redis.Redis":
    """连接 Valkey；真正用到时才会报错。wait_s 是等一个回答的上限。"""
    return redis.Redis.from_url(
        redis_url,
        socket_connect_timeout=CONNECT_WAIT_S,
        socket_timeout=wait_s,
        health_check_interval=30,
        # 重试由调用者按自己的节奏来：消息可以丢，不能让调度器等在这里。
        retry=Retry(NoBackoff(), 0),
    )


class Publisher:
    """领导者一侧：一个周期里每个节点一条消息，一次往返全部送出。

    消息带着数据库的化身（incarnation）：恢复之前留在队列里的、别的系统发到同名节点的，收的一方认得出来。
    """

    def __init__(self, redis_url: str, incarnation: Callable[[], str | None] = lambda: None) -> None:
        self._incarnation = incarnation
        self._redis = connect(redis_url, SEND_WAIT_S)
        self._away_until = 0.0
        self._why = ""
        self._unsent: dict[str, list[Message]] = {}
        self._queues: dict[str, Queue] = {}

    def _queue(self, node_name: str, incarnation: str | None) -> Queue:
        name = queue_name(node_name)
        if incarnation is not None and node_name in (BACKGROUND, WEBHOOKS):
            name = own_name(name, incarnation)
        # RQ 的每个 Queue 对象第一次用时都要问一次服务器的版本，所以留着复用。
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name, connection=self._redis, serializer=JSONSerializer)
        return queue

    def send(self, messages: Mapping[str, Sequence[Message]]) -> None:
        """把消息送到各节点的队列；messages 的键是节点名。Valkey 不在时抛 BusUnavailable。

        失败之后 AWAY_S 秒内不再尝试：Valkey 挂起（不答话）时，也不拖慢调度。没送出的提醒留着，下次（messages
        为空也行）一并送，送到两遍也无妨；太多就丢掉，节点靠核对补上。
        """
        if self._unsent:
            messages = {
                node: [*self._unsent.get(node, ()), *messages.get(node, ())] for node in {*self._unsent, *messages}
            }
        if not messages:
            return
        if time.monotonic() < self._away_until:
            self._keep(messages)
            raise BusUnavailable(self._why)
        incarnation = self._incarnation()
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for node_name, node_messages in messages.items():
                    data = [
                        Queue.prepare_data(
                            message.function,
                            args=({"version": message.version, "incarnation": incarnation, **message.payload},),
                            ttl=MESSAGE_TTL_S,
                            result_ttl=0,
                        )
                        for message in node_messages
                    ]
                    self._queue(node_name, incarnation).enqueue_many(data, pipeline=pipeline)
                pipeline.execute()
            self._unsent = {}
        except redis.RedisError as error:
            self._away_until = time.monotonic() + AWAY_S
            self._why = valkey_trouble(error)
            self._keep(messages)
            raise BusUnavailable(self._why) from error

    def _keep(self, messages: Mapping[str, Sequence[Message]]) -> None:
        kept = {node: [each for each in some if each.function in REMINDERS] for node, some in messages.items()}
        total = sum(map(len, kept.values()))
        self._unsent = {node: some for node, some in kept.items() if some} if total <= UNSENT_MOST else {}

    def close(self) -> None:
        """关闭连接。"""
        self._redis.close()


class Consumer:
    """收的一侧：逐条取出消息，按固定的函数表处理。

    化身不同的不理：也许是恢复之前留下的，也许是合用一个 Valkey 的另一个系统发给它的同名节点的，所以转到那边的队列里。
    """

    def __init__(
        self,
        redis_url: str,
        name: str,
        handlers: Mapping[str, Handler],
        incarnation: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._name = name
        self._incarnation = incarnation
        self._redis = connect(redis_url, RECEIVE_WAIT_S)
        self._queue = Queue(name, connection=self._redis, serializer=JSONSerializer)
        self._queues = [self._queue]
        self._known: str | None = None
        self._handlers = handlers

    def _queue_of(self, incarnation: str) -> Queue:
        """只给那个系统的：后台的差事，别的系统的同名节点转来的。"""
        return Queue(own_name(self._name, incarnation), connection=self._redis, serializer=JSONSerializer)

    def _listened(self) -> list[Queue]:
        """自己的队列；知道了自己的化身，还有名字里带着它的那一条。"""
        incarnation = self._incarnation()
        if incarnation != self._known:
            self._known = incarnation
            self._queues = [self._queue] + ([self._queue_of(incarnation)] if incarnation else [])
        return self._queues

    def check(self) -> None:
        """Valkey 在不在；不在抛 BusUnavailable。"""
        try:
            self._redis.ping()
        except redis.RedisError as error:
            raise BusUnavailable(valkey_trouble(error)) from error

    def handle_next(self, timeout_s: int) -> bool:
        """等一条消息并处理；timeout_s 秒内没有则返回 False。Valkey 不在时抛 BusUnavailable。

        取下的不会再来：办到一半时崩溃，靠数据库核对补上，绝不靠重发。
        """
        try:
            taken = Queue.dequeue_any(self._listened(), timeout_s, connection=self._redis, serializer=JSONSerializer)
        except (DequeueTimeout, redis.TimeoutError):
            return False
        except redis.RedisError as error:
            raise BusUnavailable(valkey_trouble(error)) from error
        except Exception as error:  # RQ 读不懂的消息（坏的编码、坏的时刻）：已经取下，拒收并说明，线程不能因此死掉
            logger.error("bus_message_unreadable", extra={"queue": self._queue.name, "error": repr(error)})
            self._forget(self._queue.intermediate_queue_key)
            return True
        if taken is None:
            return False
        # 先交出去再删：作业的启动不等这一趟往返。
        self._dispatch(taken[0])
        self._forget(taken[0].key, self._queue.intermediate_queue_key)
        return True

    def _forget(self, *keys: str) -> None:
        """删去取下的消息；每个节点只有一个消费者，中转队列里只会是刚取下的那一条。"""
        try:
            self._redis.delete(*keys)
        except redis.RedisError as error:
            raise BusUnavailable(valkey_trouble(error)) from error

    def _dispatch(self, job: RqJob) -> None:
        try:
            function, args = job.func_name, job.args
            payload = args[0] if len(args) == 1 and isinstance(args[0], dict) else None
        except Exception as error:  # 消息来自外面：什么样的坏数据都可能，一律拒收并说明
            logger.error("bus_message_malformed", extra={"message_id": job.id, "error": repr(error)})
            return
        handler = self._handlers.get(function or "")
        if handler is None or payload is None:
            logger.error("bus_message_refused", extra={"message_id": job.id, "function": function})
            return
        theirs, mine = payload.get("incarnation"), self._incarnation()
        if theirs is not None and mine is not None and theirs != mine:
            logger.warning(
                "bus_message_foreign", extra={"message_id": job.id, "function": function, "incarnation": theirs}
            )
            if isinstance(theirs, str) and _INCARNATION.fullmatch(theirs):
                self._pass_on(theirs, str(function), payload)
            return
        try:
            message = read_message(str(function), payload)
        except RecordError as error:
            event = "bus_version_unknown" if isinstance(error, VersionUnknown) else "bus_message_refused"
            logger.error(event, extra={"message_id": job.id, "function": function, "error": str(error)})
            return
        handler(message)

    def _pass_on(self, theirs: str, function: str, payload: Mapping[str, object]) -> None:
        """送到那个系统的同名节点；没有人收的过期就没有了。"""
        queue = self._queue_of(theirs)
        data = Queue.prepare_data(function, args=(dict(payload),), ttl=MESSAGE_TTL_S, result_ttl=0)
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                queue.enqueue_many([data], pipeline=pipeline)
                pipeline.expire(queue.key, MESSAGE_TTL_S)
                pipeline.srem(queue.redis_queues_keys, queue.key)
                pipeline.execute()
        except redis.RedisError as error:
            raise BusUnavailable(valkey_trouble(error)) from error

    def close(self) -> None:
        """关闭连接。"""
        self._redis.close()
