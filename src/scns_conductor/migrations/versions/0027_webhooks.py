"""webhook：订阅、要送的、读到哪里；节点与预留出过的事由触发器记下

Revision ID: 0027
Revises: 0026
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

# 状态与排空是好几处改的，由触发器记：哪一处也漏不了。分配与心跳改的是别的列，WHEN 不成立。
_NOTE_NODE = """
CREATE FUNCTION scns_note_node() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  seen jsonb := jsonb_build_object('state', NEW.state, 'drain', NEW.drain, 'reason', NEW.reason, 'reason_user', NEW.reason_user);
BEGIN
  IF NEW.state IN ('UP', 'DOWN') AND (TG_OP = 'INSERT' OR NEW.state <> OLD.state) THEN
    INSERT INTO cluster_events (event, subject, detail) VALUES ('node.' || lower(NEW.state), NEW.name, seen);
  END IF;
  IF TG_OP = 'UPDATE' AND NEW.drain <> OLD.drain THEN
    INSERT INTO cluster_events (event, subject, detail)
    VALUES (CASE WHEN NEW.drain THEN 'node.drained' ELSE 'node.resumed' END, NEW.name, seen);
  END IF;
  RETURN NULL;
END
$$
"""
_NODE_CHANGES = """
CREATE TRIGGER nodes_note_change AFTER UPDATE OF state, drain ON nodes FOR EACH ROW
WHEN (OLD.state <> NEW.state OR OLD.drain <> NEW.drain) EXECUTE FUNCTION scns_note_node()
"""
_NODE_ADDED = """
CREATE TRIGGER nodes_note_added AFTER INSERT ON nodes FOR EACH ROW EXECUTE FUNCTION scns_note_node()
"""
_NOTE_RESERVATION = """
CREATE FUNCTION scns_note_reservation() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  found reservations%ROWTYPE;
BEGIN
  IF TG_OP = 'DELETE' THEN found := OLD; ELSE found := NEW; END IF;
  INSERT INTO cluster_events (event, subject, detail)
  VALUES ('reservation.' || CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'updated' ELSE 'deleted' END,
    found.name, to_jsonb(found) - 'name');
  RETURN NULL;
END
$$
"""
_RESERVATION_CHANGES = """
CREATE TRIGGER reservations_note_change AFTER INSERT OR UPDATE OR DELETE ON reservations FOR EACH ROW
EXECUTE FUNCTION scns_note_reservation()
"""


def upgrade() -> None:
    """升级。"""
    now = sa.text("clock_timestamp()")
    timestamp = sa.TIMESTAMP(timezone=True)
    op.create_table(
        "webhooks",
        sa.Column("webhook_id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("as_coordinator", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("events", ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("active", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("after_job_event", sa.BigInteger(), nullable=False),
        sa.Column("after_cluster_event", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("resume_at", timestamp, nullable=True),
        sa.Column("leased_until", timestamp, nullable=True),
        sa.Column("dropped", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", timestamp, server_default=now, nullable=False),
        sa.CheckConstraint("scope IN ('user', 'account', 'cluster')", name="webhooks_scope_known"),
        sa.CheckConstraint("format IN ('json', 'slack', 'feishu', 'dingtalk', 'wecom')", name="webhooks_format_known"),
        sa.CheckConstraint("(scope = 'account') = (account IS NOT NULL)", name="webhooks_account_named"),
    )
    op.create_index("webhooks_by_user", "webhooks", ["user_name"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("delivery_id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column(
            "webhook_id", sa.BigInteger(), sa.ForeignKey("webhooks.webhook_id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="QUEUED", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", timestamp, server_default=now, nullable=False),
        sa.Column("next_try_at", timestamp, server_default=now, nullable=False),
        sa.Column("sent_at", timestamp, nullable=True),
        sa.CheckConstraint("state IN ('QUEUED', 'SENT', 'DEAD')", name="webhook_deliveries_state_known"),
    )
    op.create_index("webhook_deliveries_of", "webhook_deliveries", ["webhook_id", "delivery_id"])
    op.create_index(
        "webhook_deliveries_due",
        "webhook_deliveries",
        ["webhook_id", "delivery_id"],
        postgresql_where=sa.text("state = 'QUEUED'"),
    )
    op.create_index("webhook_deliveries_by_age", "webhook_deliveries", ["created_at"])
    op.create_table(
        "cluster_events",
        sa.Column("event_id", sa.BigInteger(), sa.Identity(), primary_key=True),
        sa.Column("created_at", timestamp, server_default=now, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
    )
    op.create_index("cluster_events_by_age", "cluster_events", ["created_at"])
    op.create_table(
        "webhook_cursor",
        sa.Column("singleton", sa.Boolean(), primary_key=True),
        sa.Column("job_event", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cluster_event", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("looked_at", timestamp, server_default=now, nullable=False),
        sa.CheckConstraint("singleton", name="webhook_cursor_single"),
    )
    op.execute("INSERT INTO webhook_cursor (singleton) VALUES (true)")
    for statement in (_NOTE_NODE, _NODE_CHANGES, _NODE_ADDED, _NOTE_RESERVATION, _RESERVATION_CHANGES):
        op.execute(statement)


def downgrade() -> None:
    """降级。"""
    op.execute("DROP TRIGGER reservations_note_change ON reservations")
    op.execute("DROP FUNCTION scns_note_reservation()")
    op.execute("DROP TRIGGER nodes_note_added ON nodes")
    op.execute("DROP TRIGGER nodes_note_change ON nodes")
    op.execute("DROP FUNCTION scns_note_node()")
    for table in ("webhook_cursor", "cluster_events", "webhook_deliveries", "webhooks"):
        op.drop_table(table)
