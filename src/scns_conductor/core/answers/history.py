"""搬来的历史；归档与装回。"""

from typing import Annotated, TypedDict


class HistoryRefused(TypedDict):
    """没有收的一个。"""

    job_id: Annotated[str, "作业号"]
    reason: Annotated[str, "为什么"]


class HistoryImported(TypedDict):
    """一批的结果。"""

    added: Annotated[int, "写进了几个"]
    present: Annotated[int, "从前就搬来了的几个"]
    refused: Annotated[list[HistoryRefused], "没有收的"]
    unknown_accounts: Annotated[list[str], "写进了的里，这里没有的账户：用量记下了，不在公平份额的树里"]


class MonthArchived(TypedDict):
    """归档了的一个月。"""

    month: Annotated[str, "哪个月（UTC），如 2026-01"]
    folder: Annotated[str, "写在哪里：API 的机器上的目录"]
    jobs: Annotated[int, "几个作业"]


class HistoryArchived(TypedDict):
    """一步归档的结果；done 为假的再来一次。"""

    moved: Annotated[int, "其间从平常的表移进历史的几个作业"]
    archived: Annotated[MonthArchived | None, "归档了的月份；这一步没有归档的是 null"]
    done: Annotated[bool, "够早的都归档了"]


class HistoryLoaded(TypedDict):
    """装回了的。"""

    added: Annotated[int, "装回了几个作业；已经在的不算"]
