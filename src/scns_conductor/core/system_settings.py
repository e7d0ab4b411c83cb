"""整个系统的设置：名字、数据目录、数据库与总线在哪里、日志、轨迹与指标。Settings 的一部分。"""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from scns_conductor.core.config_file import default_data_dir


class SystemSettings(BaseSettings):
    """见模块的说明。"""

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

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: SecretStr) -> SecretStr:
        if urlsplit(url.get_secret_value()).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("应如 redis://主机:6379/0、rediss://…、unix:///路径?db=0")
        return url

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

    otel_endpoint: str | None = Field(
        None, description="OpenTelemetry 的轨迹送到哪里（OTLP/HTTP，如 http://127.0.0.1:4318）；要装附加组件 otel"
    )
    otel_ratio: float = Field(1.0, ge=0, le=1, description="留下几成作业的轨迹（0–1）")

    mpi_ports: str = Field(
        "12000-12999",
        pattern=r"^([1-9]\d{0,4}-[1-9]\d{0,4})?$",
        description="srun --resv-ports 可以保留的通信端口（Slurm 的 MpiParams=ports=）；空的是没有",
    )

    log_format: Literal["console", "json"] = Field("console", description="日志格式")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="日志级别")

    scheduler_metrics: str = Field(
        "127.0.0.1:6823", description="调度器的 Prometheus 指标在哪里答（主机:端口，端口 0 是任意空闲的）；空的是不开"
    )
    agent_metrics: str = Field("127.0.0.1:6822", description="节点代理的 Prometheus 指标在哪里答；空的是不开")
    web_metrics: str = Field("127.0.0.1:6824", description="看板的 Prometheus 指标在哪里答；空的是不开")

    @property
    def mpi_port_range(self) -> range:
        """可以保留的通信端口。"""
        first, _, last = self.mpi_ports.partition("-")
        return range(int(first or 0), int(last) + 1 if last else 0)

    @field_validator("scheduler_metrics", "agent_metrics", "web_metrics")
    @classmethod
    def _listen_address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if value and not (colon and host and port.isdecimal() and int(port) < 65536):
            raise ValueError("要写成 主机:端口，如 127.0.0.1:6822；空的是不开")
        return value
