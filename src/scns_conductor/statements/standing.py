"""到时、遇事提交的作业：crontab 与触发的存取；领导者看哪些到了，提交它们。

只有一个领导者会做成：改的时候核对还是看到的样子（job_id、trigger_id 的行还在），旧的领导者什么也改不了。
"""

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from scns_conductor.core.states import TERMINAL_STATES, JobState
from scns_conductor.statements.conditions import states
from scns_conductor.statements.table_columns import JOB_SPEC, JOB_SPEC_DEFAULTS

_ENDED = states(TERMINAL_STATES)
# 存下的作业里有的列；不能是数组。
TEMPLATE_COLUMNS = (*JOB_SPEC, "script", "reason")
# 存下之后才有的列（升级了）取缺省值。
DEFAULTS = {"defaults": json.dumps(JOB_SPEC_DEFAULTS, ensure_ascii=False)}


def _submitted(changed: dict[str, str], cause: str) -> str:
    """due（job_id、user_name、template 与别的列）里的每一行提交成一个作业；changed 的列不照 template。"""
    columns = (*TEMPLATE_COLUMNS, *(name for name in changed if name not in TEMPLATE_COLUMNS))
    names = ", ".join(f'"{name}"' for name in columns)
    taken = ", ".join(changed.get(name, f'r."{name}"') for name in columns)
    return f"""
        written AS (
          INSERT INTO jobs (job_id, {names})
          SELECT due.job_id, {taken}
          FROM due, jsonb_populate_record(CAST(NULL AS jobs), CAST(:defaults AS jsonb) || due.template) AS r
        ), recorded AS (
          INSERT INTO job_events (job_id, to_state, cause, actor)
          SELECT job_id, 'PENDING', '{cause}', user_name FROM due
        )"""


# ---- crontab ----

# 一个用户的 crontab。
CRONTAB = sa.text("SELECT user_name, text, timezone, updated_at FROM crontabs WHERE user_name = :user_name")
# 停了的各项所在的行。
DISABLED_LINES = sa.text(
    "SELECT first_line, last_line FROM cron_entries WHERE user_name = :user_name AND disabled ORDER BY first_line"
)
# 换成这一份；各项另外写。
CRONTAB_REPLACE = sa.text(
    """
    INSERT INTO crontabs (user_name, text, timezone) VALUES (:user_name, :text, :timezone)
    ON CONFLICT (user_name) DO UPDATE SET text = :text, timezone = :timezone, updated_at = clock_timestamp()
    """
)
# 删掉一个用户的，各项也没有了。
CRONTAB_DELETE = sa.text("DELETE FROM crontabs WHERE user_name = :user_name RETURNING user_name")
# 旧的各项；还没有开始的那一次由调用者取消。
CRON_ENTRIES_DELETE = sa.text(
    "DELETE FROM cron_entries WHERE user_name = :user_name RETURNING job_id, template ->> 'account' AS account"
)
# 写下各项（entries_text 造的）；各自的第一次由领导者提交。
CRON_ENTRIES_INSERT = sa.text(
    """
    INSERT INTO cron_entries (user_name, first_line, last_line, schedule, template)
    SELECT :user_name, e.first_line, e.last_line, e.schedule, e.template
    FROM json_to_recordset(CAST(CAST(:entries AS text) AS json))
      AS e(first_line integer, last_line integer, schedule text, template jsonb)
    """
)
# 该有下一次的：一次也没有的，上一次结束了的（记录清除了也算）。stopped 是有人取消了它。
CRON_DUE = sa.text(
    f"""
    SELECT e.entry_id, e.schedule, c.timezone, e.job_id, greatest(j.begin_time, j.end_time) AS after,
      coalesce(j.state = '{JobState.CANCELLED}' AND EXISTS (SELECT FROM job_events AS v WHERE v.job_id = j.job_id
        AND v.to_state = '{JobState.CANCELLED}' AND v.cause = 'cancel'), false) AS stopped
    FROM cron_entries AS e JOIN crontabs AS c USING (user_name) LEFT JOIN jobs AS j ON j.job_id = e.job_id
    WHERE NOT e.disabled AND (j.job_id IS NULL OR j.state IN {_ENDED})
    """
)
# 停下这些项。
CRON_DISABLE = sa.text("UPDATE cron_entries SET disabled = true WHERE entry_id = ANY(CAST(:entry_ids AS bigint[]))")
# 各提交一次，在 begin_times 开始；former_ids 是看到的上一次（没有是 0），变了的不做。
CRON_RUNS = sa.text(
    f"""
    WITH locked AS MATERIALIZED (
      SELECT e.entry_id, e.user_name, e.template, e.schedule, d.begin_time
      FROM unnest(CAST(:entry_ids AS bigint[]), CAST(:former_ids AS bigint[]), CAST(:begin_times AS timestamptz[]))
        AS d(entry_id, former_id, begin_time)
      JOIN cron_entries AS e ON e.entry_id = d.entry_id AND coalesce(e.job_id, 0) = d.former_id
      ORDER BY e.entry_id FOR UPDATE OF e
    ), due AS MATERIALIZED (
      SELECT nextval('jobs_job_id_seq') AS job_id, * FROM locked
    ), {
        _submitted({"begin_time": "due.begin_time", "reason": "'BeginTime'", "cron": "due.schedule"}, "cron")
    }, kept AS (
      UPDATE cron_entries AS e SET job_id = due.job_id FROM due WHERE e.entry_id = due.entry_id
    )
    SELECT job_id FROM due
    """
)

