"""节点特性的表达式（sbatch(1) 的 --constraint）：a&b、a|b、(a|b)&c、[r1|r2]、a*2&b*1。"""

import re
from collections.abc import Collection
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*([A-Za-z0-9_][\w.\-]*|[&|,()\[\]]|\*\d{1,6})")
MAX_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Feature:
    """一个特性；count 是至少几个节点要有它，0 表示每个节点都要有。"""

    name: str
    count: int = 0


@dataclass(frozen=True, slots=True)
class AllOf:
    """都要满足。"""

    parts: "tuple[Expression, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """满足其一；same 表示全部节点要满足同一项（方括号）。"""

    parts: "tuple[Expression, ...]"
    same: bool = False


Expression = Feature | AllOf | AnyOf


def parse_features(text: str) -> Expression:
    """解析；写法有误抛 ValueError（中文原因）。逗号等同 &。"""
    if len(text) > MAX_LENGTH:
        raise ValueError("特性的表达式太长")
    tokens: list[str] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise _error(text)
        tokens.append(match[1])
        position = match.end()
    if not tokens:
        raise _error(text)
    parser = _Parser(text, tokens)
    found = parser.any_of()
    if parser.tokens:
        raise _error(text)
    return found


def _error(text: str) -> ValueError:
    return ValueError(f"无法识别的特性表达式 {text!r}；例如 a100&nvme、intel|amd、[rack1|rack2]、ib*2")


class _Parser:
    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text = text
        self.tokens = tokens
        self.depth = 0

    def any_of(self) -> Expression:
        parts = [self.all_of()]
        while self.tokens and self.tokens[0] == "|":
            self.tokens.pop(0)
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def all_of(self) -> Expression:
        parts = [self.item()]
        while self.tokens and self.tokens[0] in ("&", ","):
            self.tokens.pop(0)
            parts.append(self.item())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def item(self) -> Expression:
        if not self.tokens:
            raise _error(self.text)
        token = self.tokens.pop(0)
        if token in ("(", "["):
            self.depth += 1
            if self.depth > 20:
                raise _error(self.text)
            inner = self.any_of()
            if not self.tokens or self.tokens.pop(0) != {"(": ")", "[": "]"}[token]:
                raise _error(self.text)
            self.depth -= 1
            if token == "[" and isinstance(inner, AnyOf):
                return AnyOf(inner.parts, same=True)
            return inner
        if not re.match(r"[A-Za-z0-9_]", token):
            raise _error(self.text)
        if self.tokens and self.tokens[0].startswith("*"):
            count = int(self.tokens.pop(0)[1:])
            if count < 1:
                raise _error(self.text)
            return Feature(token, count)
        return Feature(token)


def satisfied(expression: Expression, features: Collection[str]) -> bool:
    """一个节点是否满足；带数目的特性不限制单个节点，由 counted 另外核对。"""
    match expression:
        case Feature(name, count):
            return count > 0 or name in features
        case AllOf(parts):
            return all(satisfied(part, features) for part in parts)
        case AnyOf(parts):
            return any(satisfied(part, features) for part in parts)


def counted(expression: Expression) -> dict[str, int]:
    """带数目的特性：名字 -> 至少几个节点。"""
    match expression:
        case Feature(name, count):
            return {name: count} if count else {}
        case AllOf(parts) | AnyOf(parts):
            found: dict[str, int] = {}
            for part in parts:
                found |= counted(part)
            return found


def words(expression: Expression) -> set[str]:
    """提到的全部特性。"""
    match expression:
        case Feature(name):
            return {name}
        case AllOf(parts) | AnyOf(parts):
            return set().union(*(words(part) for part in parts))


def alternatives(expression: Expression) -> list[Expression]:
    """方括号里各项分开：全部节点满足其中同一项；没有方括号时只有它自己。"""
    match expression:
        case AnyOf(parts, True):
            return list(parts)
        case AllOf(parts):
            for index, part in enumerate(parts):
                if isinstance(part, AnyOf) and part.same:
                    return [AllOf((*parts[:index], choice, *parts[index + 1 :])) for choice in part.parts]
            return [expression]
        case _:
            return [expression]
