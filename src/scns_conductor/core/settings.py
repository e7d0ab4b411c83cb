"""全系统的设置：环境变量 SCNS_… 与一个 TOML 文件，前者优先；不认识的名字一律是错误。

TOML 文件是 SCNS_CONFIG（scns --config）所指的；没有指就依次找数据目录下的 config.toml、
/etc/scns-conductor/config.toml。当前目录从来不看：谁都能在那里放一个文件。
"""

import difflib
import os
import pwd
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as UndecodableSetting

from scns_conductor.core.errors import SettingsError
from scns_conductor.core.node_settings import NodeCareSettings

_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# slurm.conf(5)：写了这个，也就要那些。
_IMPLIED: dict[str, tuple[str, ...]] = {
    "associations": (),
    "limits": ("associations",),
    "qos": ("associations",),
    "safe": ("associations", "limits"),
}


CONFIG_NAME = "config.toml"
SYSTEM_CONFIG = Path("/etc/scns-conductor") / CONFIG_NAME

# SCNS_ 开头而不是设置项的环境变量；别的一律当作写错了的设置项。
OTHER_VARIABLES = frozenset(
    {
        # 客户端的：系统在哪里、令牌、语言、输出的样子。
        "SCNS_URL", "SCNS_TOKEN", "SCNS_TOKEN_FILE", "SCNS_LANG", "SCNS_SACCT_CANCELLED_BY",
        # 设置文件在哪里；进程之间传的。
        "SCNS_CONFIG", "SCNS_API_FD",
        # 作业里有的（在作业里也可以 scns up）。
        "SCNS_JOB_ID", "SCNS_JOB_NAME", "SCNS_JOB_KEY", "SCNS_JOB_TOKEN", "SCNS_ATTEMPT",
    }
)  # fmt: skip


def config_file() -> Path | None:
    """正在使用的 TOML 文件；没有则为 None。读不了的、指了却不存在的、可能是别人放的抛 SettingsError。"""
    named = os.environ.get("SCNS_CONFIG")
    if named:
        if not _readable(Path(named)):
            raise SettingsError(f"所指的设置文件不存在：{named}（scns --config 或 SCNS_CONFIG）")
        return Path(named)
    own = Path(os.environ.get("SCNS_DATA_DIR") or default_data_dir()) / CONFIG_NAME
    if _readable(own):
        found = own.stat()
        # 数据目录可以归跑服务的普通用户所有：root 不照着他写的运行。
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise SettingsError(f"设置文件 {own} 别人能改，不能用；请改成自己的，并 chmod go-w {own}")
        return own
    return SYSTEM_CONFIG if _readable(SYSTEM_CONFIG) else None


def _readable(path: Path) -> bool:
    """在且读得了；不在返回 False，在而读不了抛 SettingsError。"""
    try:
        open(path, "rb").close()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise SettingsError(
            f"读不了设置文件 {path}：{error.strerror}；请换成读得了的用户，"
            "或用 scns --config 另指一个（--config /dev/null 是不用任何文件）"
        ) from error
    return True


def default_data_dir() -> Path:
    """root 用 /var/lib/scns-conductor，普通用户用 ~/.local/share/scns-conductor。"""
    if os.geteuid() == 0:
        return Path("/var/lib/scns-conductor")
    return Path.home() / ".local/share/scns-conductor"


def current_user_name() -> str:
    """当前有效用户的名字；系统里没有登记时用数字 uid。"""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def default_backfill_depth(given: Mapping[str, Any]) -> int:
    """没有写 backfill_depth 时的值，看 scheduler_policy。"""
    return 1 if given.get("scheduler_policy") == "easy_predicted" else 100


