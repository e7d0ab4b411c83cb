"""许可证的写法（sbatch(1) 的 --licenses、slurm.conf 的 Licenses）：matlab:2,ansys。"""

MAX_COUNT = 2**31 - 1


def parse_licenses(text: str | None) -> tuple[tuple[str, int], ...]:
    """matlab:2,ansys -> (('ansys', 1), ('matlab', 2))；写法有误抛 ValueError。"""
    found: dict[str, int] = {}
    for item in (text or "").split(","):
        name, _, count = item.strip().replace("=", ":").partition(":")
        if not name:
            continue
        if count and not (count.isdecimal() and len(count) <= 10 and int(count) > 0):
            raise ValueError(f"无法识别的许可证 {item.strip()[:64]!r}；数目至少是 1，例如 matlab:2")
        found[name] = found.get(name, 0) + int(count or 1)
        if found[name] > MAX_COUNT:
            raise ValueError(f"许可证 {name[:64]!r} 的数目过大")
    return tuple(sorted(found.items()))
