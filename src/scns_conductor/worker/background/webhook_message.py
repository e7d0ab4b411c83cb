"""一个请求写成什么样子：JSON 的签名照 Standard Webhooks；飞书、钉钉、企业微信、Slack 的照各家的机器人。纯函数。

用户写的文字（作业名等）在各家都只是文字：不能 @ 人、不能成链接、不能多出一行。
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from scns_conductor import __version__
from scns_conductor.core.states import TERMINAL_STATES
from scns_conductor.core.webhooks import secret_key
from scns_conductor.language.catalogue import english
from scns_conductor.worker.background.mail_text import clock, plain

# 群里的一条消息至多这么多行、这么长（字节）：企业微信的上限是 2048。
LINES_MOST = 20
TEXT_MOST = 2000
_NAME_MOST = 60
# 钉钉、企业微信认 <@…>、@手机号；全角的只是字。
_WIDE = {ord(character): ord(character) + 0xFEE0 for character in "<>@"}
_GOOD, _BAD = "✅", "❌"
_JOB_WORDS = {
    "job.submitted": "提交了",
    "job.started": "开始运行",
    "job.suspended": "挂起了",
    "job.resumed": "恢复运行",
    "job.requeued": "重新排队",
}
_NODE_WORDS = {
    "node.up": (_GOOD, "在线"),
    "node.down": (_BAD, "下线了"),
    "node.draining": ("⚠️", "开始排空"),
    "node.drained": ("⚠️", "排空了"),
    "node.resumed": (_GOOD, "不再排空"),
    "node.idle": (_GOOD, "空下来了"),
}
_RESERVATION_WORDS = {
    "reservation.created": "定下了",
    "reservation.updated": "改了",
    "reservation.deleted": "删了",
    "reservation.started": "开始了",
    "reservation.ended": "结束了",
}
_SCHEDULER_WORDS = {
    "scheduler.elected": (_GOOD, "当选了"),
    "scheduler.resigned": ("⚠️", "退下了"),
    "scheduler.failed": (_BAD, "不见了"),
}


class Request(NamedTuple):
    """要发的请求。"""

    url: str
    headers: dict[str, str]
    body: bytes


def request_of(
    kind: str, url: str, secret: str | None, messages: Sequence[tuple[str, str]], now_s: float, language: str = "zh"
) -> Request:
    """messages 是（webhook-id，请求体），json 只有一件；now_s 是 Unix 秒，language 是群消息的语言。"""
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": f"scns-conductor/{__version__}"}
    if kind == "json":
        message_id, payload = messages[0]
        body = payload.encode()
        headers |= {"webhook-id": message_id, "webhook-timestamp": str(int(now_s))}
        if secret is not None:
            headers["webhook-signature"] = signature(secret, message_id, int(now_s), body)
        return Request(url, headers, body)
    told = [line_of(json.loads(payload)) for _, payload in messages]
    lines = [_escaped(kind, english(line) if language == "en" else line) for line in told]
    if kind == "dingtalk" and secret is not None:
        stamp = str(int(now_s * 1000))
        sign = quote(_keyed(secret, f"{stamp}\n{secret}"), safe="")
        url += f"{'&' if '?' in url else '?'}timestamp={stamp}&sign={sign}"
    content = _chat(kind, _clipped(lines))
    if kind == "feishu" and secret is not None:
        stamp = str(int(now_s))
        content |= {"timestamp": stamp, "sign": _keyed(f"{stamp}\n{secret}", "")}
    return Request(url, headers, json.dumps(content, ensure_ascii=False).encode())


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """webhook-signature：v1, 加 base64 的 HMAC-SHA256(id.timestamp.body)。"""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(secret_key(secret), signed, hashlib.sha256)).decode()


def _keyed(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), text.encode(), hashlib.sha256)).decode()


def _chat(kind: str, lines: Sequence[str]) -> dict[str, object]:
    text = "\n".join(lines)
    if kind == "slack":
        return {"text": text, "mrkdwn": False}
    if kind == "feishu":
        # 富文本里的 text 段不认 <at>：用户写的就只是文字。
        rows = [[{"tag": "text", "text": line}] for line in lines]
        return {"msg_type": "post", "content": {"post": {"zh_cn": {"title": "SCNS-Conductor", "content": rows}}}}
    return {"msgtype": "text", "text": {"content": text}}


def _escaped(kind: str, line: str) -> str:
    if kind == "slack":
        return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return line.translate(_WIDE)


def _clipped(lines: Sequence[str]) -> list[str]:
    """太长的截到 TEXT_MOST 字节。"""
    kept: list[str] = []
    room = TEXT_MOST
    for line in lines:
        data = line.encode()[: max(0, room)].decode(errors="ignore")
        if data:
            kept.append(data)
        room -= len(line.encode()) + 1
    return kept


def line_of(told: Mapping[str, Any]) -> str:
    """一件事的一行；told 是请求体。"""
    event, cluster, data = str(told["type"]), plain(str(told["cluster"])), told["data"]
    kind = event.partition(".")[0]
    if kind == "job":
        return f"{_job(event, data)}，集群 {cluster}"
    if kind == "node":
        mark, word = _NODE_WORDS.get(event, ("", event))
        why = f"：{plain(str(data['reason']))}" if data.get("reason") else ""
        return f"{mark} 节点 {data['node']} {word}，集群 {cluster}{why}"
    if kind == "reservation":
        return f"预留 {data['reservation']} {_RESERVATION_WORDS.get(event, event)}，集群 {cluster}"
    if kind == "scheduler":
        mark, word = _SCHEDULER_WORDS.get(event, ("", event))
        return f"{mark} 调度器 {data['scheduler']} {word}，集群 {cluster}"
    if kind == "setting":
        return f"设置 {data['setting']} 改了，集群 {cluster}"
    return f"{_GOOD} 试一试：收得到，集群 {cluster}"


def _job(event: str, data: Mapping[str, Any]) -> str:
    label = data["job_id"] if data["array_task_id"] is None else f"{data['array_job_id']}_{data['array_task_id']}"
    name, user, state = plain(str(data["name"]))[:_NAME_MOST], plain(str(data["user"])), str(data["state"])
    if state not in TERMINAL_STATES:
        return f"作业 {label} {name}（{user}）{_JOB_WORDS.get(event, state)}"
    mark = _GOOD if state == "COMPLETED" else _BAD
    parts = [f"{mark} 作业 {label} {name}（{user}）{state}"]
    if data.get("elapsed_s") is not None:
        parts.append(f"运行了 {clock(data['elapsed_s'])}")
    if data.get("exit_code") not in (None, "0:0"):
        parts.append(f"退出码 {data['exit_code']}")
    if data.get("node_list"):
        parts.append(f"节点 {data['node_list']}")
    return "，".join(parts)


def refused(kind: str, body: bytes) -> str | None:
    """群机器人答 200 而没有收下的原因；收下了的是 None。"""
    if kind in ("json", "slack"):
        return None
    try:
        found = json.loads(body)
        code = found.get("errcode", found.get("code", found.get("StatusCode", 0)))
        said = found.get("errmsg", found.get("msg", ""))
    except (ValueError, AttributeError):
        return None
    return None if code == 0 else f"那边答 {code} {plain(str(said))[:200]}"
