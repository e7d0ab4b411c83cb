"""用户的 crontab（scrontab）。"""

from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from scns_conductor.api.answers.standing import CrontabAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep, SubmitterDep
from scns_conductor.api.field_forms import Name
from scns_conductor.api.job_request import SubmitRequest
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.services import crontabs

MOST_ENTRIES = 1000
MOST_TEXT = 1024 * 1024

router = SegmentRouter(prefix="/crontab", tags=["定时与触发"])

Whose = Annotated[Name | None, Query(description="谁的；缺省是自己，别人的要管理员")]


class CronEntryRequest(SubmitRequest):
    """一项：何时提交哪个作业。作业不能是数组，不能写 begin_time、deadline、dependency。"""

    schedule: str = Field(
        description="时刻：分 时 日 月 星期（crontab(5)），或 @hourly、@daily 等",
        max_length=1000,
        examples=["0 3 * * 1-5"],
    )
    first_line: int = Field(ge=0, lt=2**31, description="在全文的第几行开始，从 0 数起")
    last_line: int = Field(ge=0, lt=2**31, description="命令在第几行")


class CrontabRequest(BaseModel):
    """整份 crontab。"""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=MOST_TEXT, description="全文，原样保存", pattern=r"^[^\x00]*$")
    timezone: str = Field("UTC", max_length=255, description="照哪个时区的钟面", examples=["Europe/Berlin"])
    entries: list[CronEntryRequest] = Field(max_length=MOST_ENTRIES, description="全文里的各项")


@router.get("", summary="看 crontab")
async def show(parts: PartsDep, identity: IdentityDep, user: Whose = None) -> CrontabAnswer:
    """取消过一次的那一项停了，它的各行前面是 #DISABLED。"""
    return await crontabs.read_crontab(parts.engine, identity, user)


@router.put("", summary="换 crontab", status_code=204)
async def replace(body: CrontabRequest, parts: PartsDep, submitter: SubmitterDep, user: Whose = None) -> Response:
    """旧的各项还没有开始的那一次取消，正在跑的跑完；新的各项各有一个到时开始的作业。有一项不合法就什么也不变。"""
    items = [crontabs.CronItem(each.first_line, each.last_line, each.schedule, each) for each in body.entries]
    await crontabs.replace_crontab(parts.engine, parts.submit_desk, submitter, user, body.text, body.timezone, items)
    return Response(status_code=204)


@router.delete("", summary="删除 crontab", status_code=204)
async def delete(parts: PartsDep, identity: IdentityDep, user: Whose = None) -> Response:
    """还没有开始的那一次取消，正在跑的跑完。"""
    await crontabs.delete_crontab(parts.engine, identity, user)
    return Response(status_code=204)
