"""Valkey（或 Redis）里队列的名字，用户至少要的权限，不答时为什么、该改什么。谁都不必为此载入 redis。"""

# 后台进程的两条队列，邮件与 webhook 谁也不等谁；节点的名字不会以 @ 开头。谁都可以取，所以名字里带着化身：
# 合用一个 Valkey 的别的系统不会取走，取走了也是别人的邮件。
BACKGROUND = "@background"
WEBHOOKS = "@webhooks"
# ACL 用户至少要的：RQ 的键与各 API 合用的账，管理的、危险的（KEYS、FLUSHALL）都不要；info 只给健康检查看。
LEAST_ACL = "~rq:* ~scns:limits:* +@read +@write +@connection +@transaction +@scripting +time -@dangerous +info"


def queue_name(node_name: str) -> str:
    """节点的队列名。"""
    return f"scns-node-{node_name}"


def own_name(name: str, incarnation: str) -> str:
    """只属于一个系统的队列名。"""
    return f"{name}@{incarnation}"


def is_permission(error: BaseException) -> bool:
    """是不是 ACL 用户的权限不够。"""
    from redis import exceptions

    return isinstance(error, exceptions.NoPermissionError)


def valkey_trouble(error: BaseException) -> str:
    """一句话：为什么，该改什么；带着服务器的原话。"""
    from redis import exceptions

    said = str(error).strip() or type(error).__name__
    if is_permission(error):
        return f"Valkey 的用户缺少权限：{said}；请给它 ACL SETUSER 用户 {LEAST_ACL}"
    # 连的时候出的错，库有时包成一般的 ConnectionError。
    if any(isinstance(each, exceptions.AuthenticationError) for each in (error, error.__cause__, error.__context__)):
        return f"Valkey 不认 SCNS_REDIS_URL 里的用户或口令：{said}；应如 redis://用户:口令@主机:6379/0"
    if isinstance(error, exceptions.OutOfMemoryError):
        return f"Valkey 的内存满了，不收消息：{said}；请改大它的 maxmemory"
    if isinstance(error, exceptions.ReadOnlyError):
        return f"Valkey 是只读的副本：{said}；请让 SCNS_REDIS_URL 指向主库"
    return f"无法连接 Valkey：{said}；请看它是否在运行、SCNS_REDIS_URL 对不对"
