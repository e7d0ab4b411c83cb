"""crontab 与触发。由 make openapi 写出，不要手改：改 core/models 或 api/answers。"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from scns_conductor.client.answer import Answer, Convert, instant


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Crontab(Answer):
    """一个用户的 crontab，一人一份。"""

    user_name: str
    """谁的"""
    text: str
    """全文，与交来的一样"""
    timezone: str
    """时刻照哪个时区的钟面，如 Europe/Berlin"""
    updated_at: datetime
    """何时交来"""

    _convert: ClassVar[Mapping[str, Convert]] = {"updated_at": instant}


@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)
class Trigger(Answer):
    """一个触发：事情发生了就提交 template，最后一个参数是作业号或节点列表；不是 permanent 的就此没有了。"""

    trigger_id: int
    """编号"""
    user_name: str
    """谁定的，程序就以谁的身份运行"""
    event: str
    """作业的 fini、time；节点的 down、up、drained、draining、resume、idle；集群的 reconfig 等"""
    job_id: int | None
    """看这个作业，或它用着的节点"""
    node_names: tuple[str, ...] | None
    """看这些节点；空的是全部"""
    offset_s: int
    """事情之后多久（秒）；负数是之前"""
    permanent: bool
    """做过之后还在"""
    program: str
    """程序与它的参数"""

    _convert: ClassVar[Mapping[str, Convert]] = {"node_names": tuple}
