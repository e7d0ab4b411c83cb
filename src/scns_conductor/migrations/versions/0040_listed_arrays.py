"""步长不一的数组：任务号列在 array_listed 里，没有启动的任务按序号记

Revision ID: 0040
Revises: 0039
"""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """升级。"""
    op.add_column("jobs", sa.Column("array_listed", sa.LargeBinary(), nullable=True))
    # 下面的函数也读历史的。
    op.execute("ALTER TABLE history.jobs ADD COLUMN array_listed bytea")
    # 不压缩：取一个任务号只读它所在的那一块。
    for table in ("jobs", "history.jobs"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN array_listed SET STORAGE EXTERNAL")
    # 第几个任务的号。
    op.execute(
        """
        CREATE FUNCTION scns_listed_task(listed bytea, slot integer) RETURNS integer
        LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
          SELECT ('x' || encode(substr(listed, 4 * slot + 1, 4), 'hex'))::bit(32)::integer
        $$
        """
    )
    # 比这个任务号小的有几个。
    op.execute(
        """
        CREATE FUNCTION scns_listed_before(listed bytea, task_id integer) RETURNS integer
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
        DECLARE
          low integer := 0;
          high integer := octet_length(listed) / 4;
          middle integer;
        BEGIN
          WHILE low < high LOOP
            middle := (low + high) / 2;
            IF ('x' || encode(substr(listed, 4 * middle + 1, 4), 'hex'))::bit(32)::integer < task_id THEN
              low := middle + 1;
            ELSE
              high := middle;
            END IF;
          END LOOP;
          RETURN low;
        END
        $$
        """
    )
    # 一个数组的写法与任务号：平常的表里没有的，在历史里。
    op.execute(
        """
        CREATE FUNCTION scns_listed_of(array_id bigint) RETURNS TABLE (asked text, listed bytea)
        LANGUAGE sql STABLE PARALLEL SAFE AS $$
          SELECT j."array", j.array_listed FROM jobs AS j WHERE j.job_id = array_id
          UNION ALL
          SELECT j."array", j.array_listed FROM history.jobs AS j WHERE j.job_id = array_id
          LIMIT 1
        $$
        """
    )
    # 任务号的区间 -> 其中的任务的序号。
    op.execute(
        """
        CREATE FUNCTION scns_listed_slots(array_id bigint, wanted int4multirange) RETURNS int4multirange
        LANGUAGE sql STABLE PARALLEL SAFE AS $$
          SELECT coalesce(range_agg(int4range(low, high)), '{}')
          FROM scns_listed_of(array_id) AS l, unnest(wanted) AS w,
            LATERAL (SELECT scns_listed_before(l.listed, lower(w)) AS low) AS lower_end,
            LATERAL (SELECT scns_listed_before(l.listed, upper(w)) AS high) AS upper_end
          WHERE low < high
        $$
        """
    )
    # 这些序号的任务照 --array 的写法：每一段序号里，各项截到这一段的任务号。
    op.execute(
        r"""
        CREATE FUNCTION scns_listed_text(array_id bigint, slots int4multirange) RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE AS $$
          SELECT string_agg(CASE WHEN first = last THEN first::text ELSE first || '-' || last ||
            CASE WHEN step = 1 THEN '' ELSE ':' || step END END, ',' ORDER BY first, last, step)
          FROM (
            SELECT DISTINCT first, last, CASE WHEN first = last THEN 1 ELSE step END AS step
            FROM scns_listed_of(array_id) AS l,
            LATERAL (
              SELECT scns_listed_task(l.listed, lower(r)) AS low, scns_listed_task(l.listed, upper(r) - 1) AS high
              FROM unnest(slots) AS r
            ) AS spans,
            LATERAL (
              SELECT m[1]::bigint AS start, coalesce(m[2], m[1])::bigint AS stop, coalesce(m[3], '1')::bigint AS step
              FROM regexp_matches(split_part(l.asked, '%', 1), '(\d+)(?:-(\d+)(?::(\d+))?)?', 'g') AS m
            ) AS items,
            LATERAL (SELECT start + greatest(0, (low - start + step - 1) / step) * step AS first) AS lower_end,
            LATERAL (SELECT start + (least(stop, high) - start) / step * step AS last) AS upper_end
            WHERE start <= high AND first <= last
          ) AS cut
        $$
        """
    )


def downgrade() -> None:
    """降级。"""
    op.execute("DROP FUNCTION scns_listed_text(bigint, int4multirange)")
    op.execute("DROP FUNCTION scns_listed_slots(bigint, int4multirange)")
    op.execute("DROP FUNCTION scns_listed_of(bigint)")
    op.execute("DROP FUNCTION scns_listed_before(bytea, integer)")
    op.execute("DROP FUNCTION scns_listed_task(bytea, integer)")
    op.drop_column("jobs", "array_listed")
