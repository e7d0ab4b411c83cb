"""由接口的说明写出 Python 客户端的类型：client/answers/（回答）与 client/problems.py（错误码）。由 openapi.py 调用。"""

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "src" / "scns_conductor"
ANSWERS = SOURCE / "client" / "answers"
PROBLEMS = SOURCE / "client" / "problems.py"
HEADER = "由 make openapi 写出，不要手改：改 core/models 或 api/answers。"
# 模块 -> (说明, 客户端方法的回答)；它们提到的别的类型跟着第一个提到它的。
MODULES = {
    "jobs": (
        "作业、历史、作业步、为什么、试排",
        [
            "Job",
            "JobEvent",
            "JobSamples",
            "JobStep",
            "Why",
            "Plan",
            "JobAnswer",
            "CancelAnswer",
            "Acted",
            "DependencyGraph",
            "HistoryImported",
        ],
    ),
    "cluster": (
        "节点、分区、预留、许可证、总览、用量、通知",
        [
            "Node",
            "Partition",
            "Reservation",
            "License",
            "Dashboard",
            "Usage",
            "UsageSeries",
            "Efficiency",
            "Notification",
            "ClusterWhy",
            "ClusterApplied",
            "HistoryArchived",
            "HistoryLoaded",
        ],
    ),
    "accounting": (
        "账户、用户、关联、QOS、优先级、公平份额",
        ["Account", "User", "Association", "Qos", "Priorities", "Shares"],
    ),
    "standing": ("crontab 与触发", ["Crontab", "Trigger"]),
    "webhooks": ("webhook", ["NewWebhook", "Webhook", "WebhookDelivery"]),
    "identity": ("令牌与审计", ["AccessToken", "IssuedToken", "AuditEntry"]),
    "login": ("登录、我是谁", ["WhoAmI", "LoginMethods", "LoggedIn", "DeviceBegun", "DeviceAnswer"]),
}
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
# 状态码 -> 类型；没有列的是 Problem。
_BASES = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 413: "TooLarge",
    422: "Invalid", 429: "TooMany", 503: "Unavailable",
}  # fmt: skip
_RAISED = {
    "InvalidRequest": 422, "PayloadTooLarge": 413, "NotFound": 404, "Conflict": 409, "Forbidden": 403,
    "Unauthorized": 401, "TooManyRequests": 429, "ServiceUnavailable": 503,
}  # fmt: skip


def files(document: dict[str, Any]) -> dict[Path, str]:
    """文件 -> 内容。"""
    schemas = document["components"]["schemas"]
    found: dict[Path, str] = {}
    placed: dict[str, str] = {}
    for module, (about, roots) in MODULES.items():
        names: list[str] = []
        for root in roots:
            _collect(schemas, root, names, placed, module)
        found[ANSWERS / f"{module}.py"] = _module(schemas, about, names, placed, module)
    exported = sorted(placed)
    imports = "".join(
        f"from scns_conductor.client.answers.{module} import {', '.join(n for n in exported if placed[n] == module)}\n"
        for module in sorted(MODULES)
    )
    listed = "".join(f'    "{name}",\n' for name in exported)
    found[ANSWERS / "__init__.py"] = f'"""回答的类型。{HEADER}"""\n\n{imports}\n__all__ = [\n{listed}]\n'
    found[PROBLEMS] = _problems()
    return {path: _formatted(text) for path, text in found.items()}


