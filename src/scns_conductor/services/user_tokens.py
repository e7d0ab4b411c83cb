"""签发令牌：谁能给谁签。"""

from scns_conductor.core.errors import Forbidden
from scns_conductor.core.settings import Settings
from scns_conductor.core.tokens import Identity, issue_token


def issue_user_token(
    settings: Settings, identity: Identity, user_name: str | None, *, admin: bool, lifetime_s: int | None
) -> str:
    """自己的令牌谁都能签（user_name 缺省是自己）；别人的、管理员的要管理员，作业令牌不能换，否则抛 Forbidden。"""
    if identity.job_id is not None:
        raise Forbidden("作业令牌不能换成长期的令牌；请用你自己的令牌签发", code="job_token_not_enough")
    owner = user_name or identity.user_name
    if not identity.admin and (admin or owner != identity.user_name):
        raise Forbidden("只有管理员能签发别人的或管理员的令牌", code="admin_required")
    return issue_token(settings, owner, admin=admin, lifetime_s=lifetime_s)
