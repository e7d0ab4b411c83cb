"""集群的事多几种：节点排空了、空下来了，调度器当选、退下、不见了，运行时的设置改了

Revision ID: 0037
Revises: 0036
"""

from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

# node.idle 每个作业结束都可以有一件，所以有人写明要才记。
_NOTE_NODE = """
CREATE OR REPLACE FUNCTION scns_note_node() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  seen jsonb := jsonb_build_object('state', NEW.state, 'drain', NEW.drain, 'reason', NEW.reason, 'reason_user', NEW.reason_user);
BEGIN
  IF NEW.state IN ('UP', 'DOWN') AND (TG_OP = 'INSERT' OR NEW.state <> OLD.state) THEN
    INSERT INTO cluster_events (event, subject, detail) VALUES ('node.' || lower(NEW.state), NEW.name, seen);
  END IF;
  IF TG_OP = 'INSERT' THEN
    RETURN NULL;
  END IF;
  IF NEW.drain AND NOT OLD.drain AND NEW.allocated_cpus > 0 THEN
    INSERT INTO cluster_events (event, subject, detail) VALUES ('node.draining', NEW.name, seen);
  ELSIF OLD.drain AND NOT NEW.drain THEN
    INSERT INTO cluster_events (event, subject, detail) VALUES ('node.resumed', NEW.name, seen);
  END IF;
  IF NEW.drain AND NEW.allocated_cpus = 0 AND NOT (OLD.drain AND OLD.allocated_cpus = 0) THEN
    INSERT INTO cluster_events (event, subject, detail) VALUES ('node.drained', NEW.name, seen);
  END IF;
  IF NEW.state = 'UP' AND NOT NEW.drain AND NEW.allocated_cpus = 0
    AND NOT (OLD.state = 'UP' AND NOT OLD.drain AND OLD.allocated_cpus = 0)
    AND EXISTS (SELECT FROM webhooks WHERE active AND scope = 'cluster' AND 'node.idle' = ANY(events)) THEN
    INSERT INTO cluster_events (event, subject, detail) VALUES ('node.idle', NEW.name, seen);
  END IF;
  RETURN NULL;
END
$$
"""
_NODE_CHANGES = """
CREATE TRIGGER nodes_note_change AFTER UPDATE OF state, drain, allocated_cpus ON nodes FOR EACH ROW
WHEN (OLD.state <> NEW.state OR OLD.drain <> NEW.drain OR (NEW.allocated_cpus = 0 AND OLD.allocated_cpus > 0))
EXECUTE FUNCTION scns_note_node()
"""
# 当选写 acquired_at；恢复数据库只加任期，不是当选。接任时前任还写着：它没有退下就不见了。后台进程也许先看到、已经记下了（statements/webhook_deliveries.py）。
_NOTE_LEADER = """
CREATE FUNCTION scns_note_leader() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.holder IS NULL THEN
    INSERT INTO cluster_events (event, subject, detail)
    VALUES ('scheduler.resigned', OLD.holder, jsonb_build_object('epoch', OLD.epoch));
    RETURN NULL;
  END IF;
  IF OLD.holder IS NOT NULL THEN
    INSERT INTO cluster_events (event, subject, detail)
    SELECT 'scheduler.failed', OLD.holder, jsonb_build_object('epoch', OLD.epoch, 'last_seen', OLD.renewed_at)
    WHERE NOT EXISTS (SELECT FROM cluster_events WHERE subject = OLD.holder AND event = 'scheduler.failed'
      AND detail @> jsonb_build_object('epoch', OLD.epoch));
  END IF;
  -- 恢复之后换化身只把任期跳过一段，没有谁当选。
  IF NEW.holder IS NOT NULL THEN
    INSERT INTO cluster_events (event, subject, detail)
    VALUES ('scheduler.elected', NEW.holder, jsonb_build_object('epoch', NEW.epoch, 'former', OLD.holder));
  END IF;
  RETURN NULL;
END
$$
"""
_LEADER_CHANGES = """
CREATE TRIGGER scheduler_leader_note_change AFTER UPDATE OF acquired_at, holder ON scheduler_leader FOR EACH ROW
WHEN (CASE WHEN NEW.holder IS NULL THEN OLD.holder IS NOT NULL
  ELSE NEW.acquired_at IS DISTINCT FROM OLD.acquired_at END) EXECUTE FUNCTION scns_note_leader()
"""
_NOTE_SETTING = """
CREATE FUNCTION scns_note_setting() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.value = OLD.value THEN
    RETURN NULL;
  END IF;
  INSERT INTO cluster_events (event, subject, detail)
  VALUES ('setting.updated', CASE WHEN TG_OP = 'DELETE' THEN OLD.name ELSE NEW.name END,
    jsonb_build_object('before', CASE WHEN TG_OP <> 'INSERT' THEN OLD.value END,
      'value', CASE WHEN TG_OP <> 'DELETE' THEN NEW.value END));
  RETURN NULL;
END
$$
"""
_SETTING_CHANGES = """
CREATE TRIGGER cluster_settings_note_change AFTER INSERT OR UPDATE OR DELETE ON cluster_settings FOR EACH ROW
EXECUTE FUNCTION scns_note_setting()
"""
# 从前的样子（0027）。
_NOTE_NODE_BEFORE = """
CREATE OR REPLACE FUNCTION scns_note_node() RETURNS trigger
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
_NODE_CHANGES_BEFORE = """
CREATE TRIGGER nodes_note_change AFTER UPDATE OF state, drain ON nodes FOR EACH ROW
WHEN (OLD.state <> NEW.state OR OLD.drain <> NEW.drain) EXECUTE FUNCTION scns_note_node()
"""


def upgrade() -> None:
    """升级。"""
    op.execute("DROP TRIGGER nodes_note_change ON nodes")
    for statement in (_NOTE_NODE, _NODE_CHANGES, _NOTE_LEADER, _LEADER_CHANGES, _NOTE_SETTING, _SETTING_CHANGES):
        op.execute(statement)


def downgrade() -> None:
    """降级。"""
    op.execute("DROP TRIGGER cluster_settings_note_change ON cluster_settings")
    op.execute("DROP TRIGGER scheduler_leader_note_change ON scheduler_leader")
    op.execute("DROP FUNCTION scns_note_setting()")
    op.execute("DROP FUNCTION scns_note_leader()")
    op.execute("DROP TRIGGER nodes_note_change ON nodes")
    op.execute(_NOTE_NODE_BEFORE)
    op.execute(_NODE_CHANGES_BEFORE)
