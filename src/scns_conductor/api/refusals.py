"""被拒绝的管理的事，记进审计。"""

from starlette.types import Scope

from scns_conductor.api.dependencies import known_identity
from scns_conductor.api.roles import RULES
from scns_conductor.core.errors import ConductorError, Forbidden


async def note_refusal(scope: Scope, error: ConductorError) -> None:
    """403 的，要管理的角色的、要改东西的（提交作业除外）写一条；别的什么也不做。"""
    identity = known_identity(scope)
    if not isinstance(error, Forbidden) or identity is None:
        return
    rule = RULES.get((scope["method"], getattr(scope.get("route"), "path", "")))
    if rule is None or rule.submits or (rule.least == "user" and not rule.writes):
        return
    await scope["app"].state.parts.refusals.refused(identity, f"{scope['method']} {scope['path']}", error)
