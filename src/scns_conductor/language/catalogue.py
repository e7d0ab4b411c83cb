"""中文说成英文：译文目录（PO 文件），与按模板找译文。

目录里的一条可以有空位：源码里的 f"没有分区 {name}" 在目录里是「没有分区 {0}」。给人看的一句话已经填好了，
所以反过来用：找出它是哪个模板填成的，空位里的再译。几句话连在一起的（分号、换行）拆开来译。
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from importlib import resources
from itertools import chain

PO_FILE = "locale/en/LC_MESSAGES/scns_conductor.po"
CHINESE = re.compile("[\u3400-\u9fff\u3000-\u303f\uff00-\uffef]")
# 空位；两个花括号是一个花括号，同 str.format。
PLACE = re.compile(r"\{([A-Za-z0-9_]*)(?:![rsa])?(?::[^{}]*)?\}")
LEAD = re.compile(r"[\x20-\x7e]*: ")
# 一句与一句之间，大的先拆。
SEPARATORS = {"。": ". ", "；": "; ", "：": ": ", "，": ", ", "、": ", ", "……": "… ", "（": " (", "）": ") "}
JOINTS, ENGLISH_JOINTS = "。；：，、", ".;:, "
# 译一句话至多试这么多个片段、每段至多这么长：话里有别人给的文字，不能让它费掉很多时间。
TRIES = 200
LONGEST = 2000
SHORTEST = 4


def read_po(text: str) -> Iterator[tuple[str, str]]:
    """PO 文件里的（原文，译文）；没有译文的、有复数与上下文的写法这里都没有。

    PO 的引号与反斜杠同 JSON，逐行读，两千条只要几毫秒。
    """
    field, parts = "", {"msgid": "", "msgstr": ""}
    for line in [*text.splitlines(), 'msgid ""']:
        if line.startswith(("msgid ", "msgstr ")):
            field, _, quoted = line.partition(" ")
            if field == "msgid":
                if parts["msgid"] and parts["msgstr"]:
                    yield parts["msgid"], parts["msgstr"]
                parts = {"msgid": "", "msgstr": ""}
        elif line.startswith('"'):
            quoted = line
        else:
            continue
        parts[field] += json.loads(quoted)


class Template:
    """有空位的一条：literal 是最长的一段固定的文字，weight 是固定的文字共多少字。"""

    def __init__(self, source: str, target: str) -> None:
        self._names: list[str] = []
        pieces: list[str] = []
        at = 0
        for place in PLACE.finditer(source.replace("{{", "\0\0").replace("}}", "\1\1")):
            pieces.append(source[at : place.start()])
            self._names.append(place[1])
            at = place.end()
        pieces.append(source[at:])
        fixed = [piece.replace("{{", "{").replace("}}", "}") for piece in pieces]
        self._target = target
        self.literal = max(fixed, key=len)
        self.weight = sum(map(len, fixed))
        self.ends = bool(fixed[-1])
        self.several_lines = "\n" in source
        self._pattern = "(.*?)".join(map(re.escape, fixed))

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """填好了的样子。"""
        return re.compile(self._pattern, re.DOTALL)

    def filled(self, values: Iterable[str]) -> str:
        """译文，空位里是 values。"""
        by_name = dict(zip(self._names, values, strict=True))
        at, text = 0, ""
        target = self._target.replace("{{", "\0\0").replace("}}", "\1\1")
        for place in PLACE.finditer(target):
            text += target[at : place.start()] + by_name.get(place[1], "")
            at = place.end()
        return (text + target[at:]).replace("\0\0", "{").replace("\1\1", "}")


def joined(left: str, right: str) -> str:
    """两段英文接起来；句读之后空一格，不空两格。"""
    if left and right and (left[-1] in ".,;:?!" and (right[0].isalnum() or right[0] in "\"'(")):
        return f"{left} {right}"
    return left + right.lstrip(" ") if left.endswith(" ") else left + right


class Catalogue:
    """原文到译文。"""

    def __init__(self, entries: Mapping[str, str]) -> None:
        # 接在别的话后面的一句（“；可用的字段见 /docs”）：拆开之后没有开头的句读，也要认得。
        entries = {source.lstrip(JOINTS): target.lstrip(ENGLISH_JOINTS) for source, target in entries.items()} | {
            **entries
        }
        self._exact = {source.strip("\n"): target for source, target in entries.items() if not PLACE.search(source)}
        self._templates = sorted(
            (Template(source, target) for source, target in entries.items() if PLACE.search(source)),
            key=lambda template: -template.weight,
        )

    def exact(self, text: str) -> str | None:
        """正是目录里没有空位的一条时，它的译文。"""
        return self._exact.get(text)

    def several_lines(self, text: str) -> str | None:
        """几行合起来是一个模板填成的（“……的末尾：”接着日志），它的译文。"""
        for template in self._templates:
            match = template.expression.fullmatch(text) if template.several_lines and template.literal in text else None
            if match is not None:
                return template.filled([english(value) for value in match.groups()])
        return None

    def translated(self, text: str) -> str:
        """译文；不认得的部分原样留下（别人起的名字也可以是中文）。"""
        return _Translation(self._exact, self._templates).of(text)


class _Translation:
    """译一句话：记着译过的片段，也记着还能试几次。"""

    def __init__(self, exact: Mapping[str, str], templates: Sequence[Template]) -> None:
        self._exact, self._templates = exact, templates
        self._known: dict[str, str] = {}
        self._left = TRIES

    def of(self, text: str) -> str:
        """一个片段的译文：第一个不剩中文的，否则剩得最少的。"""
        if not CHINESE.search(text):
            return text
        if text in self._exact:
            return self._exact[text]
        if text in self._known or self._left <= 0 or len(text) > LONGEST:
            return self._known.get(text, text)
        self._left -= 1
        # 自己里面又遇到自己就原样留下。
        self._known[text] = text
        best, least = text, len(CHINESE.findall(text)) + 1
        for found in chain(self._whole(text), self._led(text), self._first(text), self._parts(text)):
            remaining = len(CHINESE.findall(found))
            if remaining < least:
                best, least = found, remaining
            if not remaining:
                break
        self._known[text] = best
        return best

    def _whole(self, text: str) -> Iterator[str]:
        """整句是一个模板填成的。"""
        for template in self._templates:
            match = template.expression.fullmatch(text) if template.literal in text else None
            if match is not None:
                yield template.filled(map(self._value, match.groups()))

    def _led(self, text: str) -> Iterator[str]:
        """前面是英文的名字与冒号（异常的名字、程序的名字）。"""
        found = LEAD.match(text)
        if found is not None:
            yield found[0] + self.of(text[found.end() :])

    def _first(self, text: str) -> Iterator[str]:
        """开头一段是一句，后面接着别的话（写成 f"……" + f"……" 的）。"""
        for source, target in self._exact.items():
            # 一两个字的词当开头会译错。
            if len(source) >= SHORTEST and text.startswith(source):
                yield joined(target, self._rest(text[len(source) :]))
        for template in self._templates:
            match = template.expression.match(text) if template.ends and template.literal in text else None
            if match is not None and match.end() < len(text):
                yield joined(template.filled(map(self._value, match.groups())), self._rest(text[match.end() :]))

    def _rest(self, text: str) -> str:
        """后面接着的；前面的空格不是那句话的。"""
        said = text.lstrip(" ")
        return text[: len(text) - len(said)] + self.of(said)

    def _value(self, value: str) -> str:
        """空位里的；末尾的空格是中文排版用的（“CPU 够的”），英文的模板自己有。"""
        return self.of(value.rstrip(" "))

    def _parts(self, text: str) -> Iterator[str]:
        """几句话用句读连在一起。"""
        for mark, english_mark in SEPARATORS.items():
            if mark in text:
                yield english_mark.join(map(self.of, text.split(mark)))


@cache
def _catalogue() -> Catalogue:
    return catalogue_with({})


def catalogue_with(more: Mapping[str, str]) -> Catalogue:
    """目录再加上 more（原文 → 译文）。"""
    text = resources.files("scns_conductor.language").joinpath(PO_FILE).read_text("utf-8")
    return Catalogue({**dict(read_po(text)), **more})


@lru_cache(maxsize=4096)
def english(text: str) -> str:
    """这句话的英文；没有中文的原样返回，同一句话只译一次。"""
    if not CHINESE.search(text):
        return text
    catalogue = _catalogue()
    whole = catalogue.exact(text.strip("\n")) or ("\n" in text and catalogue.several_lines(text)) or ""
    # 别的逐行译：各行是各的话。
    return whole or "\n".join(_line(catalogue, line) for line in text.split("\n"))


def _line(catalogue: Catalogue, line: str) -> str:
    found = catalogue.translated(line)
    said = line.lstrip(" ")
    # 缩进也许是那句话自己的（目录里有），也许是印的人加的。
    if said != line and CHINESE.search(found):
        found = line[: len(line) - len(said)] + catalogue.translated(said)
    return found.rstrip()
