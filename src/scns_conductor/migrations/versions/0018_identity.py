"""账户的协调人、审计员，签发过的令牌，只增不改的审计

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_REFUSE = """
CREATE FUNCTION scns_audit_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'audit_log is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$
"""
_ON_ROWS = """
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
FOR EACH ROW EXECUTE FUNCTION scns_audit_is_append_only()
"""
_ON_TRUNCATE = """
CREATE TRIGGER audit_log_not_truncated BEFORE TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION scns_audit_is_append_only()
"""
_LEVELS = "users_admin_level_known"


def upgrade() -> None:
    """升级。"""
    now = sa.text("clock_timestamp()")
    moment = sa.TIMESTAMP(timezone=True)
    op.drop_constraint(_LEVELS, "users")
    op.create_check_constraint(_LEVELS, "users", "admin_level IN ('None', 'Operator', 'Administrator', 'Auditor')")
    op.create_table(
        "account_coordinators",
        sa.Column("account", sa.Text(), sa.ForeignKey("accounts.name", ondelete="CASCADE"), primary_key=True),
        sa.Column("user_name", sa.Text(), sa.ForeignKey("users.name", ondelete="CASCADE"), primary_key=True),
    )
    op.create_table(
        "access_tokens",
        sa.Column("token_id", sa.Text(), primary_key=True),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("role", sa.Text(), server_default="user", nullable=False),
        sa.Column("scopes", ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("expires_at", moment, nullable=False),
        sa.Column("revoked_at", moment, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.Column("last_used_at", moment, nullable=True),
        sa.Column("last_used_from", sa.Text(), nullable=True),
    )
    op.create_index("access_tokens_by_user", "access_tokens", ["user_name", "created_at"])
    op.create_index(
        "access_tokens_revoked", "access_tokens", ["expires_at"], postgresql_where=sa.text("revoked_at IS NOT NULL")
    )
    op.create_table(
        "revoked_users",
        sa.Column("user_name", sa.Text(), primary_key=True),
        sa.Column("revoked_at", moment, server_default=now, nullable=False),
    )
    op.create_table(
        "audit_log",
        sa.Column("audit_id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("at", moment, server_default=now, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("before", JSONB(), nullable=True),
        sa.Column("after", JSONB(), nullable=True),
    )
    op.create_index("audit_log_by_time", "audit_log", ["at"])
    op.create_index("audit_log_by_actor", "audit_log", ["actor", "audit_id"])
    for statement in (_REFUSE, _ON_ROWS, _ON_TRUNCATE):
        op.execute(statement)


def downgrade() -> None:
    """降级；审计员变回普通用户。"""
    op.drop_table("audit_log")
    op.execute("DROP FUNCTION scns_audit_is_append_only()")
    for table in ("revoked_users", "access_tokens", "account_coordinators"):
        op.drop_table(table)
    op.execute("UPDATE users SET admin_level = 'None' WHERE admin_level = 'Auditor'")
    op.drop_constraint(_LEVELS, "users")
    op.create_check_constraint(_LEVELS, "users", "admin_level IN ('None', 'Operator', 'Administrator')")
