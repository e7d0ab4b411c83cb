"""令牌与审计。"""

from typing import Annotated, Any

from scns_conductor.api.answers.shown import Shown, page_of, row_of
from scns_conductor.core.models import AccessToken, AuditEntry

TOKEN = row_of(AccessToken, "AccessToken")
TOKENS = page_of("AccessTokens", "tokens", TOKEN, "令牌，新的在前")
AUDIT_ENTRY = row_of(AuditEntry, "AuditEntry")
AUDIT = page_of("Audit", "audit", AUDIT_ENTRY, "审计，新的在前")

TokensAnswer = Annotated[dict[str, Any], Shown(TOKENS)]
AuditAnswer = Annotated[dict[str, Any], Shown(AUDIT)]
