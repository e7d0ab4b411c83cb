"""到时、遇事提交的作业：定下时就照提交的规矩核对、补全，存成 JSON。"""

from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.core.errors import Forbidden, InvalidRequest
from scns_conductor.core.tokens import Identity
from scns_conductor.services.new_job import Submitter
from scns_conductor.services.nodes import require_admin
from scns_conductor.services.submit_desk import Draft, SubmitDesk
from scns_conductor.statements.standing import template_text

# 每次都不同、或只有一次的，不能写。
_ONCE = ("array", "begin_time", "deadline", "dependency", "interactive")


async def template_of(desk: SubmitDesk, draft: Draft, submitter: Submitter, prefix: str) -> str:
    """要提交的作业 -> 存下的 JSON；不合法抛 InvalidRequest 等，字段名前加 prefix（entries[3].）。"""
    row: Mapping[str, Any] = await desk.checked(draft, submitter, prefix)
    for name in _ONCE:
        if row.get(name):
            raise InvalidRequest(f"{prefix}job.{name}", f"到时、遇事提交的作业不能写 {name}", code="standing_field")
    return template_text({**row, "begin_time": None})


def require_token_account(identity: Identity, accounts: Iterable[str | None]) -> None:
    """令牌限了账户的，只动记在那个账户里的；别的抛 Forbidden。"""
    if identity.account is not None and any(account != identity.account for account in accounts):
        raise Forbidden(f"这个令牌只管账户 {identity.account}，其中有别的账户的", code="token_scope")


def owner(identity: Identity, user_name: str | None, what: str) -> Identity:
    """以谁的名义：自己，或管理员写的别人（那时只有普通用户的权）。不是管理员而写了别人抛 Forbidden。"""
    if user_name is None or user_name == identity.user_name:
        return identity
    require_admin(identity, what)
    # 令牌限了账户的，替别人定也只在那个账户里。
    return Identity(user_name=user_name, admin=False, account=identity.account)
