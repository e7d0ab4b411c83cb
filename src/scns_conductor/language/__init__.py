"""说哪种语言：中文是原文，英文在 locale/en/LC_MESSAGES/scns_conductor.po。

各处照写中文（包括存进数据库的那些话），给人看之前才译：API 按 Accept-Language，命令按 SCNS_LANG 与 LC_ALL 等。
为什么不在每一处写 _()，见 docs/decisions/0010-language.md。只用标准库，谁都可以导入。
"""

from scns_conductor.language.choice import (
    Language,
    accepted_language,
    environment_language,
    own_language,
    speak_only,
    told,
)

__all__ = ["Language", "accepted_language", "environment_language", "own_language", "speak_only", "told"]
