"""许可证：此刻谁用着。"""

import sqlalchemy as sa

from scns_conductor.statements.conditions import ACTIVE

# 占着资源的作业各要的许可证。
HELD_LICENSES = sa.text(
    f"SELECT licenses FROM jobs WHERE state IN {ACTIVE} AND licenses IS NOT NULL AND licenses <> ''"
)
