"""等了多久、各是为什么（wait_breakdown），预计用到的节点

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# 原因 -> 秒，加上从 since 到此刻的一段。
_WAITED = """
CREATE FUNCTION scns_waited(breakdown jsonb, reason text, since timestamptz) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(breakdown, '{}'::jsonb) || jsonb_build_object(reason, round(
    coalesce((breakdown ->> reason)::numeric, 0)
      + greatest(0, extract(epoch FROM clock_timestamp() - since))::numeric, 1))
$$
"""
# 原因是好几处改的（调度器、保留、放行、取消、启动、重新排队），所以由触发器记：哪一处也漏不了。
# 不到一秒就启动了的不记：没有什么可说的，也不让热路径多写。
_ON_CHANGE = """
CREATE FUNCTION scns_count_wait() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state <> 'PENDING' THEN
    NEW.wait_breakdown := NULL;
    NEW.reason_since := clock_timestamp();
  ELSIF NEW.state = 'PENDING' THEN
    NEW.wait_breakdown := scns_waited(OLD.wait_breakdown, OLD.reason, coalesce(OLD.reason_since, OLD.submit_time));
    NEW.reason_since := clock_timestamp();
  ELSIF OLD.wait_breakdown IS NOT NULL OR coalesce(OLD.reason_since, OLD.submit_time)
      < clock_timestamp() - interval '1 second' THEN
    NEW.wait_breakdown := scns_waited(OLD.wait_breakdown, OLD.reason, coalesce(OLD.reason_since, OLD.submit_time));
    NEW.reason_since := NULL;
    NEW.expected_nodes := NULL;
  END IF;
  RETURN NEW;
END
$$
"""
_TRIGGER = """
CREATE TRIGGER jobs_count_wait BEFORE UPDATE OF state, reason ON jobs FOR EACH ROW
WHEN ((OLD.state = 'PENDING' AND (NEW.state <> 'PENDING' OR NEW.reason <> OLD.reason))
  OR (OLD.state <> 'PENDING' AND NEW.state = 'PENDING'))
EXECUTE FUNCTION scns_count_wait()
"""


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("wait_breakdown", JSONB(), nullable=True))
    op.add_column("jobs", sa.Column("reason_since", sa.TIMESTAMP(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("expected_nodes", sa.Text(), nullable=True))
    for statement in (_WAITED, _ON_CHANGE, _TRIGGER):
        op.execute(statement)


def downgrade() -> None:
    """降级。"""
    op.execute("DROP TRIGGER jobs_count_wait ON jobs")
    op.execute("DROP FUNCTION scns_count_wait()")
    op.execute("DROP FUNCTION scns_waited(jsonb, text, timestamptz)")
    for column in ("expected_nodes", "reason_since", "wait_breakdown"):
        op.drop_column("jobs", column)
