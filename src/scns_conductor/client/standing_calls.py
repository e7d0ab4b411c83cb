"""crontab 与触发的端点。"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scns_conductor.client.cluster_calls import nothing
from scns_conductor.client.request import Request, many, one, plain

if TYPE_CHECKING:
    from scns_conductor.client.answers import Crontab, Trigger


class StandingCalls:
    """到时、遇事提交的作业。user 是谁的，缺省是自己。"""

    @one
    def crontab(self, user: str | None = None) -> "Request[Crontab]":
        """整份 crontab；停了的各行前面是 #DISABLED。"""
        return Request("GET", "/crontab", query={"user": user})

    @plain
    def replace_crontab(
        self, text: str, entries: Sequence[Mapping[str, Any]], timezone: str = "UTC", user: str | None = None
    ) -> "Request[None]":
        """换成这一份；entries 的字段见 docs/api.md。"""
        body = {"text": text, "timezone": timezone, "entries": [dict(each) for each in entries]}
        return Request("PUT", "/crontab", query={"user": user}, body=body, read=nothing)

    @plain
    def delete_crontab(self, user: str | None = None) -> "Request[None]":
        """删除。"""
        return Request("DELETE", "/crontab", query={"user": user}, read=nothing)

    @many
    def triggers(
        self, trigger_id: int | None = None, job_id: int | None = None, user: str | None = None
    ) -> "Request[Trigger]":
        """符合这些的触发。"""
        query = {"trigger_id": trigger_id, "job_id": job_id, "user": user}
        return Request("GET", "/triggers", query=query, within="triggers")

    @plain
    def set_trigger(self, trigger: Mapping[str, Any]) -> "Request[int]":
        """定一个触发，返回编号；字段见 docs/api.md。"""
        return Request("POST", "/triggers", body=dict(trigger), read=lambda answer: int(answer.json()["trigger_id"]))

    @plain
    def clear_triggers(
        self, trigger_id: int | None = None, job_id: int | None = None, user: str | None = None
    ) -> "Request[list[int]]":
        """删除符合这些的，返回编号。"""
        query = {"trigger_id": trigger_id, "job_id": job_id, "user": user}
        return Request("DELETE", "/triggers", query=query, read=lambda answer: list(answer.json()["trigger_ids"]))
