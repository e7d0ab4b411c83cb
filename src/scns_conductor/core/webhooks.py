"""webhook：有哪些事、订阅怎样写、地址怎样写、签名的密钥是什么样子。纯函数。"""

import base64
import binascii
import secrets
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import ip_address
from urllib.parse import urlsplit

from scns_conductor.core.outbound import Networks, refusal
from scns_conductor.core.states import TERMINAL_STATES, JobState

_ENDED = tuple(sorted(f"job.{state.lower()}" for state in TERMINAL_STATES))
JOB_EVENTS = ("job.submitted", "job.started", "job.suspended", "job.resumed", "job.requeued", *_ENDED)
RESERVATION_EVENTS = tuple(f"reservation.{word}" for word in ("created", "updated", "deleted", "started", "ended"))
SCHEDULER_EVENTS = ("scheduler.elected", "scheduler.resigned", "scheduler.failed")
# 每个作业结束都可以有一件的：写明了才有，node.*、* 里没有它。
ON_REQUEST = ("node.idle",)
# 节点、预留、调度器、设置的：只有订阅整个集群的才收得到。
CLUSTER_EVENTS = (
    "node.up", "node.down", "node.draining", "node.drained", "node.resumed", *ON_REQUEST, *RESERVATION_EVENTS,
    *SCHEDULER_EVENTS, "setting.updated",
)  # fmt: skip
EVENTS = (*JOB_EVENTS, *CLUSTER_EVENTS)
# 试一试的；不必订阅。
PING = "ping"
# 几件事合起来的名字。
GROUPS = {
    "job.ended": _ENDED,
    "job.unsuccessful": tuple(name for name in _ENDED if name not in ("job.completed", "job.cancelled")),
}
FORMATS = ("json", "slack", "feishu", "dingtalk", "wecom")
SCOPES = ("user", "account", "cluster")
# 照各家的规矩签名、密钥由那边给的；json 的密钥是这里造的。
CHAT_SIGNED = ("feishu", "dingtalk")
SECRET_PREFIX = "whsec_"
_KEY_BYTES = 32
_SHORTEST_KEY, _LONGEST_KEY = 24, 64


def events_of(patterns: Iterable[str]) -> frozenset[str]:
    """订阅里写的（job.ended、node.*、*）-> 各件事；一件也没有的抛 ValueError。"""
    found: set[str] = set()
    for pattern in patterns:
        chosen = GROUPS.get(pattern) or [
            name for name in EVENTS if name == pattern or (name not in ON_REQUEST and fnmatchcase(name, pattern))
        ]
        if not chosen:
            known = "、".join((*GROUPS, *EVENTS))
            raise ValueError(
                f"没有叫 {pattern!r} 的事；可以是 {known}，或 job.*、node.*、reservation.*、scheduler.*、*"
            )
        found.update(chosen)
    if not found:
        raise ValueError("至少写一件事，如 job.ended")
    return frozenset(found)


def job_event(from_state: str | None, to_state: str) -> str | None:
    """作业历史里的一行是哪件事；状态没有变的（修改、保留）是 None。"""
    if from_state == to_state:
        return None
    if to_state == JobState.PENDING:
        return "job.submitted" if from_state is None else "job.requeued"
    if to_state == JobState.RUNNING:
        return "job.resumed" if from_state == JobState.SUSPENDED else "job.started"
    return f"job.{to_state.lower()}"


def check_url(text: str, allowed: Networks) -> None:
    """地址的写法；不对的、写明是不许连的地址的抛 ValueError。名字解析成什么，发的时候才看。"""
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("地址里不能有空白与控制字符")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"不是地址：{error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("应是 https://主机/… 或 http://主机/…")
    if "@" in parts.netloc:
        raise ValueError("地址里不能写用户名与口令")
    if parts.fragment or port == 0:
        raise ValueError("地址里不能有 #，端口不能是 0")
    if not text.isascii():
        raise ValueError("地址只能是 ASCII：中文的域名写成 xn--…，路径写成 %…")
    try:
        address = ip_address(parts.hostname)
    except ValueError:
        return
    why = refusal(address, allowed)
    if why is not None:
        raise ValueError(why)


def new_secret() -> str:
    """新的密钥，Standard Webhooks 的写法：whsec_ 加 base64。"""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def secret_key(secret: str) -> bytes:
    """whsec_… -> 签名用的字节；写法不对抛 ValueError。"""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("密钥应是 whsec_ 加 base64") from error
    if not secret.startswith(SECRET_PREFIX) or not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise ValueError(f"密钥应是 whsec_ 加 {_SHORTEST_KEY} 到 {_LONGEST_KEY} 个字节的 base64")
    return key
