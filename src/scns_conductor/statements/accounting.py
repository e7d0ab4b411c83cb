"""读出账户树与 QOS 的快照：账户、关联、QOS、用户，各一条语句。"""

import sqlalchemy as sa

# 账户树：各账户与它的上级。
SELECT_ACCOUNTS = sa.text("SELECT name, parent FROM accounts ORDER BY name")
# 各关联的份额、QOS 与上限。
SELECT_ASSOCIATIONS = sa.text(
    "SELECT account, user_name, partition, shares, priority, default_qos, qos, grp_tres, grp_tres_mins, "
    "grp_tres_run_mins, grp_jobs, grp_submit_jobs, grp_wall, max_jobs, max_submit_jobs, max_tres_per_job, "
    "max_tres_per_node, max_tres_mins_per_job, max_wall FROM associations ORDER BY association_id"
)
# 各 QOS。
SELECT_QOS = sa.text("SELECT * FROM qos ORDER BY name")
# 各用户的管理级别、缺省账户、作协调人的账户。
SELECT_USERS = sa.text(
    "SELECT name, admin_level, default_account, ARRAY(SELECT account FROM account_coordinators "
    "WHERE user_name = users.name) AS coordinates FROM users ORDER BY name"
)
