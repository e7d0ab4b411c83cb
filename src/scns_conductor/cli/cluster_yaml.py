"""cluster.yaml 的读写：YAML 1.2 的核心写法（1:30:00 是文字，不是六十进制的数），记得每一处在第几行。"""

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from scns_conductor.client import ClientError

# 文件至多这么大（字节）；引用（&a、*a）展开之后至多这么多个值、这么多层。
LARGEST = 16 * 2**20
_MOST_VALUES = 500_000
_DEEPEST = 32
_NUMBERS = {
    "tag:yaml.org,2002:null": (re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "tag:yaml.org,2002:bool": (re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "tag:yaml.org,2002:int": (re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    "tag:yaml.org,2002:float": (
        re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
        list("-+.0123456789"),
    ),
    "tag:yaml.org,2002:merge": (re.compile(r"^<<$"), ["<"]),
}


class _Loader(yaml.SafeLoader):
    """只认 YAML 1.2 核心的写法。"""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


class _Dumper(yaml.SafeDumper):
    """写出的文字，上面读出来还是文字。"""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

    def ignore_aliases(self, data: Any) -> bool:
        """一样的列表各写各的，不写引用。"""
        return True


for _tag, (_pattern, _first) in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # U+0085、U+2028 在 YAML 里是换行：写成转义。
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class UnreadableYaml(ClientError):
    """文件写坏了；文字里有第几行。"""


@dataclass(slots=True)
class ClusterYaml:
    """content 是内容；lines 是 accounts[3].parent 这样的位置 -> 行号（从 1 起）。"""

    name: str
    content: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    _values: int = 0

    def where(self, place: str) -> str:
        """一处在文件的第几行；不在文件里的是离它最近的上一层。"""
        at = place
        while at and at not in self.lines:
            at = at.rpartition("[")[0] if at.endswith("]") else at.rpartition(".")[0]
        return f"{self.name}:{self.lines[at]}" if at else self.name

    def take(self, node: yaml.Node, place: str, depth: int) -> Any:
        """一个节点的值；记下它的各处。写坏了抛 UnreadableYaml。"""
        self._values += 1
        if depth > _DEEPEST or self._values > _MOST_VALUES:
            raise self.refused(node, "太深或太大；引用（*）是不是成了环？")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise self.refused(node, f"不认识的标签 {node.tag}")
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key, value in _pairs(self, node):
                if not isinstance(key, yaml.ScalarNode) or key.tag not in _TEXT_KEYS:
                    raise self.refused(key, "键要是文字")
                name = str(key.value)
                inner = f"{place}.{name}" if place else name
                if name in found:
                    raise self.refused(key, f"{inner} 写了两遍，上一遍在第 {self.lines.get(inner, 0)} 行")
                self.lines[inner] = key.start_mark.line + 1
                found[name] = self.take(value, inner, depth + 1)
            return found
        if isinstance(node, yaml.SequenceNode):
            values = []
            for index, each in enumerate(node.value):
                inner = f"{place}[{index}]"
                self.lines[inner] = each.start_mark.line + 1
                values.append(self.take(each, inner, depth + 1))
            return values
        return self._scalar(node)

    def _scalar(self, node: yaml.Node) -> Any:
        kind, text = node.tag.rpartition(":")[2], str(node.value)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float"):
            try:
                return int(text) if kind == "int" else float(text)
            except ValueError as error:
                raise self.refused(node, f"读不了的数 {text[:40]}") from error
        if kind in ("str", "merge"):
            return text
        raise self.refused(node, f"不认识的标签 {node.tag}")

    def refused(self, node: yaml.Node, why: str) -> UnreadableYaml:
        """这里写坏了。"""
        return UnreadableYaml(f"{self.name}:{node.start_mark.line + 1}：{why}")


_PLAIN_TAGS = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
_TEXT_KEYS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "bool", "null", "float"))


def _pairs(file: ClusterYaml, node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """各个键值；<<: *a 合并进来的，自己写了的不算。"""
    own: list[tuple[yaml.Node, yaml.Node]] = []
    merged: list[tuple[yaml.Node, yaml.Node]] = []
    for key, value in node.value:
        if key.tag != "tag:yaml.org,2002:merge":
            own.append((key, value))
            continue
        for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            if not isinstance(each, yaml.MappingNode) or each is node:
                raise file.refused(key, "<< 后面要是对象")
            merged += [pair for pair in each.value if pair[0].tag != key.tag]
    names = {key.value for key, _ in own if isinstance(key, yaml.ScalarNode)}
    for key, value in merged:
        if isinstance(key, yaml.ScalarNode) and key.value not in names:
            names.add(key.value)
            own.append((key, value))
    return own


def read_cluster_yaml(data: bytes, name: str) -> ClusterYaml:
    """读一个文件；写坏了抛 UnreadableYaml。"""
    found = ClusterYaml(name)
    if len(data) > LARGEST:
        raise UnreadableYaml(f"{name}：太大，至多 {LARGEST // 2**20} MiB")
    try:
        text = data.decode("utf-8-sig")
        node = yaml.compose(text, _Loader)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UnreadableYaml(f"{name}:{line}：不是 UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UnreadableYaml(f"{name}:{mark.line + 1 if mark else 1}：{error.problem or error.context}") from error
    except RecursionError as error:
        raise UnreadableYaml(f"{name}：太深") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UnreadableYaml(f"{name}：{str(error).splitlines()[0] if str(error) else '读不出来'}") from error
    content = None if node is None else found.take(node, "", 0)
    if not isinstance(content, dict):
        raise UnreadableYaml(f"{name}：最外层要是 节: 内容；scns export 写出一个样子")
    found.content = content
    return found


def write_cluster_yaml(content: dict[str, Any]) -> str:
    """写成 YAML；键的次序照给的。"""
    text: str = yaml.dump(content, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=120)
    return text
