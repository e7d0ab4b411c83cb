"""/openapi/v3：由操作表与字段表生成的 OpenAPI 文档。"""

from functools import cache
from typing import Any

from scns_conductor.slurm.shapes.schema import VERSIONS, Field, fields_of, version_number, words_of
from scns_conductor.slurm.shapes.spoken import release
from scns_conductor.slurmrestd.operations import OPERATIONS, Operation

_WRAPPERS = {"u32": ("integer", "int32"), "u64": ("integer", "int64"), "f64": ("number", "double")}
_PLAIN: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "i32": {"type": "integer", "format": "int32"},
    "i64": {"type": "integer", "format": "int64"},
    "num": {"type": "number", "format": "double"},
    "map": {"type": "object"},
    "any": {},
}
_SECURITY = {
    "user": {"type": "apiKey", "name": "X-SLURM-USER-NAME", "in": "header"},
    "token": {"type": "apiKey", "name": "X-SLURM-USER-TOKEN", "in": "header"},
    "bearerAuth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}


class _Schemas:
    """用到的表 -> components.schemas。"""

    def __init__(self, version: str) -> None:
        self.version = version
        self.found: dict[str, Any] = {}

    def reference(self, name: str) -> dict[str, Any]:
        """一张表的引用；头一次用到时写下它。"""
        key = f"{self.version}_{name}"
        if key not in self.found:
            self.found[key] = {}
            table = fields_of(name, self.version)
            schema: dict[str, Any] = {
                "type": "object",
                "properties": {field: self._property(each) for field, each in table.items()},
            }
            required = [field for field, each in table.items() if each.required]
            if required:
                schema["required"] = required
            self.found[key] = schema
        return {"$ref": f"#/components/schemas/{key}"}

    def _property(self, field: Field) -> dict[str, Any]:
        one = self._kind(field.kind)
        return {"type": "array", "items": one} if field.many else one

    def _kind(self, kind: str) -> dict[str, Any]:
        if kind.startswith("@"):
            return self.reference(kind[1:])
        if kind.startswith(":"):
            return {"type": "string", "enum": list(words_of(kind[1:], self.version))}
        if kind in _WRAPPERS:
            return self._wrapper(kind)
        return dict(_PLAIN[kind])

    def _wrapper(self, kind: str) -> dict[str, Any]:
        type_, form = _WRAPPERS[kind]
        if kind == "u32" and version_number(self.version) == 40:
            form = "int64"
        name = {"u32": "uint32_no_val_struct", "u64": "uint64_no_val_struct", "f64": "float64_no_val_struct"}[kind]
        key = f"{self.version}_{name}"
        self.found[key] = {
            "type": "object",
            "properties": {
                "set": {"type": "boolean"},
                "infinite": {"type": "boolean"},
                "number": {"type": type_, "format": form},
            },
        }
        return {"$ref": f"#/components/schemas/{key}"}


def _operation(each: Operation, version: str, schemas: _Schemas) -> dict[str, Any]:
    content = {"application/json": {"schema": schemas.reference(each.answer_in(version))}}
    plugin = each.plugin.replace("slurmdb", "slurmdb_")
    words = [word.strip("{}") for word in each.path.split("/")]
    parameters: list[dict[str, Any]] = [
        {"name": word.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}
        for word in each.path.split("/")
        if word.startswith("{")
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": {"type": {"int": "integer"}.get(kind, kind)}}
        for name, kind in each.query.items()
    ]
    found: dict[str, Any] = {
        "tags": [each.plugin],
        "summary": each.summary,
        "operationId": f"{plugin}_{version.replace('.', '')}_{each.method.lower()}_{'_'.join(words)}",
        "responses": {
            "200": {"description": "完成", "content": content},
            "default": {"description": "错误在 errors 里", "content": content},
        },
    }
    if parameters:
        found["parameters"] = parameters
    if each.body is not None:
        body = {"application/json": {"schema": schemas.reference(each.body)}}
        found["requestBody"] = {"required": True, "content": body}
    return found


def document(version: str | None = None) -> dict[str, Any]:
    """一版（不认识的当作全部）或全部新版的文档。"""
    # 版本是外面给的：先认了再记着，记着的至多几份。
    return _document((version,) if version in VERSIONS and version is not None else tuple(VERSIONS))


@cache
def _document(versions: tuple[str, ...]) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    components: dict[str, Any] = {}
    for each in versions:
        schemas = _Schemas(each)
        for found in OPERATIONS:
            if found.covers(each):
                address = f"/{found.plugin}/{each}/{found.path}"
                paths.setdefault(address, {})[found.method.lower()] = _operation(found, each, schemas)
        components |= schemas.found
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Slurm REST API",
            "description": "SCNS-Conductor 的 slurmrestd 接口；令牌放在 X-SLURM-USER-TOKEN 或 Authorization: Bearer。",
            "version": f"Slurm-{release()}",
        },
        "security": [{"user": [], "token": []}, {"token": []}, {"bearerAuth": []}],
        "tags": [{"name": "slurm", "description": "作业与集群"}, {"name": "slurmdb", "description": "记账"}],
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"securitySchemes": _SECURITY, "schemas": components},
    }
