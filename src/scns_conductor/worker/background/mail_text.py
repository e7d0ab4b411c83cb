"""一封邮件的标题与正文：标题照 Slurm 的样子（有人按它过滤），正文是作业的概况与用了多少。"""

import re
import socket
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from functools import lru_cache
from typing import Any

from scns_conductor.core.efficiency import Usage, hints
from scns_conductor.core.settings import Settings
from scns_conductor.core.states import TERMINAL_STATES
from scns_conductor.language.catalogue import english

# 连同 str.splitlines 认作换行的（U+0085 等）：邮件的头里有一个，email 就不收。
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NAME_MOST = 60
# 邮件的一行至多这么长（RFC 5322）。
_HEADER_MOST = 998
_VERBS = {
    "BEGIN": "Began",
    "END": "Ended",
    "FAIL": "Failed",
    "REQUEUE": "Requeued",
    "INVALID_DEPEND": "Invalid dependency",
    "TIME_LIMIT": "Reached time limit",
}


def message_of(row: Any, outcomes: Sequence[Any], settings: Settings) -> EmailMessage:
    """row 是 statements.notifications.TO_SEND 的一行，outcomes 是整个数组一份时各任务的结局（ARRAY_OUTCOMES）。"""
    sender = settings.mail_from or f"scns@{_own_name()}"
    subject = subject_of(row, outcomes)
    # 纯 ASCII 的标题不折行：折起来的会从一个空格开头，有人按标题的开头过滤。别的要编码，编码词只许 75 个字。
    message = EmailMessage(policy=SMTP.clone(max_line_length=_HEADER_MOST) if subject.isascii() else SMTP)
    message["Subject"] = subject
    message["From"] = sender
    message["To"] = ", ".join(_address(word, settings.mail_domain) for word in row.recipients.split(","))
    message["Date"] = format_datetime(row.now)
    domain = sender.rpartition("@")[2] or "localhost"
    # 重发的是同一封：收件的一方认得出来。
    message["Message-ID"] = make_msgid(f"{row.job_id}.{row.notification_id}", domain)
    message["Auto-Submitted"] = "auto-generated"
    message["X-SCNS-Cluster"] = settings.cluster_name
    message["X-SCNS-Job-ID"] = str(row.job_id)
    body = body_of(row, outcomes, settings.cluster_name)
    message.set_content(english(body) if settings.mail_language == "en" else body, cte="base64")
    return message


def subject_of(row: Any, outcomes: Sequence[Any] = ()) -> str:
    """如 Slurm Job_id=12 Name=train Ended, Run time 00:10:00, COMPLETED, ExitCode 0。"""
    name = plain(row.name)[:_NAME_MOST]
    if outcomes:
        head = f"Slurm Array Summary Job_id={row.job_id}_* ({row.job_id}) Name={name}"
    elif row.array_task_id is not None:
        head = f"Slurm Array Task Job_id={row.array_job_id}_{row.array_task_id} ({row.job_id}) Name={name}"
    else:
        head = f"Slurm Job_id={row.job_id} Name={name}"
    if row.occasion.startswith("TIME_LIMIT_"):
        return f"{head} Reached {row.occasion.removeprefix('TIME_LIMIT_')}% of time limit"
    told = f"{head} {_VERBS[row.occasion]}"
    if row.occasion == "BEGIN" and row.start_time is not None:
        return f"{told}, Queued time {clock((row.start_time - row.submit_time).total_seconds())}"
    if row.occasion not in ("END", "FAIL"):
        return told
    if outcomes:
        ended = [each for each in outcomes if each.state in TERMINAL_STATES]
        state = ended[0].state if len(ended) == 1 else "Mixed"
        codes = [code for each in ended for code in (each.least, each.most) if code is not None]
        return f"{told}, {state}, ExitCode [{min(codes, default=0)}-{max(codes, default=0)}]"
    code = f"Signal {row.exit_signal}" if row.exit_signal else f"ExitCode {row.exit_status or 0}"
    return f"{told}, Run time {clock(run_s(row))}, {row.state}, {code}"


def body_of(row: Any, outcomes: Sequence[Any], cluster: str) -> str:
    """正文（中文）：一行一项，没有的不写。"""
    lines = [
        ("集群", cluster),
        ("作业号", str(row.job_id)),
        ("作业名", plain(row.name)),
        ("用户", plain(row.user_name)),
        ("账户", row.account and plain(row.account)),
        ("分区", plain(row.partition)),
        ("状态", None if outcomes else row.state),
        ("各任务", "，".join(f"{each.state} {each.tasks}" for each in outcomes)),
        ("说明", row.error_msg and plain(row.error_msg)),
        ("提交", _moment(row.submit_time)),
        ("开始", _moment(row.start_time)),
        ("结束", _moment(row.end_time)),
        ("节点", row.node_list),
        ("输出", row.standard_output and plain(row.standard_output)),
        ("目录", plain(row.current_working_directory)),
    ]
    if row.end_time is not None and not outcomes:
        lines += _used(row)
    return "\n".join(f"{name}：{value}" for name, value in lines if value) + "\n"


def _used(row: Any) -> list[tuple[str, str | None]]:
    """用掉的与要的：时间、CPU、内存，下次怎样要。"""
    usage = Usage(
        cpus=row.allocated_cpus or 1,
        run_s=run_s(row),
        cpu_s=None if row.cpu_user_s is None else row.cpu_user_s + (row.cpu_system_s or 0),
        memory_asked=row.allocated_memory or None,
        memory_peak=None if row.max_rss_kb is None else -(-row.max_rss_kb // 1024),
        limit_s=row.time_limit,
    )
    asked = usage.memory_asked
    return [
        ("运行了", clock(usage.run_s)),
        ("时限", clock(row.time_limit) if row.time_limit else None),
        ("CPU", None if usage.cpu is None else f"{100 * usage.cpu:.0f}%（{usage.cpus} 个）"),
        (
            "内存",
            f"{usage.memory_peak} MiB" + (f"（要了 {asked} MiB）" if asked else "") if usage.memory_peak else None,
        ),
        ("下次", "；".join(hints(usage))),
    ]


def run_s(row: Any) -> float:
    """运行了多久（秒），挂起的不算。"""
    if row.start_time is None:
        return 0.0
    elapsed: float = ((row.end_time or row.now) - row.start_time).total_seconds()
    return max(0.0, elapsed - (row.suspended_s or 0))


def clock(seconds: float) -> str:
    """Slurm 的写法：HH:MM:SS，满一天的前面是 D-。"""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86400)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{text}" if days else text


def plain(text: str) -> str:
    """控制字符与换行换成空格：标题伪造不出别的头，正文伪造不出别的行。"""
    return _CONTROLS.sub(" ", text)


def _address(word: str, domain: str | None) -> str:
    return word if "@" in word or not domain else f"{word}@{domain}"


@lru_cache(maxsize=1)
def _own_name() -> str:
    return socket.getfqdn()


def _moment(value: Any) -> str | None:
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S %z") if value is not None else None
