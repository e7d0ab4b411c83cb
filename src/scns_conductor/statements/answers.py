"""对提问的回答：调度器或节点写下，等着的 API 进程由 NOTIFY 叫醒。"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

ANSWER_CHANNEL = "scns_answer"
# 取走一个请求的回答；还没有回答时没有行。
TAKE_ANSWER = sa.text("DELETE FROM request_answers WHERE request_id = :request_id RETURNING answer")
# 不经模型：代理也写，不为它导入 pydantic。
_ANSWERS = sa.table("request_answers", sa.column("request_id", sa.Text), sa.column("answer", JSONB))


def answer_insert(request_id: str, answer: Mapping[str, Any]) -> sa.Insert:
    """写下对一个请求的回答。"""
    return sa.insert(_ANSWERS).values(request_id=request_id, answer=answer)


def notify_answer(request_id: str) -> sa.Select[Any]:
    """告诉等着的 API 进程回答到了。"""
    return sa.select(sa.func.scns_notify(ANSWER_CHANNEL, request_id))