class Settings(NodeCareSettings):
    """设置项；环境变量名是 SCNS_ 加大写的字段名。"""

    model_config = SettingsConfigDict(env_prefix="SCNS_", extra="forbid", frozen=True)

    cluster_name: str = Field("scns", description="集群名，写进 SLURM_CLUSTER_NAME 与 sacct 的 Cluster 列")
    slurm_version: Literal["22.05", "23.02", "23.11", "24.05", "24.11", "25.05", "25.11"] = Field(
        "25.11", description="slurmrestd 与命令说自己是哪一版 Slurm；命令看同名的环境变量"
    )
    data_dir: Path = Field(default_factory=default_data_dir, description="数据目录")
    database_url: SecretStr = Field(
        SecretStr("postgresql:///scns"),
        description="PostgreSQL 的地址，postgresql://用户:口令@主机/库；套接字写 ?host=/目录，几台用逗号隔开",
    )
    database_direct_url: SecretStr | None = Field(
        None,
        description="不经连接池的地址；写了它，database_url 就当作事务模式的 PgBouncer，"
        "只有选举、听通知、迁移与备份走这里",
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Redis 或 Valkey 的地址；套接字写 unix:///路径?db=0"
    )
    database_pool_size: int = Field(10, ge=1, le=200, description="每个进程的数据库连接数上限")
    database_idle_close_s: float = Field(
        20.0, ge=0, description="代理的数据库会话闲这么久（秒）就关掉，用时再开，0 不关；心跳与核对的间隔比它长时才见效"
    )
    database_statement_timeout_s: float = Field(
        60.0, ge=0, description="一条语句至多执行多久（秒），0 不限；迁移不受限"
    )
    database_lock_timeout_s: float = Field(
        5.0, ge=0, description="至多等一个锁多久（秒），0 不限；API 等不到时回答 503（row_locked）"
    )
    database_idle_transaction_timeout_s: float = Field(
        60.0, ge=0, description="事务里至多闲多久（秒），0 不限；停住的进程占着的锁到时放开"
    )

    api_host: str = Field("127.0.0.1", description="API 监听的地址；非回环地址要求显式给出 jwt_key_file")
    api_port: int = Field(6820, ge=0, le=65535, description="API 监听的端口，0 表示任意空闲端口")
    api_socket: Path | None = Field(
        None,
        description="API 另外听的 Unix 套接字：本机的用户不用令牌，是谁由内核说；scns setup 写成 "
        "/run/scns-conductor/api.sock，空的不开",
    )
    api_connections: int = Field(
        4096, ge=16, description="API 至多同时多少连接；满了先断等得最久的空闲连接。超过文件描述符的上限时以后者为准"
    )
    api_connections_per_address: int = Field(
        512, ge=0, description="一个地址至多多少连接；0 是不限（API 在反向代理之后时，地址都是代理的）"
    )
    api_header_timeout_s: float = Field(15.0, gt=0, description="请求头至多多久收齐（秒）；请求体每 16 KiB 再宽限一秒")
    api_bodies_max_bytes: int = Field(
        128 * 1024**2,
        ge=1024**2,
        description="正在收、正在办的请求体合计至多多少字节，一个用户至多一半；超过的回答 503",
    )
    api_url: str | None = Field(
        None, description="API 的地址，如 http://head:6820；节点把它交给作业（SCNS_URL），作业里的 squeue、srun 靠它"
    )
    web_host: str = Field("127.0.0.1", description="网页看板监听的地址；给别人用请放在 HTTPS 的反向代理之后")
    web_port: int = Field(6821, ge=0, le=65535, description="网页看板监听的端口，0 表示任意空闲端口")
    web_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="看板给浏览器的地址，如 https://scns.example.org；scns login 的批准页、OIDC 的回调在它下面",
    )
    scheduler_metrics: str = Field(
        "127.0.0.1:6823", description="调度器的 Prometheus 指标在哪里答（主机:端口，端口 0 是任意空闲的）；空的是不开"
    )
    agent_metrics: str = Field("127.0.0.1:6822", description="节点代理的 Prometheus 指标在哪里答；空的是不开")
    web_metrics: str = Field("127.0.0.1:6824", description="看板的 Prometheus 指标在哪里答；空的是不开")
    otel_endpoint: str | None = Field(
        None, description="OpenTelemetry 的轨迹送到哪里（OTLP/HTTP，如 http://127.0.0.1:4318）；要装附加组件 otel"
    )
    otel_ratio: float = Field(1.0, ge=0, le=1, description="留下几成作业的轨迹（0–1）")
    jwt_key_file: Path | None = Field(None, description="令牌签名密钥的文件（0600）；缺省为数据目录下的 jwt.key")
    token_lifetime_s: int = Field(30 * 86400, ge=60, description="签发令牌的默认有效期（秒）")
    token_issuer_required: bool = Field(
        False, description="为真则只认本系统签发的令牌；为假也认没有 iss 的（同一个密钥的 scontrol token）"
    )
    rate_limit_per_token: float = Field(
        5000.0, ge=0, description="一个令牌每秒至多几个请求（每个 API 进程），超过的回答 429；0 是不限"
    )
    rate_limit_per_address: float = Field(
        10000.0, ge=0, description="一个地址每秒至多几个请求（每个 API 进程），超过的回答 429；在反向代理之后写 0"
    )
    bad_tokens_per_minute: float = Field(
        600.0, ge=0, description="一个地址一分钟至多几个不对的令牌，再来的没有见过的令牌先不核对，回答 429；0 是不限"
    )
    pam_service: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="用系统的用户与口令登录时问哪个 PAM 服务（/etc/pam.d 下的名字，如 scns-conductor）；"
        "不写就不开，要装附加组件 pam",
    )
    login_root: bool = Field(False, description="root 能不能用口令、OIDC 登录")
    login_lifetime_s: int = Field(7 * 86400, ge=60, description="登录得到的令牌至多有效多久（秒）")
    oidc_issuer: str | None = Field(
        None,
        description="OIDC 的签发者（如 https://login.example.org/realms/x）；写了它就能单点登录，要装附加组件 oidc",
    )
    oidc_name: str = Field("单点登录", min_length=1, max_length=40, description="登录页上那个按钮的字")
    oidc_client_id: str | None = Field(
        None, description="在签发者那里登记的 client_id；回调是 web_url 加 /login/oidc/callback"
    )
    oidc_client_secret: SecretStr | None = Field(None, description="client_id 的口令；公开的客户端没有")
    oidc_scope: str = Field("openid profile email", description="向签发者要的 scope")
    oidc_user_claim: str = Field("preferred_username", description="ID 令牌的哪个声明是用户")
    oidc_user_map: dict[str, str] = Field(
        default_factory=dict, description='声明的值对应哪个系统用户：{"声明的值": "用户"}；没写的就是值本身'
    )
    oidc_domain: str | None = Field(
        None, description="声明的值是 用户@域 时，只认这个域，去掉它；oidc_user_map 里写了的不看"
    )
    simulations_at_once: int = Field(
        2, ge=0, le=64, description="一个 API 进程同时算几个「假如」（GET /simulate，各一个进程、至多 1 GiB）；0 是关掉"
    )
    script_max_bytes: int = Field(16 * 1024**2, ge=1, description="脚本的上限（字节）")
    batch_max_jobs: int = Field(10_000, ge=1, le=100_000, description="批量提交一次最多的作业数")
    batch_max_bytes: int = Field(64 * 1024**2, ge=1024, description="批量提交的请求体的上限（字节）")
    array_max_tasks: int = Field(4_000_000, ge=1, description="一个作业数组最多的任务数（Slurm 的 MaxArraySize）")
    enforce_part_limits: bool = Field(
        False,
        description="为真则提交时拒绝超过分区时限与节点数的作业（Slurm 的 EnforcePartLimits），为假则排队并说明原因",
    )
    default_memory_mb_per_cpu: int = Field(
        0, ge=0, description="作业没有写内存时每 CPU 的默认内存（MiB）；0 表示不占内存额度"
    )
    min_job_age_s: int = Field(300, ge=0, description="结束的作业在 squeue 里还可见的秒数（Slurm 的 MinJobAge）")

    script_dir: Path | None = Field(
        None, description="作业脚本 job_{id}.sh 的目录；缺省 /var/scns-conductor/scripts，不可写时在数据目录下"
    )
    spool_dir: Path | None = Field(None, description="节点的工作目录（日志、套接字）；缺省在数据目录下")
    node_name: str = Field(
        default_factory=lambda: socket.gethostname().split(".")[0], description="本节点的名字，缺省为短主机名"
    )
    node_address: str | None = Field(None, description="别的节点用来连到本节点的地址，缺省与名字相同")
    node_cpus: int | None = Field(None, ge=1, description="本节点的 CPU 数，缺省为探测值")
    node_cpu_unit: Literal["thread", "core"] = Field(
        "thread",
        description="一个 CPU 是什么：thread 是一个线程，core 是一个核（它的全部线程归一个作业，Slurm 的 CR_Core）",
    )
    node_cpu_topology: str | None = Field(
        None,
        description="本节点的 插槽:每插槽的核[:每核的线程[:NUMA 节点数]]，如 2:32:2，缺省为探测值；"
        "可以多于真有的（不绑核）",
    )
    node_memory: str | None = Field(None, description="本节点的内存，如 64G，缺省为探测值")
    node_gpus: int | None = Field(None, ge=0, description="本节点的 GPU 数，缺省为探测值")
    node_gres: str | None = Field(None, description="本节点的通用资源，Slurm 写法，如 gpu:a100:4，优先于 node_gpus")
    node_gpu_shares: str = Field(
        "",
        description="几个作业合用的卡，序号:shard:几份 或 序号:mps:100，逗号相隔；这些卡不再整块地给（--gres=shard:1）",
    )
    gpu_watch_interval_s: float = Field(
        30.0, ge=0, description="多久看一次 GPU 还在不在、MIG 有没有重新划分（秒），连着两次才算；0 是不看"
    )
    node_features: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="本节点的特性，逗号分隔，供 --constraint 使用"
    )
    node_weight: int = Field(1, ge=0, description="节点权重，放置时先用权重小的")
    node_topology: str | None = Field(None, description="本节点所在的交换机路径，如 core/rack1，供拓扑感知放置")
    heartbeat_interval_s: float = Field(5.0, gt=0, description="节点心跳的间隔（秒）")
    job_sample_interval_s: float = Field(
        10.0, ge=0, description="多久记一次各作业的 CPU、内存、GPU（秒）；比这短的作业没有曲线，0 是不记"
    )
    node_timeout_s: float = Field(60.0, gt=0, description="多久没有心跳算节点失联（秒；Slurm 的 SlurmdTimeout）")
    kill_wait_s: float = Field(30.0, ge=0, description="SIGTERM 之后多久发 SIGKILL（秒；Slurm 的 KillWait）")
    containment: Literal["auto", "off", "required"] = Field(
        "auto", description="是否用 cgroup 约束作业：auto 能用则用，off 不用，required 不能用就拒绝启动"
    )
    foreign_jobs: Literal["kill", "keep"] = Field(
        "kill",
        description="数据库恢复之后，节点上它不认识的旧作业：kill 杀掉，keep 留着跑完（其间节点排空）",
    )
    single_user: bool = Field(False, description="单用户模式：作业以启动者的身份运行（scns up）")
    allow_root_jobs: bool = Field(False, description="是否允许作业以 root 身份运行")
    task_prolog: Path | None = Field(None, description="管理员的 prolog 程序，在作业前以代理的身份运行")
    nohold_on_prolog_fail: bool = Field(
        False,
        description="prolog 失败的作业重新排队时不保留（Slurm 的 nohold_on_prolog_fail）；在两个节点上失败过的总是保留",
    )
    task_epilog: Path | None = Field(None, description="管理员的 epilog 程序，在作业后以代理的身份运行")
    container_runtime: str | None = Field(
        None, description="--container 的运行时（crun 或 runc 的名字、路径）；不写先找 crun，再找 runc"
    )
    container_image_program: str | None = Field(
        None, description="--container-image 用哪个程序（podman 或 apptainer）；不写先找 podman，再找 apptainer"
    )
    container_mounts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="容器里也看得见的目录，逗号分隔，写成 目录 或 源:处[:ro]；/tmp、家目录、工作目录总看得见",
    )
    output_tail_bytes: int = Field(65536, ge=0, le=16 * 1024**2, description="作业结束时收进数据库的输出尾部（字节）")

    scheduler_enabled: bool | None = Field(
        None, description="本机是否参选调度领导者；不写时 scns api 的机器参选，scns worker 的不参选"
    )
    scheduler_policy: Literal["fifo", "easy", "conservative", "easy_predicted"] = Field(
        "easy", description="排队与回填的策略；easy_predicted 是照历史预测的运行时间，短的先回填"
    )
    priority_type: Literal["basic", "multifactor"] = Field(
        "basic", description="优先级：basic 按提交先后，multifactor 多因子"
    )
    priority_weights: dict[str, float] = Field(
        default_factory=dict,
        description="multifactor 的权重：age、fairshare、job_size、partition、qos、assoc 及 tres/cpu 等",
    )
    priority_max_age_s: float = Field(7 * 86400, gt=0, description="等待因子多久到顶（秒；Slurm 的 PriorityMaxAge）")
    priority_decay_half_life_s: float = Field(
        7 * 86400, gt=0, description="用量的半衰期（秒；Slurm 的 PriorityDecayHalfLife）"
    )
    priority_calc_period_s: float = Field(
        300.0, gt=0, description="多久重算一次优先级（秒；Slurm 的 PriorityCalcPeriod）；新到的作业当场算"
    )
    priority_favor_small: bool = Field(False, description="大小因子反过来，小作业优先（Slurm 的 PriorityFavorSmall）")
    fair_shares: dict[str, int] = Field(
        default_factory=dict,
        description='没有建账户时的公平份额：{"账户": 份额, "账户/用户": 份额}，没写的是 1；没账户的作业算在 (none) 里',
    )
    accounting_storage_enforce: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="核对什么（Slurm 的 AccountingStorageEnforce），逗号分隔：associations 要有关联，limits 关联与 "
        "QOS 的上限，qos 只用许用的 QOS，safe 用量跑完也不会超才启动；后三个都含 associations。缺省什么也不核对",
    )
    placement: Literal["best_fit", "spread", "weight", "topology"] = Field("best_fit", description="放置方式")
    max_switch_wait_s: int = Field(
        300, ge=0, description="--switches 至多等多少秒（秒；Slurm 的 max_switch_wait），之后跨几个交换机都行"
    )
    backfill_depth: int = Field(
        default_factory=default_backfill_depth,
        ge=0,
        description="最多为多少个排在前面的受阻作业保留未来的资源；缺省 100，easy_predicted 是每个分区 1 个",
    )
    suspend_frees: Literal["nothing", "cpus"] = Field(
        "nothing",
        description="scns suspend（scontrol suspend）放开什么：nothing 仍占着全部，恢复不必等；"
        "cpus 把 CPU 让给别人（Slurm 的做法），内存与 GPU 仍占着，恢复要等 CPU 空出来",
    )
    preempt_type: Literal["none", "partition_prio", "qos"] = Field(
        "none",
        description="抢占的依据（Slurm 的 PreemptType）：partition_prio 按分区的层级，高的抢占低的；"
        "qos 按 QOS 的 preempt 列表",
    )
    preempt_mode: Literal["requeue", "cancel", "suspend", "off"] = Field(
        "requeue",
        description="分区（QOS）没有写 preempt_mode 时的方式；requeue 时不许重新排队的作业也只能取消；"
        "suspend 挂起并借出 CPU，抢占者结束后恢复",
    )
    preempt_exempt_time_s: int = Field(
        0, ge=0, description="作业运行满多少秒才许被抢占（Slurm 的 PreemptExemptTime）；QOS 写了的为准"
    )
    kill_invalid_dependency: bool = Field(False, description="依赖永远不能满足的作业是否直接取消")
    licenses: str = Field("", description="全集群的许可证，如 matlab:5,ansys:2（slurm.conf 的 Licenses）")
    relay: bool = Field(
        True, description="短作业一个接一个时，节点写结束的同时就地启动调度器排好的下一个（接力）；假则每个都等调度器"
    )
    scheduler_lease_s: float = Field(2.0, gt=0, description="领导者的租期（秒），过期后别的候选者接管")
    reconcile_interval_s: float = Field(10.0, gt=0, description="慢速核对的间隔（秒）")

    smtp_host: str | None = Field(None, description="邮件服务器；写了它才发 --mail-type 的邮件（Slurm 的 MailProg）")
    smtp_port: int = Field(25, ge=1, le=65535, description="邮件服务器的端口")
    smtp_security: Literal["none", "starttls", "tls"] = Field(
        "none", description="与邮件服务器怎样加密：none 不加密，starttls 先连再加密，tls 一开始就加密"
    )
    smtp_user: str | None = Field(None, description="登录邮件服务器的用户；不写就不登录")
    smtp_password: SecretStr | None = Field(None, description="上面那个用户的口令")
    mail_from: str | None = Field(None, description="发件人；不写是 scns@本机的全名")
    mail_domain: str | None = Field(
        None, description="收件人没有写 @ 时接上的域（Slurm 的 MailDomain）；不写就交给邮件服务器去认用户名"
    )
    mail_language: Literal["zh", "en"] = Field(
        "zh", description="邮件正文、webhook 的群消息的语言；邮件的标题同 Slurm，是英文"
    )
    mail_hourly_limit: int = Field(200, ge=1, description="一个用户一小时至多几封，超过的不发、记下原因")

    job_submit_plugin: str | None = Field(
        None,
        description="站点的提交策略（Slurm 的 JobSubmitPlugins）：Python 文件的绝对路径，"
        "或入口点（组 scns_conductor.job_submit）的名字；不写就没有",
    )
    job_submit_timeout_s: float = Field(
        5.0, gt=0, le=60, description="提交策略一次至多多久（秒），一批里每个作业另加 2 毫秒；过了就结束它"
    )
    job_submit_failure: Literal["refuse", "pass"] = Field(
        "refuse", description="提交策略出了错（装不进来、抛异常、太久、写的字段不合法）：refuse 不收，pass 照原样收下"
    )
    webhooks: bool = Field(False, description="可不可以订阅 webhook（scns webhooks）；真则多一个后台进程往外送")
    webhook_allowed_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = Field(
        default_factory=list,
        description="webhook 还可以送到的内部网段，逗号分隔，如 10.1.0.0/16,192.168.5.7/32；没有写的，本机、内网、"
        "链路本地与云的元数据地址都不许",
    )
    webhook_timeout_s: float = Field(10.0, gt=0, le=30, description="一个 webhook 请求至多多久（秒），从连接到答完")
    webhooks_per_user: int = Field(20, ge=1, le=1000, description="一个人至多几个 webhook 订阅")

    log_format: Literal["console", "json"] = Field("console", description="日志格式")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="日志级别")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """来源的先后：代码、环境变量、TOML 文件。"""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    @field_validator(
        "node_features", "accounting_storage_enforce", "container_mounts", "webhook_allowed_networks", mode="before"
    )
    @classmethod
    def split_words(cls, value: Any) -> Any:
        """逗号分隔的文字也可以。"""
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("api_socket", "pam_service", "oidc_issuer", "web_url", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("scheduler_metrics", "agent_metrics", "web_metrics")
    @classmethod
    def _listen_address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if value and not (colon and host and port.isdecimal() and int(port) < 65536):
            raise ValueError("要写成 主机:端口，如 127.0.0.1:6822；空的是不开")
        return value

    @field_validator("node_name")
    @classmethod
    def _plain_node_name(cls, value: str) -> str:
        # 主机列表里有含义的字符、空白都不能在名字里；它也是 spool 下的目录名。
        if not _NODE_NAME.fullmatch(value):
            raise ValueError("节点名只能有字母、数字、. _ -，以字母或数字开头，至多 64 个字符")
        return value

    @field_validator("accounting_storage_enforce")
    @classmethod
    def known_enforcement(cls, value: list[str]) -> list[str]:
        """认得的词连同它们包含的；不认得的抛 ValueError。"""
        words = [word.lower() for word in value if word.lower() != "none"]
        for word in words:
            if word not in _IMPLIED:
                raise ValueError(f"只能是 {'、'.join(_IMPLIED)}，不能是 {word!r}")
        return sorted({each for word in words for each in (word, *_IMPLIED[word])})

    def require_key_to_listen(self, host: str) -> None:
        """不在回环地址上监听时必须有自己的密钥；否则抛 SettingsError。"""
        try:
            loopback = host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback and self.jwt_key_file is None:
            raise SettingsError(f"要监听 {host} 必须先给出自己的密钥：设置 SCNS_JWT_KEY_FILE（回环地址不需要）")

    @property
    def background_needed(self) -> bool:
        """要不要后台进程：发邮件、送 webhook、管节点的电源。"""
        return self.smtp_host is not None or self.webhooks or self.elastic

    @property
    def jwt_key_path(self) -> Path:
        """令牌签名密钥的位置。"""
        return self.jwt_key_file or self.data_dir / "jwt.key"

    @property
    def spool_path(self) -> Path:
        """本节点的工作目录；同机多节点时各用各的。"""
        return self.spool_dir or self.data_dir / "spool" / self.node_name

    @property
    def script_path(self) -> Path:
        """作业脚本的目录。"""
        if self.script_dir is not None:
            return self.script_dir
        return Path("/var/scns-conductor/scripts") if os.geteuid() == 0 else self.data_dir / "scripts"


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """读出设置并缓存；有误时抛 SettingsError，逐项说明（中文）。"""
    file = config_file()
    unknown = [
        _unknown(f"环境变量 {name}", name.removeprefix("SCNS_").lower(), "SCNS_{}", str.upper)
        for name in sorted(os.environ)
        if name.startswith("SCNS_") and name not in OTHER_VARIABLES and not _is_setting(name)
    ]
    try:
        if unknown:
            raise SettingsError("设置有误：" + "；".join(unknown))
        return Settings()
    except ValidationError as error:
        raise SettingsError("设置有误：" + "；".join(_told(item, file) for item in error.errors())) from error
    except UndecodableSetting as error:
        # 表与数组的环境变量要写成 JSON。
        raise SettingsError(f'设置有误：{error}；环境变量里要写成 JSON，如 {{"名字": 1}}') from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"设置文件 {file} 不是合法的 TOML：{error}") from error


def _is_setting(variable: str) -> bool:
    return variable.removeprefix("SCNS_").lower() in Settings.model_fields


def _unknown(where: str, name: str, written: str = "{}", case: Callable[[str], str] = str) -> str:
    """一个不认识的名字；像哪一个就说出来。"""
    near = difflib.get_close_matches(name, Settings.model_fields, n=1, cutoff=0.6)
    return f"{where} 不是设置项" + (f"；是不是 {written.format(case(near[0]))}？" if near else "；scns config 列出全部")


def _told(item: Any, file: Path | None) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return _unknown(f"{file} 里的 {name}", name)
    return f"{name}（SCNS_{name.upper()}）：{item['msg']}（给的是 {item['input']!r}）"
