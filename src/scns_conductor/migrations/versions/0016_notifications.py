"""作业的邮件：变化由触发器记下（job_notices），要发的在 notifications；幂等键按时间删

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# 状态是好几处改的（启动、结束、取消、重新排队），由触发器记：哪一处也漏不了，同一个事务里，提交了才有。
# 没有要邮件的作业不满足 WHEN，什么代价也没有。
_NOTE = """
CREATE FUNCTION scns_note_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO job_notices (job_id, restart_count, to_state) VALUES (NEW.job_id, NEW.restart_count, NEW.state);
  ELSE
    INSERT INTO job_notices (job_id, restart_count, from_state, to_state)
    VALUES (NEW.job_id, OLD.restart_count, OLD.state, NEW.state);
  END IF;
  RETURN NULL;
END
$$
"""
_ON_UPDATE = """
CREATE TRIGGER jobs_note_change AFTER UPDATE OF state, reason ON jobs FOR EACH ROW
WHEN (NEW.mail_type IS NOT NULL AND (OLD.state <> NEW.state
  OR (OLD.reason <> NEW.reason AND NEW.reason = 'DependencyNeverSatisfied')))
EXECUTE FUNCTION scns_note_change()
"""
# 数组的任务启动时才有自己的一行。
_ON_INSERT = """
CREATE TRIGGER jobs_note_start AFTER INSERT ON jobs FOR EACH ROW
WHEN (NEW.mail_type IS NOT NULL AND NEW.state <> 'PENDING')
EXECUTE FUNCTION scns_note_change()
"""


def upgrade() -> None:
    """升级。"""
    now = sa.text("clock_timestamp()")
    op.create_table(
        "job_notices",
        sa.Column("notice_id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("job_id", sa.BigInteger(), sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
        sa.Column("restart_count", sa.Integer(), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=now, nullable=False),
    )
    op.create_index("job_notices_by_job", "job_notices", ["job_id"])
    op.create_table(
        "notifications",
        sa.Column("notification_id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("job_id", sa.BigInteger(), sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), nullable=False),
        sa.Column("restart_count", sa.Integer(), nullable=False),
        sa.Column("occasion", sa.Text(), nullable=False),
        sa.Column("recipients", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="QUEUED", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=now, nullable=False),
        sa.Column("next_try_at", sa.TIMESTAMP(timezone=True), server_default=now, nullable=False),
        sa.Column("sent_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('QUEUED', 'SENT', 'DEAD')", name="notifications_state_known"),
        sa.UniqueConstraint("job_id", "restart_count", "occasion", name="notifications_once"),
    )
    op.create_index("notifications_due", "notifications", ["next_try_at"], postgresql_where=sa.text("state = 'QUEUED'"))
    op.create_index("notifications_by_age", "notifications", ["created_at"])
    # 幂等键按时间写入：块范围索引只有几页，删旧的时不必从头扫。
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["created_at"], postgresql_using="brin")
    for statement in (_NOTE, _ON_UPDATE, _ON_INSERT):
        op.execute(statement)


def downgrade() -> None:
    """降级。"""
    op.execute("DROP TRIGGER jobs_note_start ON jobs")
    op.execute("DROP TRIGGER jobs_note_change ON jobs")
    op.execute("DROP FUNCTION scns_note_change()")
    op.drop_index("idempotency_keys_by_age", "idempotency_keys")
    op.drop_table("notifications")
    op.drop_table("job_notices")
