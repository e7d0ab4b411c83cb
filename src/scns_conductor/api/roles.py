"""谁能用哪个端点：一张表，一处执行。没有写进表的端点，应用装配时就不成（build_app 抛 RuntimeError）。

表只说端点；作业、账户是不是够得着，由各业务照身份（core.tokens.Identity）再看那一行。
docs/roles.md 里的表由 rows_of_table 写出，有测试核对。
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from scns_conductor.core.errors import ConductorError, Forbidden
from scns_conductor.core.token_words import READ_SCOPE, SUBMIT_SCOPE
from scns_conductor.core.tokens import Identity


@dataclass(frozen=True, slots=True)
class Rule:
    """一类端点：least 是最低的角色，writes 要改东西，submits 只许提交的令牌也行，own 只给人自己的、没有范围的令牌。"""

    title: str
    least: str = "user"
    writes: bool = False
    submits: bool = False
    own: bool = False

    @property
    def is_open(self) -> bool:
        """不要令牌。"""
        return self.least == "anyone"

    def refusal(self, identity: Identity) -> ConductorError | None:
        """不许的理由；许的是 None。"""
        if self.is_open:
            return None
        if self.own and identity.job_id is not None:
            return Forbidden("作业令牌不能做这件事；请用你自己的令牌", code="job_token_not_enough")
        if not _in_scope(self, identity):
            held = "、".join([*sorted(identity.scopes), *([identity.account] if identity.account else [])])
            return Forbidden(f"这个令牌的范围（{held}）不含这件事；请换一个令牌", code="token_scope")
        if not _HOLDS[self.least](identity, self.writes):
            return Forbidden(f"这件事要{_ROLE_WORDS[self.least]}；请联系管理员", code="admin_required")
        if self.writes and identity.auditor and not identity.privileged:
            return Forbidden("审计员只能看，不能改", code="auditor_reads_only")
        return None


def _in_scope(rule: Rule, identity: Identity) -> bool:
    if identity.account is not None and (rule.own or (rule.writes and rule.least != "user")):
        return False
    if not identity.scopes:
        return True
    if rule.submits and SUBMIT_SCOPE in identity.scopes:
        return True
    return READ_SCOPE in identity.scopes and not (rule.writes or rule.own)


# 角色 -> 够不够；审计员什么都能看。
_HOLDS: Mapping[str, Callable[[Identity, bool], bool]] = {
    "user": lambda identity, writes: True,
    "coordinator": lambda identity, writes: identity.privileged or bool(identity.coordinates),
    "operator": lambda identity, writes: identity.privileged or (identity.auditor and not writes),
    "auditor": lambda identity, writes: identity.admin or identity.auditor,
    "administrator": lambda identity, writes: identity.admin,
}
_ROLE_WORDS = {
    "coordinator": "管理员、Operator 或账户的协调人",
    "operator": "管理员或 Operator",
    "auditor": "管理员或审计员",
    "administrator": "管理员",
}

OPEN = Rule("不要令牌", "anyone")
READ = Rule("看")
SUBMIT = Rule("提交", writes=True, submits=True)
SUBMITTED = Rule("看提交的结果", submits=True)
CHANGE = Rule("动自己的、管着的作业", writes=True)
OWN = Rule("自己的令牌", own=True)
# 地址里有密钥，又一直往外送：作业令牌、有范围的令牌看不到，也定不了。
WATCH = Rule("看自己的 webhook", own=True)
SUBSCRIBE = Rule("定自己的 webhook", writes=True, own=True)
COORDINATE = Rule("管账户", "coordinator", writes=True)
SURVEY = Rule("看全集群的原因", "operator")
OPERATE = Rule("管 QOS 与预留", "operator", writes=True)
# 写了 USER_DELETE 的许用它的人删；别的要管理员、Operator，看那一行才知道。
DELETE_RESERVATION = Rule("删许自己删的预留", writes=True)
AUDIT = Rule("看审计", "auditor")
ADMINISTER = Rule("管节点与分区", "administrator", writes=True)

# 规矩 -> 端点，一行一个；slurmrestd 的 {version} 是各版。
_TABLE: Mapping[Rule, str] = {
    OPEN: """
        GET /
        GET /docs
        GET /docs/oauth2-redirect
        GET /redoc
        GET /openapi.json
        GET /openapi
        GET /openapi/
        GET /openapi/v3
        GET /openapi/v3/
        GET /health/live
        GET /health/ready
        GET /auth/methods
        POST /auth/login
        POST /auth/oidc
        POST /auth/oidc/finish
        POST /auth/device
        POST /auth/device/token
    """,
    READ: """
        GET /jobs
        GET /jobs/arrays
        GET /jobs/{job_id}
        GET /jobs/{job_id}/events
        GET /jobs/{job_id}/dependencies
        GET /jobs/{job_id}/samples
        GET /jobs/{job_id}/script
        GET /jobs/{job_id}/why
        GET /jobs/{job_id}/logs/{stream}
        GET /jobs/steps
        GET /jobs/{job_id}/steps/{step_id:int}
        GET /nodes
        GET /nodemap
        GET /nodes/{name}
        GET /nodes/{name}/events
        GET /partitions
        GET /partitions/{name}
        GET /dashboard
        GET /accounts
        GET /cluster/export
        GET /cluster/schema
        GET /accounts/{name}
        GET /users
        GET /associations
        GET /qos
        GET /qos/{name}
        GET /reservations
        GET /reservations/{name}
        GET /crontab
        GET /triggers
        GET /priorities
        GET /schedule
        GET /shares
        GET /diag
        GET /config
        GET /licenses
        GET /reports/usage
        GET /reports/usage/series
        GET /reports/utilization
        GET /reports/efficiency
        GET /simulate
        GET /notifications
        GET /metrics
        GET /slurm/{version}/ping
        GET /slurm/{version}/diag
        GET /slurm/{version}/shares
        GET /slurm/{version}/licenses
        GET /slurm/{version}/nodes
        GET /slurm/{version}/node/{node_name}
        GET /slurm/{version}/partitions
        GET /slurm/{version}/partition/{partition_name}
        GET /slurm/{version}/reservations
        GET /slurm/{version}/reservation/{reservation_name}
        GET /slurm/{version}/jobs
        GET /slurm/{version}/jobs/state
        GET /slurmdb/{version}/accounts
        GET /slurmdb/{version}/account/{account_name}
        GET /slurmdb/{version}/users
        GET /slurmdb/{version}/user/{name}
        GET /slurmdb/{version}/associations
        GET /slurmdb/{version}/association
        GET /slurmdb/{version}/qos
        GET /slurmdb/{version}/qos/{qos}
        GET /slurmdb/{version}/tres
        GET /slurmdb/{version}/clusters
        GET /slurmdb/{version}/cluster/{cluster_name}
        GET /slurmdb/{version}/wckeys
        GET /slurmdb/{version}/wckey/{id}
        GET /slurmdb/{version}/instances
        GET /slurmdb/{version}/instance
        GET /slurmdb/{version}/config
        GET /slurmdb/{version}/ping
        GET /slurmdb/{version}/diag
        GET /slurmdb/{version}/jobs
        GET /slurmdb/{version}/job/{job_id}
    """,
    SUBMITTED: """
        GET /whoami
        GET /jobs/query/{job_id}
        GET /slurm/{version}/job/{job_id}
    """,
    SUBMIT: """
        POST /jobs/submit
        POST /jobs/submit/batch
        POST /jobs/submit/het
        POST /jobs/plan
        POST /slurm/{version}/job/submit
        POST /slurm/{version}/job/allocate
    """,
    CHANGE: """
        POST /jobs/control
        POST /jobs/cancel/{job_id}
        PATCH /jobs
        PATCH /jobs/{job_id}
        POST /jobs/{job_id}/hold
        POST /jobs/{job_id}/release
        POST /jobs/{job_id}/requeue
        POST /jobs/{job_id}/cancel
        POST /jobs/{job_id}/suspend
        POST /jobs/{job_id}/resume
        POST /jobs/{job_id}/signal
        POST /jobs/{job_id}/steps
        POST /jobs/{job_id}/steps/het
        PATCH /jobs/{job_id}/steps/{step_id:int}
        POST /jobs/{job_id}/steps/{step_id:int}/launch
        POST /jobs/{job_id}/steps/{step_id:int}/attach
        POST /jobs/{job_id}/steps/{step_id:int}/signal
        POST /jobs/{job_id}/release_allocation
        PUT /crontab
        DELETE /crontab
        POST /triggers
        DELETE /triggers
        POST /slurm/{version}/job/{job_id}
        DELETE /slurm/{version}/job/{job_id}
        DELETE /slurm/{version}/jobs
        POST /slurmdb/{version}/jobs
        POST /slurmdb/{version}/job/{job_id}
    """,
    OWN: """
        GET /tokens
        POST /tokens
        DELETE /tokens
        DELETE /tokens/{token_id}
        GET /auth/device/{user_code}
        POST /auth/device/{user_code}
    """,
    WATCH: """
        GET /webhooks
        GET /webhooks/{webhook_id:int}
        GET /webhooks/deliveries
    """,
    SUBSCRIBE: """
        POST /webhooks
        PATCH /webhooks/{webhook_id:int}
        DELETE /webhooks/{webhook_id:int}
        POST /webhooks/{webhook_id:int}/ping
        POST /webhooks/{webhook_id:int}/redeliver
    """,
    COORDINATE: """
        POST /accounts
        PATCH /accounts/{name}
        DELETE /accounts/{name}
        PUT /accounts/{name}/coordinators/{user}
        DELETE /accounts/{name}/coordinators/{user}
        PATCH /users/{name}
        DELETE /users/{name}
        POST /associations
        PATCH /associations/{association_id}
        DELETE /associations/{association_id}
        POST /slurmdb/{version}/accounts
        POST /slurmdb/{version}/users
        POST /slurmdb/{version}/associations
        POST /slurmdb/{version}/accounts_association
        POST /slurmdb/{version}/users_association
        DELETE /slurmdb/{version}/account/{account_name}
        DELETE /slurmdb/{version}/user/{name}
        DELETE /slurmdb/{version}/associations
        DELETE /slurmdb/{version}/association
    """,
    AUDIT: """
        GET /audit
    """,
    SURVEY: """
        GET /cluster/why
    """,
    OPERATE: """
        POST /cluster/apply
        POST /qos
        PATCH /qos/{name}
        DELETE /qos/{name}
        POST /reservations
        PATCH /reservations/{name}
        POST /slurm/{version}/reservation
        POST /slurm/{version}/reservations
        POST /slurmdb/{version}/qos
        POST /slurmdb/{version}/config
        DELETE /slurmdb/{version}/qos/{qos}
        POST /slurmdb/{version}/clusters
        DELETE /slurmdb/{version}/cluster/{cluster_name}
        POST /slurmdb/{version}/tres
        POST /slurmdb/{version}/wckeys
        DELETE /slurmdb/{version}/wckey/{id}
    """,
    DELETE_RESERVATION: """
        DELETE /reservations/{name}
        DELETE /slurm/{version}/reservation/{reservation_name}
    """,
    ADMINISTER: """
        POST /nodes
        PATCH /nodes/{name}
        POST /nodes/{name}/reboot
        DELETE /nodes/{name}/reboot
        DELETE /nodes/{name}
        POST /partitions
        PATCH /partitions/{name}
        DELETE /partitions/{name}
        POST /diag/reset
        POST /jobs/history
        POST /history/archive
        POST /history/load
        GET /slurm/{version}/reconfigure
        POST /slurm/{version}/node/{node_name}
        POST /slurm/{version}/nodes
        DELETE /slurm/{version}/node/{node_name}
        POST /slurm/{version}/new/node
    """,
}
RULES: Mapping[tuple[str, str], Rule] = {
    (method, path): rule
    for rule, text in _TABLE.items()
    for method, path in (line.split() for line in text.strip().splitlines())
}


def authorize(method: str, path: str, identity: Identity) -> None:
    """这个身份用不了这个端点（路由的样子，如 /jobs/{job_id}）的抛 Forbidden。"""
    refusal = RULES[method, path].refusal(identity)
    if refusal is not None:
        raise refusal


def without_rule(endpoints: Iterable[tuple[str, str]]) -> list[str]:
    """没有写进表的端点。"""
    return sorted({f"{method} {path}" for method, path in endpoints} - {f"{m} {p}" for m, p in RULES})


# docs/roles.md 里的各列：各是一种令牌。
COLUMNS: Mapping[str, Identity | None] = {
    "没有令牌": None,
    "作业令牌": Identity("u", admin=False, job_id=1),
    "普通用户": Identity("u", admin=False),
    "协调人": Identity("u", admin=False, coordinates=frozenset({"lab"})),
    "Operator": Identity("u", admin=False, operator=True),
    "管理员": Identity("u", admin=True),
    "审计员": Identity("u", admin=False, auditor=True),
    "只读": Identity("u", admin=False, scopes=frozenset({READ_SCOPE})),
    "只许提交": Identity("u", admin=False, scopes=frozenset({SUBMIT_SCOPE})),
}


def rows_of_table() -> Iterator[str]:
    """docs/roles.md 的表，Markdown，一行一个端点。"""
    yield f"| 端点 | 规矩 | {' | '.join(COLUMNS)} |"
    yield "|---|---|" + "---|" * len(COLUMNS)
    for (method, path), rule in RULES.items():
        marks = ["✓" if allowed(rule, identity) else "" for identity in COLUMNS.values()]
        yield f"| `{method} {path}` | {rule.title} | {' | '.join(marks)} |"


def allowed(rule: Rule, identity: Identity | None) -> bool:
    """这个身份用不用得了；None 是没有令牌。"""
    return rule.is_open or (identity is not None and rule.refusal(identity) is None)
