"""对一批作业做一件事：一个请求、一个事务。"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import Flag
from scns_conductor.api.job_request import JobRequest
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.core.errors import ConductorError, InvalidRequest
from scns_conductor.services.job_control import Action, Request, control_jobs
from scns_conductor.services.job_list import JobFilter
from scns_conductor.services.job_update import update_jobs

router = SegmentRouter(prefix="/jobs", tags=["作业"])

# 一次至多写这么多个作业号。
MOST_CONTROLLED = 100_000
ShortText = Annotated[str, Field(min_length=1, max_length=4096)]


class Conditions(BaseModel):
    """挑作业的条件，与 GET /jobs 的同名；没有写 state 的只看这件事用得上的（如保留只看排队的）。"""

    model_config = ConfigDict(extra="forbid")

    state: ShortText | None = Field(None, description="状态，逗号分隔")
    user: ShortText | None = Field(None, description="用户，逗号分隔")
    account: ShortText | None = Field(None, description="账户，逗号分隔")
    partition: ShortText | None = Field(None, description="分区，逗号分隔")
    name: ShortText | None = Field(None, description="作业名，逗号分隔")
    qos: ShortText | None = Field(None, description="服务质量，逗号分隔")
    node: ShortText | None = Field(None, description="用过这些节点的，逗号分隔")


class ControlRequest(BaseModel):
    """对一批作业做一件事：作业号，或条件，或两者的交。"""

    model_config = ConfigDict(extra="forbid")

    action: Action = Field(description="做什么")
    job_ids: list[ShortText] = Field(
        default_factory=list, max_length=MOST_CONTROLLED, description="作业号，可以是 12_3、12_[1-5]"
    )
    conditions: Conditions | None = Field(None, description="符合这些条件的")
    hold: Flag = Field(False, description="requeue：重新排队之后保留")
    special_exit: Flag = Field(False, description="requeue：同 hold，Slurm 的命令里状态是 SPECIAL_EXIT")
    signal: str | None = Field(None, description="signal：信号的名字或号", max_length=32)
    target: Literal["all", "batch", "steps", "job"] = Field("all", description="signal：发给谁")


class Done(BaseModel):
    """做成了的一个。"""

    job_id: str = Field(description="作业号，写法同所给")
    state: str = Field(description="状态；请节点做的是此刻的")
    reason: str | None = Field(None, description="hold：保留的原因码")


class Refused(BaseModel):
    """没有做成的一个，同 problem JSON。"""

    job_id: str = Field(description="作业号，写法同所给")
    code: str = Field(description="稳定的错误码")
    status: int = Field(description="单独做它时的 HTTP 状态码")
    detail: str = Field(description="给人看的说明")


class ControlAnswer(BaseModel):
    """一批的结果。"""

    jobs: list[Done] = Field(description="做成了的")
    errors: list[Refused] = Field(description="没有做成的")


class UpdateRequest(BaseModel):
    """一批作业，同样地改。"""

    model_config = ConfigDict(extra="forbid")

    job_ids: list[ShortText] = Field(
        min_length=1, max_length=MOST_CONTROLLED, description="作业号，可以是 12_3、12_[1-5]"
    )
    changes: JobRequest = Field(description="要改的，同 PATCH /jobs/{job_id}")


class Updated(BaseModel):
    """改成了的一个。"""

    job_id: str = Field(description="作业号，写法同所给")
    state: str = Field(description="状态")
    skipped: list[str] = Field(default_factory=list, description="数组里已经启动、改不了的任务")


class UpdateAnswer(BaseModel):
    """一批的结果。"""

    jobs: list[Updated] = Field(description="改成了的")
    errors: list[Refused] = Field(description="没有改成的")


@router.patch("", summary="修改一批作业")
async def update(body: UpdateRequest, parts: PartsDep, identity: IdentityDep) -> UpdateAnswer:
    """同样的修改，一个事务。不许的（没有、别人的、状态不对）各在 errors 里，其余照改。"""
    done, errors = await update_jobs(
        parts.engine, parts.rules, identity, body.job_ids, body.changes.changes(), parts.policy
    )
    return UpdateAnswer(jobs=[Updated(**job) for job in done], errors=_refused(errors))


def _refused(errors: Mapping[str, ConductorError]) -> list[Refused]:
    return [
        Refused(job_id=job_id, code=error.code, status=error.status, detail=error.detail)
        for job_id, error in errors.items()
    ]


@router.post("/control", summary="对一批作业做一件事")
async def control(body: ControlRequest, parts: PartsDep, identity: IdentityDep) -> ControlAnswer:
    """保留、放行、重新排队、挂起、恢复、取消、发信号：一个事务，两万个也在一两秒之内。

    不许的（没有、别人的、状态不对）各在 errors 里，其余照做；一样也没有写、条件是空的是错误。
    """
    given = body.conditions.model_dump(exclude_none=True) if body.conditions is not None else None
    if not body.job_ids and not given:
        raise InvalidRequest("job_ids", "要么写作业号，要么写条件", code="nothing_chosen")
    if body.action == "signal" and not body.signal:
        raise InvalidRequest("signal", "要发哪个信号", code="signal_unknown")
    done = await control_jobs(
        parts.engine,
        identity,
        Request(body.action, body.hold, body.signal, body.target, body.special_exit),
        body.job_ids,
        JobFilter(**given) if given else None,
    )
    return ControlAnswer(jobs=[Done(**job) for job in done.jobs], errors=_refused(done.errors))