def _formatted(text: str) -> str:
    command = [sys.executable, "-m", "ruff"]
    options = ["--stdin-filename", str(ANSWERS / "x.py"), "-"]
    sorted_text = subprocess.run(
        [*command, "check", "--select", "I", "--fix", "--quiet", *options],
        input=text, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return subprocess.run(
        [*command, "format", *options], input=sorted_text, capture_output=True, text=True, check=True
    ).stdout


def _collect(schemas: dict[str, Any], name: str, names: list[str], placed: dict[str, str], module: str) -> None:
    """被提到的排在前面。"""
    if name in placed:
        return
    for other in re.findall(r"#/components/schemas/(\w+)", str(schemas[name]["properties"])):
        _collect(schemas, other, names, placed, module)
    placed[name] = module
    names.append(name)


def _module(schemas: dict[str, Any], about: str, names: list[str], placed: dict[str, str], module: str) -> str:
    classes = "\n\n".join(_class(name, schemas[name]) for name in names)
    used = [helper for helper in ("instant", "many_of", "one_of") if re.search(rf"\b{helper}\b", classes)]
    typing_names = [word for word in ("Any", "ClassVar") if re.search(rf"\b{word}\b", classes)]
    lines = [f'"""{about}。{HEADER}"""', ""]
    if "Mapping[" in classes:
        lines.append("from collections.abc import Mapping")
    lines.append("from dataclasses import dataclass")
    if re.search(r"\bdatetime\b", classes):
        lines.append("from datetime import datetime")
    if typing_names:
        lines.append(f"from typing import {', '.join(typing_names)}")
    base = ["Answer", *(["Convert"] if "Convert" in classes else []), *used]
    lines += ["", f"from scns_conductor.client.answer import {', '.join(base)}"]
    for other in sorted({placed[n] for n in placed if placed[n] != module and re.search(rf"\b{n}\b", classes)}):
        mentioned = [n for n in placed if placed[n] == other and re.search(rf"\b{n}\b", classes)]
        lines.append(f"from scns_conductor.client.answers.{other} import {', '.join(mentioned)}")
    return "\n".join(lines) + "\n\n\n" + classes


def _class(name: str, schema: dict[str, Any]) -> str:
    about = schema.get("description", name)
    lines = ["@dataclass(frozen=True, slots=True, repr=False, eq=False, kw_only=True)", f"class {name}(Answer):"]
    lines += [textwrap.indent(f'"""{about}\n"""' if "\n" in about else f'"""{about}"""', "    "), ""]
    converts = []
    for field, kind in schema["properties"].items():
        hint, convert = _type(kind)
        lines.append(f"    {field}: {hint}")
        if kind.get("description"):
            lines.append(f'    """{kind["description"]}"""')
        if convert:
            converts.append(f'"{field}": {convert}')
    if converts:
        lines += ["", f"    _convert: ClassVar[Mapping[str, Convert]] = {{{', '.join(converts)}}}"]
    return "\n".join(lines) + "\n"


def _type(kind: dict[str, Any]) -> tuple[str, str | None]:
    """(类型, 怎样由 JSON 换算)。"""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return name, f"one_of({name})"
    if "anyOf" in kind:
        left = [each for each in kind["anyOf"] if each.get("type") != "null"]
        if len(left) != 1:
            return "Any", None
        hint, convert = _type(left[0])
        return f"{hint} | None", convert
    if kind.get("format") == "date-time":
        return "datetime", "instant"
    if kind.get("type") in _SCALARS:
        return _SCALARS[kind["type"]], None
    if kind.get("type") == "array":
        hint, _ = _type(kind.get("items", {}))
        if "$ref" in kind.get("items", {}):
            return f"tuple[{hint}, ...]", f"many_of({hint})"
        return f"tuple[{hint}, ...]", "tuple"
    if kind.get("type") == "object":
        values = kind.get("additionalProperties")
        hint = _type(values)[0].replace("tuple[", "list[").replace(", ...]", "]") if isinstance(values, dict) else "Any"
        return f"Mapping[str, {hint}]", None
    return "Any", None


# ---- 错误码 ----


def codes() -> dict[str, int]:
    """代码里用到的错误码 -> 状态码。"""
    found: dict[str, int] = {}
    for room in ("core", "services", "api", "slurmrestd"):
        for path in sorted((SOURCE / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    _default_code(node, found)
                elif isinstance(node, ast.Call):
                    _call_code(node, found)
    return dict(sorted(found.items()))


def _default_code(node: ast.ClassDef, found: dict[str, int]) -> None:
    for each in ast.walk(node):
        if node.name in _RAISED and isinstance(each, ast.arguments):
            for argument, default in zip(each.args[::-1], each.defaults[::-1], strict=False):
                if argument.arg == "code" and isinstance(default, ast.Constant):
                    found.setdefault(str(default.value), _RAISED[node.name])


def _call_code(node: ast.Call, found: dict[str, int]) -> None:
    name = ast.unparse(node.func).rpartition(".")[2]
    named = {each.arg: each.value.value for each in node.keywords if isinstance(each.value, ast.Constant)}
    code, status = named.get("code"), named.get("status")
    if isinstance(code, str):
        found.setdefault(code, _RAISED.get(name) or (status if isinstance(status, int) else 503))
    words = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
    if name in ("problem_response", "problem") and len(words) == 2 and isinstance(words[0], int):
        found.setdefault(str(words[1]), words[0])


def _problems() -> str:
    lines = [
        f'"""服务器的错误，一个错误码一个类型。{HEADER[:-len("：改 core/models 或 api/answers。")]}。"""', "",
        "from scns_conductor.client.problem import Problem", "",
    ]  # fmt: skip
    for status, base in _BASES.items():
        lines += ["", f"class {base}(Problem):", f'    """状态码 {status}。"""', ""]
    listed = []
    for code, status in codes().items():
        name = "".join(word.capitalize() for word in code.split("_"))
        if name in _BASES.values():
            listed.append((code, name))
            continue
        lines += ["", f"class {name}({_BASES.get(status, 'Problem')}):", f'    """{code}。"""', ""]
        listed.append((code, name))
    lines += ["", "# 错误码 -> 类型；不认识的码（新版的服务器）用状态码的类型。"]
    lines += ["BY_CODE: dict[str, type[Problem]] = {", *(f'    "{code}": {name},' for code, name in listed), "}"]
    lines += [
        "BY_STATUS: dict[int, type[Problem]] = {",
        *(f"    {status}: {name}," for status, name in _BASES.items()),
        "}",
    ]
    return "\n".join(lines) + "\n"
