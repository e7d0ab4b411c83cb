"""全系统的设置：环境变量 SCNS_… 与一个 TOML 文件（config_file），前者优先；不认识的名字一律是错误。

各个设置项按它说的是什么分在几个模块里（system、api、scheduler、node、message），这里合成一个。
"""

import difflib
import os
import pwd
import tomllib
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as UndecodableSetting

from scns_conductor.core.api_settings import ApiSettings
from scns_conductor.core.config_file import config_file
from scns_conductor.core.errors import SettingsError
from scns_conductor.core.message_settings import MessageSettings
from scns_conductor.core.node_settings import NodeCareSettings, NodeSettings
from scns_conductor.core.scheduler_settings import SchedulerSettings
from scns_conductor.core.system_settings import SystemSettings

# SCNS_ 开头而不是设置项的环境变量；别的一律当作写错了的设置项。
OTHER_VARIABLES = frozenset(
    {
        # 客户端的：系统在哪里、令牌、语言、输出的样子。
        "SCNS_URL", "SCNS_TOKEN", "SCNS_TOKEN_FILE", "SCNS_LANG", "SCNS_SACCT_CANCELLED_BY",
        # 设置文件在哪里；进程之间传的。
        "SCNS_CONFIG", "SCNS_API_FD",
        # 管理员的程序里有的（worker/host/program.py）：它们也许运行我们的命令。
        "SCNS_PROGRAM",
        # 作业里有的（在作业里也可以 scns up）。
        "SCNS_JOB_ID", "SCNS_JOB_NAME", "SCNS_JOB_KEY", "SCNS_JOB_TOKEN", "SCNS_ATTEMPT",
    }
)  # fmt: skip


def current_user_name() -> str:
    """当前有效用户的名字；系统里没有登记时用数字 uid。"""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


class Settings(MessageSettings, SchedulerSettings, NodeCareSettings, NodeSettings, ApiSettings, SystemSettings):
    """设置项；环境变量名是 SCNS_ 加大写的字段名。列出时后写的一组在前。"""

    model_config = SettingsConfigDict(env_prefix="SCNS_", extra="forbid", frozen=True)

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
    def archive_path(self) -> Path:
        """归档的历史放在哪里。"""
        return self.archive_dir or self.data_dir / "archive"

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
    return settings_with()


def settings_with(**given: str) -> Settings:
    """读出设置，given 里的优先；有误时同上。"""
    file = config_file()
    unknown = [
        _unknown(f"环境变量 {name}", name.removeprefix("SCNS_").lower(), "SCNS_{}", str.upper)
        for name in sorted(os.environ)
        if name.startswith("SCNS_") and name not in OTHER_VARIABLES and not _is_setting(name)
    ]
    try:
        if unknown:
            raise SettingsError("设置有误：" + "；".join(unknown))
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        # 有了别的错，没有轮到算的缺省值也各报一条：不是使用者的错。
        wrong = [item for item in error.errors() if item["type"] != "default_factory_not_called"]
        raise SettingsError("设置有误：" + "；".join(_told(item, file) for item in wrong)) from error
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
    field, message = Settings.model_fields.get(str(item["loc"][0])), item["msg"].removeprefix("Value error, ")
    # 口令、地址里的口令不印出来。
    if field is not None and "SecretStr" in str(field.annotation):
        return f"{name}（SCNS_{name.upper()}）：{message}"
    return f"{name}（SCNS_{name.upper()}）：{message}（给的是 {item['input']!r}）"
