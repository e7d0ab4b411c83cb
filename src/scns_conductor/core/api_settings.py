"""API 与看板的设置：在哪里听、令牌与登录、收多少、提交时怎样看。Settings 的一部分。"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class ApiSettings(BaseSettings):
    """见模块的说明。"""

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
    api_access_log: bool = Field(
        False,
        description="访问日志：API 的日志里一个请求一行（谁、从哪里、什么请求、状态、毫秒）；log_level 是 DEBUG 时总记",
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

    jwt_key_file: Path | None = Field(None, description="令牌签名密钥的文件（0600）；缺省为数据目录下的 jwt.key")
    token_lifetime_s: int = Field(30 * 86400, ge=60, description="签发令牌的默认有效期（秒）")
    token_issuer_required: bool = Field(
        False, description="为真则只认本系统签发的令牌；为假也认没有 iss 的（同一个密钥的 scontrol token）"
    )
    rate_limit_per_token: float = Field(
        5000.0, ge=0, description="一个令牌每秒至多几个请求（各 API 进程合起来），超过的回答 429；0 是不限"
    )
    rate_limit_per_address: float = Field(
        10000.0, ge=0, description="一个地址每秒至多几个请求（各 API 进程合起来），超过的回答 429；在反向代理之后写 0"
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
    array_max_tasks: int = Field(4_000_001, ge=1, description="一个作业数组最多的任务数（Slurm 的 MaxArraySize）")
    enforce_part_limits: bool = Field(
        False,
        description="为真则提交时拒绝超过分区时限与节点数的作业（Slurm 的 EnforcePartLimits），为假则排队并说明原因",
    )
    default_memory_mb_per_cpu: int = Field(
        0, ge=0, description="作业没有写内存时每 CPU 的默认内存（MiB）；0 表示不占内存额度"
    )
    archive_dir: Path | None = Field(
        None, description="归档的历史（sacctmgr archive）写在这个目录之下，API 的用户要写得了；缺省在数据目录下"
    )
    min_job_age_s: int = Field(300, ge=0, description="结束的作业在 squeue 里还可见的秒数（Slurm 的 MinJobAge）")

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

    @field_validator("api_socket", "pam_service", "oidc_issuer", "web_url", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == "" else value
