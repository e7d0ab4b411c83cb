"""往外送的：邮件与 webhook 的设置。Settings 的一部分。"""

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from scns_conductor.core.setting_words import split_words


class MessageSettings(BaseSettings):
    """见模块的说明。"""

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

    webhooks: bool = Field(False, description="可不可以订阅 webhook（scns webhooks）；真则多一个后台进程往外送")
    webhook_allowed_networks: Annotated[list[IPv4Network | IPv6Network], NoDecode] = Field(
        default_factory=list,
        description="webhook 还可以送到的内部网段，逗号分隔，如 10.1.0.0/16,192.168.5.7/32；没有写的，本机、内网、"
        "链路本地与云的元数据地址都不许",
    )
    webhook_timeout_s: float = Field(10.0, gt=0, le=30, description="一个 webhook 请求至多多久（秒），从连接到答完")
    webhooks_per_user: int = Field(20, ge=1, le=1000, description="一个人至多几个 webhook 订阅")

    _network_words = field_validator("webhook_allowed_networks", mode="before")(split_words)
