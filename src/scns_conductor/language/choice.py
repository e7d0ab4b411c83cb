"""现在对谁说话，用哪种语言。"""

import os
from collections.abc import Mapping
from functools import cache
from typing import Literal

Language = Literal["zh", "en"]
_always: list[Language] = []


def environment_language(environ: Mapping[str, str]) -> Language:
    """使用者的环境要哪种语言：SCNS_LANG，否则同 gettext，LC_ALL、LC_MESSAGES、LANG 里第一个有值的。

    没有设、C 与 POSIX 没有说是哪种语言，是中文；zh 开头的是中文，其余是英文。
    """
    for name in ("SCNS_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = environ.get(name, "").split(".")[0].split("@")[0]
        if value:
            return "zh" if value in ("C", "POSIX") or value.lower().startswith("zh") else "en"
    return "zh"


def accepted_language(header: str | None) -> Language:
    """Accept-Language（RFC 9110 §12.5.4）里中文与英文哪个在前；都没有提到是中文。"""
    weights: dict[str, float] = {}
    for item in (header or "").lower().split(","):
        tag, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        language = tag.split("-")[0]
        if language in ("zh", "en", "*"):
            weights[language] = max(weights.get(language, 0.0), weight)
    return "en" if weights.get("en", 0.0) > weights.get("zh", weights.get("*", 0.0)) else "zh"


@cache
def own_language() -> Language:
    """这个命令对使用者说的语言。"""
    return _always[0] if _always else environment_language(os.environ)


def speak_only(language: Language) -> None:
    """这个进程从此只说这种语言，不看环境：Slurm 的命令总说英文，连同它向服务器要来的。"""
    _always[:] = [language]
    own_language.cache_clear()


def told(text: str) -> str:
    """用使用者的语言说这句话。"""
    if own_language() == "zh":
        return text
    # 译文用到才载入：说中文的命令不付这几毫秒。
    from scns_conductor.language.catalogue import english

    return english(text)
