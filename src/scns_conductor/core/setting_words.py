"""一个设置里列出好几个词的写法。"""

from typing import Any


def split_words(value: Any) -> Any:
    """逗号分隔的文字也可以。"""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
