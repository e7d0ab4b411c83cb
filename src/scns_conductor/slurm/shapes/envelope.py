"""回答的外壳：meta（哪个插件、哪一版、谁问的）、errors、warnings。"""

from collections.abc import Iterable, Mapping
from typing import Any

from scns_conductor.slurm.shapes.schema import VERSIONS, fill, render
from scns_conductor.slurm.shapes.spoken import release
from scns_conductor.slurm.table.job_values import cluster_name

OLD_VERSIONS = ("v0.0.38", "v0.0.39")
ALL_VERSIONS = (*OLD_VERSIONS, *VERSIONS)


def meta(
    version: str,
    kind: str = "openapi/slurmctld",
    *,
    series: str | None = None,
    source: str = "",
    user: str = "",
    group: str = "",
    command: Iterable[str] = (),
) -> dict[str, Any]:
    """kind 是 openapi/slurmctld、openapi/slurmdbd，命令的是空的；series 是我们说的那一版 Slurm。"""
    full = release(series)
    major, minor, micro = full.split(".")
    if version in OLD_VERSIONS:
        return _old_meta(version, kind, full)
    name = f"Slurm OpenAPI {kind.removeprefix('openapi/')}" if kind else ""
    return render(
        "openapi_meta",
        version,
        {
            "plugin": {
                "type": kind,
                "name": name,
                "data_parser": f"data_parser/{version}",
                "accounting_storage": "accounting_storage/slurmdbd" if kind else "",
            },
            "client": {"source": source, "user": user, "group": group},
            "command": list(command),
            "slurm": {
                "version": {"major": major, "minor": minor, "micro": micro},
                "release": full,
                "cluster": cluster_name(),
            },
        },
    )


def _old_meta(version: str, kind: str, full: str) -> dict[str, Any]:
    major, minor, micro = (int(part) for part in full.split("."))
    accounting = kind == "openapi/slurmdbd"
    plugin = f"openapi/{'db' if accounting else ''}{version}"
    return {
        "plugin": {"type": plugin, "name": f"Slurm OpenAPI {'DB ' if accounting else ''}{version}"},
        "Slurm": {"version": {"major": major, "micro": micro, "minor": minor}, "release": full},
    }


def error(words: str, number: int, description: str = "", source: str = "") -> dict[str, Any]:
    """errors 里的一条。"""
    return {"description": description, "error_number": number, "error": words, "source": source}


def answer(name: str, version: str, values: Mapping[str, Any], head: Mapping[str, Any]) -> dict[str, Any]:
    """一个回答：values 照 name 的表写，加上外壳 head（meta，也许有 errors、warnings）。旧版原样。"""
    outer = {"errors": [], "warnings": [], **head}
    if version not in OLD_VERSIONS:
        return fill(name, version, {**values, **outer})
    if version == "v0.0.38":
        outer.pop("warnings")
    return {**outer, **values}
