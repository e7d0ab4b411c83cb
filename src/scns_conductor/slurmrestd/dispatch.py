"""把 /slurm、/slurmdb、/openapi 下的地址分给各操作：末尾有没有斜线都一样，从不转向。"""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scns_conductor.api.dependencies import Parts, identity_of
from scns_conductor.api.roles import without_rule
from scns_conductor.slurm.shapes.envelope import ALL_VERSIONS
from scns_conductor.slurm.table.job_values import SERVED_CLUSTER
from scns_conductor.slurmrestd import accounting, accounting_changes, accounting_jobs, cluster, jobs
from scns_conductor.slurmrestd.document import document
from scns_conductor.slurmrestd.operations import OPERATIONS, Call, Operation, perform, plain_answer

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_LOADED = (jobs, cluster, accounting_jobs, accounting, accounting_changes)


@dataclass(frozen=True, slots=True)
class _Route:
    """给访问日志与计时看的路由名。"""

    path: str


def _table() -> dict[tuple[str, str, str], list[Operation]]:
    """(插件, 第一段, 其余有没有：空、=固定的第二段、* 参数) -> 操作。"""
    found: dict[tuple[str, str, str], list[Operation]] = {}
    for each in OPERATIONS:
        first, _, rest = each.path.partition("/")
        kind = "*" if rest.startswith("{") else f"={rest}" if rest else ""
        found.setdefault((each.plugin, first, kind), []).append(each)
    return found


_TABLE = _table()
_missing = without_rule((each.method, each.route) for each in OPERATIONS)
if _missing:
    raise RuntimeError(f"api/roles.py 的表里没有这些端点：{_missing}")


def find(plugin: str, version: str, path: str) -> tuple[list[Operation], str]:
    """那个地址的全部操作（各方法），与地址里的参数。固定的（job/submit）先于参数（job/{job_id}）。"""
    first, _, rest = path.strip("/").partition("/")
    keys = [f"={rest}", "*"] if rest else [""]
    for key in keys:
        known = [each for each in _TABLE.get((plugin, first, key), ()) if each.covers(version)]
        if known:
            return known, rest if key == "*" else ""
    return [], ""


async def _serve(request: Request) -> Response:
    parts: Parts = request.app.state.parts
    SERVED_CLUSTER.set(parts.settings.cluster_name)
    plugin = request.url.path.split("/")[1]
    version, path = request.path_params["version"], request.path_params["path"]
    if version not in ALL_VERSIONS:
        return plain_answer(404, f"Unable to find requested URL; versions are {', '.join(ALL_VERSIONS)}")
    known, argument = find(plugin, version, path)
    if not known:
        return plain_answer(404, "Unable to find requested URL")
    chosen = next((each for each in known if each.method == request.method), None)
    request.scope["route"] = _Route(known[0].route)
    if chosen is None:
        refused = plain_answer(405, "The requested method is not supported on this URL")
        refused.headers["Allow"] = ", ".join(sorted(each.method for each in known))
        return refused
    identity = await identity_of(request.scope, parts)
    return await perform(chosen, Call(version, chosen.kind, parts, identity, request, argument))


async def _document(request: Request) -> Response:
    """OpenAPI 文档；?version=v0.0.42 只要一版，缺省是全部新版。不要令牌（同 slurmrestd 的 /openapi）。"""
    wanted = request.query_params.get("version")
    found: dict[str, Any] = document(wanted)
    return JSONResponse(found)


router = APIRouter(include_in_schema=False)
for _plugin in ("slurm", "slurmdb"):
    router.add_route(f"/{_plugin}/{{version}}/{{path:path}}", _serve, methods=_METHODS, include_in_schema=False)
for _path in ("/openapi", "/openapi/", "/openapi/v3", "/openapi/v3/"):
    router.add_route(_path, _document, methods=["GET"], include_in_schema=False)
