"""作业的邮件：--mail-type 的词、--mail-user 的写法（sbatch(1)）。"""

import re

# 写得出的词；STAGE_OUT 没有突发缓冲，认得、从不发生。
MAIL_TYPES = (
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT",
    "TIME_LIMIT", "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS",
)  # fmt: skip
_ALL = frozenset({"BEGIN", "END", "FAIL", "INVALID_DEPEND", "REQUEUE", "STAGE_OUT"})
MOST_RECIPIENTS = 10
# 一个收件人：用户名，或 用户@主机；没有空白、控制字符与邮件头里有含义的字符，也就伪造不出别的头。
_RECIPIENT = re.compile(r"[^\s\x00-\x1f\x7f,;:<>()\[\]\\\"'@]{1,64}(@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,190}[A-Za-z0-9])?)?")


def parse_mail_types(text: str) -> frozenset[str]:
    """要哪几种，ALL 已经展开，NONE 是一种也不要；不认识的词抛 ValueError。"""
    words = [word.strip().upper() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in MAIL_TYPES:
            raise ValueError(f"{word!r} 不是 mail_type；可以是 {'、'.join(MAIL_TYPES)}")
    if "NONE" in words:
        return frozenset()
    return frozenset(words) - {"ALL"} | (_ALL if "ALL" in words else frozenset())


def array_as_a_whole(text: str) -> bool:
    """数组整个一份；写了 ARRAY_TASKS 的是各任务一份。"""
    return "ARRAY_TASKS" not in parse_mail_types(text)


def parse_recipients(text: str) -> list[str]:
    """逗号分隔的收件人；写法不对抛 ValueError。"""
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not 1 <= len(found) <= MOST_RECIPIENTS:
        raise ValueError(f"收件人应有 1 到 {MOST_RECIPIENTS} 个，逗号分隔")
    for word in found:
        if not _RECIPIENT.fullmatch(word):
            raise ValueError(f"{word!r} 不是收件人；应是用户名或 用户@主机，几个用逗号分隔")
    return found