# ---- 触发 ----

_SHOWN = "trigger_id, user_name, event, job_id, node_names, offset_s, permanent, program"
# 符合这些的触发；没有写的（NULL）不看。
TRIGGERS = sa.text(
    f"""
    SELECT {_SHOWN} FROM triggers
    WHERE (CAST(:trigger_id AS bigint) IS NULL OR trigger_id = :trigger_id)
      AND (CAST(:job_id AS bigint) IS NULL OR job_id = :job_id)
      AND (CAST(:user_name AS text) IS NULL OR user_name = :user_name)
    ORDER BY trigger_id
    """
)
# 定一个触发；seen 是此刻已经那样的节点。
TRIGGER_INSERT = sa.text(
    """
    INSERT INTO triggers (user_name, event, job_id, node_names, offset_s, permanent, program, template, seen)
    SELECT :user_name, :event, :job_id, CAST(:node_names AS text[]), :offset_s, :permanent, :program,
      CAST(CAST(:template AS text) AS jsonb), CAST(:seen AS text[])
    RETURNING trigger_id
    """
)
# 这些触发的程序记在哪些账户里。
TRIGGER_ACCOUNTS = sa.text(
    "SELECT DISTINCT template ->> 'account' FROM triggers WHERE trigger_id = ANY(CAST(:trigger_ids AS bigint[]))"
)
# 删掉这些触发。
TRIGGERS_DELETE = sa.text("DELETE FROM triggers WHERE trigger_id = ANY(CAST(:trigger_ids AS bigint[]))")
# 有没有要看的。
STANDING_EXISTS = sa.text(
    "SELECT EXISTS (SELECT FROM cron_entries WHERE NOT disabled) OR EXISTS (SELECT FROM triggers)"
)
# 看作业的触发与那些作业：数组要全部结束；limit_time 是到时限的时刻。
JOB_TRIGGERS = sa.text(
    f"""
    SELECT t.trigger_id, t.event, t.offset_s, t.permanent, t.job_id, count(j.job_id) AS rows,
      bool_and(j.state IN {_ENDED}) AS ended, max(j.end_time) AS end_time,
      min(j.start_time + make_interval(secs => j.time_limit + j.suspended_s))
        FILTER (WHERE j.state NOT IN {_ENDED}) AS limit_time
    FROM triggers AS t LEFT JOIN jobs AS j ON j.job_id = t.job_id OR j.array_job_id = t.job_id
    WHERE t.job_id IS NOT NULL GROUP BY t.trigger_id
    """
)
# 看节点的与集群的事的触发；写了作业的看它此刻用着的。
NODE_TRIGGERS = sa.text(
    """
    SELECT t.trigger_id, t.event, t.offset_s, t.permanent, t.job_id, t.seen, t.hits,
      CASE WHEN t.job_id IS NULL THEN t.node_names ELSE ARRAY(
        SELECT DISTINCT a.node_name FROM resource_allocations AS a
        WHERE a.job_id = t.job_id AND a.released_at IS NULL) END AS nodes
    FROM triggers AS t WHERE t.event NOT IN ('fini', 'time') ORDER BY t.trigger_id
    """
)
# 各节点此刻的样子。
NODE_STATES = sa.text("SELECT name, state, drain, allocated_cpus > 0 AS used FROM nodes")
# 这些名字的集群的事，一天之内的：更早的早该做过了。
CLUSTER_EVENTS_NOTED = sa.text(
    "SELECT CAST(event_id AS text) AS event_id, event FROM cluster_events "
    "WHERE event = ANY(CAST(:events AS text[])) AND created_at > clock_timestamp() - interval '1 day'"
)
# 记下此刻哪些节点是那样（seen，JSON 的列表）、哪些出了事（hits，JSON）。
TRIGGERS_SEEN = sa.text(
    """
    UPDATE triggers AS t SET seen = ARRAY(SELECT jsonb_array_elements_text(CAST(d.seen AS jsonb))),
      hits = CAST(d.hits AS jsonb)
    FROM unnest(CAST(:trigger_ids AS bigint[]), CAST(:seen AS text[]), CAST(:hits AS text[]))
      AS d(trigger_id, seen, hits)
    WHERE t.trigger_id = d.trigger_id
    """
)
# 各提交一次程序，最后一个参数是 resources 里的那个；不是 permanent 的、看作业结束与时限的就此删除，
# 别的划掉做过的节点（done，JSON 的列表）。
TRIGGER_RUNS = sa.text(
    f"""
    WITH locked AS MATERIALIZED (
      SELECT t.trigger_id, t.user_name, t.template, t.permanent AND t.event NOT IN ('fini', 'time') AS stays,
        d.resource, ARRAY(SELECT jsonb_array_elements_text(CAST(d.done AS jsonb))) AS done
      FROM unnest(CAST(:trigger_ids AS bigint[]), CAST(:resources AS text[]), CAST(:done AS text[]))
        AS d(trigger_id, resource, done)
      JOIN triggers AS t USING (trigger_id) ORDER BY t.trigger_id FOR UPDATE OF t
    ), due AS MATERIALIZED (
      SELECT nextval('jobs_job_id_seq') AS job_id, * FROM locked
    ), {_submitted({"argv": "ARRAY[due.resource]"}, "trigger")}, gone AS (
      DELETE FROM triggers AS t USING due WHERE t.trigger_id = due.trigger_id AND NOT due.stays
    ), kept AS (
      UPDATE triggers AS t SET hits = t.hits - due.done FROM due WHERE t.trigger_id = due.trigger_id AND due.stays
    )
    SELECT job_id FROM due
    """
)


def template_text(row: dict[str, Any]) -> str:
    """new_job 补全的一行 -> 存下的 JSON。"""
    kept = {name: row[name] for name in TEMPLATE_COLUMNS}
    return json.dumps(kept, ensure_ascii=False, default=lambda value: value.isoformat())


def entries_text(entries: Iterable[tuple[int, int, str, str]]) -> str:
    """crontab 的各项（开始的行、命令的行、时刻、template 的 JSON）-> CRON_ENTRIES_INSERT 的参数。"""
    names = ("first_line", "last_line", "schedule")
    return json.dumps(
        [{**dict(zip(names, each[:3], strict=True)), "template": json.loads(each[3])} for each in entries]
    )
