"""历史的归档与装回。"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from scns_conductor.api.answers.history import HistoryArchivedAnswer, HistoryLoadedAnswer
from scns_conductor.api.dependencies import IdentityDep, PartsDep
from scns_conductor.api.field_forms import Instant
from scns_conductor.api.segment_router import SegmentRouter
from scns_conductor.services.history_archive import archive_step, load_archive

router = SegmentRouter(prefix="/history", tags=["历史"])

Folder = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]


class ArchiveRequest(BaseModel):
    """要归档的。"""

    model_config = ConfigDict(extra="forbid")

    before: Instant = Field(None, description="整个早于它的月份（UTC）；缺省照保留期的 drop_after")
    directory: Folder | None = Field(
        None, description="写在哪个目录之下：设置 archive_dir 里的，可以写相对的；缺省就是 archive_dir"
    )


class LoadRequest(BaseModel):
    """要装回的。"""

    model_config = ConfigDict(extra="forbid")

    folder: Folder = Field(description="一个归档了的月份的目录，如 2026-01：设置 archive_dir 里的，可以写相对的")


@router.post("/archive", summary="归档最早的一个月（管理员）")
async def archive(body: ArchiveRequest, parts: PartsDep, identity: IdentityDep) -> HistoryArchivedAnswer:
    """写成文件（一张表一个 CSV，脚本与环境变量都在里面），从库里丢掉：一个事务。

    一次至多一个月，也许只是先把作业移进历史：done 为假的再来一次。用量的汇总不丢。
    """
    return await archive_step(parts.engine, parts.settings, identity, body.before, body.directory)


@router.post("/load", summary="装回一个归档了的月份（管理员）")
async def load(body: LoadRequest, parts: PartsDep, identity: IdentityDep) -> HistoryLoadedAnswer:
    """已经在的不重；一个也没有多的是 409。装回的照 drop_after 也许又会丢掉。"""
    return {"added": await load_archive(parts.engine, parts.settings, identity, body.folder)}
