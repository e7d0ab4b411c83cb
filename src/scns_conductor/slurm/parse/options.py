"""选项的解析，照 getopt_long(3)：长选项的唯一前缀、粘在一起的短选项、位置参数之后的选项、可省略的值。"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Takes = Literal["none", "value", "optional"]
# 照办；收下而不起作用（不改变结果）；收下、提醒一句（结果一样，期望落空）；点名拒绝（会改变作业的含义）。
# 后三样各为什么在 scripts/slurm_option_reasons.py，docs/slurm-compat.md 有表。
Effect = Literal["works", "hint", "warned", "refused"]


class UsageError(Exception):
    """选项写错了；文字是 getopt 的英文，不含命令名。"""


class Option(NamedTuple):
    """一个选项；key 是结果里的名字。"""

    key: str
    long: tuple[str, ...]
    short: str = ""
    takes: Takes = "none"
    effect: Effect = "works"


class Parsed:
    """解析的结果：(名字, 值) 按先后；没有值的是空文字。"""

    __slots__ = ("arguments", "pairs")

    def __init__(self, pairs: list[tuple[str, str]] | None = None, arguments: list[str] | None = None) -> None:
        self.pairs = [] if pairs is None else pairs
        self.arguments = [] if arguments is None else arguments

    def __contains__(self, key: str) -> bool:
        return any(name == key for name, _ in self.pairs)

    def last(self, key: str, default: str | None = None) -> str | None:
        """最后写的值为准。"""
        return next((value for name, value in reversed(self.pairs) if name == key), default)

    def every(self, key: str) -> list[str]:
        """写了几次的全部值。"""
        return [value for name, value in self.pairs if name == key]


def option(spec: str, takes: Takes = "none", key: str | None = None) -> Option:
    """ "-p --partition" 这样的写法；key 缺省是第一个长选项，- 换成 _。"""
    words = spec.split()
    short = "".join(word[1] for word in words if len(word) == 2 and word[1] != "-")
    longs = tuple(word[2:] for word in words if word.startswith("--"))
    return Option(key or (longs[0].replace("-", "_") if longs else short), longs, short, takes)


def flags(*specs: str) -> list[Option]:
    """没有值的几个选项。"""
    return [option(spec) for spec in specs]


def values(*specs: str) -> list[Option]:
    """必须有值的几个选项。"""
    return [option(spec, "value") for spec in specs]


def hints(*groups: Iterable[Option]) -> list[Option]:
    """收下而不起作用的。"""
    return [each._replace(effect="hint") for group in groups for each in group]


def warned(*groups: Iterable[Option]) -> list[Option]:
    """收下、提醒一句的；提醒由命令自己说（submit/unmet_options.py）。"""
    return [each._replace(effect="warned") for group in groups for each in group]


def refused(*groups: Iterable[Option]) -> list[Option]:
    """点名拒绝的；拒绝由命令自己说。"""
    return [each._replace(effect="refused") for group in groups for each in group]


def parse(words: Sequence[str], options: Iterable[Option], *, permute: bool = True) -> Parsed:
    """permute 为假时，第一个位置参数之后不再看选项（sbatch、srun：之后是程序的参数）。有误抛 UsageError。"""
    shorts: dict[str, Option] = {}
    longs: dict[str, Option] = {}
    for each in options:
        shorts |= dict.fromkeys(each.short, each)
        longs |= dict.fromkeys(each.long, each)
    parsed, waiting = Parsed(), list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            parsed.arguments += waiting
            break
        if word.startswith("--"):
            _long(word, longs, waiting, parsed)
        elif word.startswith("-") and word != "-":
            _short(word, shorts, waiting, parsed)
        elif permute:
            parsed.arguments.append(word)
        else:
            parsed.arguments += [word, *waiting]
            break
    return parsed


def _long(word: str, longs: dict[str, Option], waiting: list[str], parsed: Parsed) -> None:
    name, equals, value = word[2:].partition("=")
    found = longs.get(name)
    if found is None:
        candidates = [text for text in longs if text.startswith(name)]
        if not candidates:
            raise UsageError(f"unrecognized option '{word}'")
        if len({id(longs[text]) for text in candidates}) > 1:
            listed = " ".join(f"'--{text}'" for text in sorted(candidates))
            raise UsageError(f"option '{word}' is ambiguous; possibilities: {listed}")
        name, found = candidates[0], longs[candidates[0]]
    if found.takes == "none" and equals:
        raise UsageError(f"option '--{name}' doesn't allow an argument")
    if found.takes == "value" and not equals:
        if not waiting:
            raise UsageError(f"option '--{name}' requires an argument")
        value = waiting.pop(0)
    parsed.pairs.append((found.key, value))


def _short(word: str, shorts: dict[str, Option], waiting: list[str], parsed: Parsed) -> None:
    rest = word[1:]
    while rest:
        letter, rest = rest[0], rest[1:]
        found = shorts.get(letter)
        if found is None:
            raise UsageError(f"invalid option -- '{letter}'")
        if found.takes == "none":
            parsed.pairs.append((found.key, ""))
            continue
        if found.takes == "value" and not rest:
            if not waiting:
                raise UsageError(f"option requires an argument -- '{letter}'")
            rest = waiting.pop(0)
        # 短选项的值可以写成 -n4，也有人写成 -n=4：后者 Slurm 也当作值的一部分，这里照办。
        parsed.pairs.append((found.key, rest))
        return
