"""字段表与公开的客户端里的模型逐个字段比：名字、必有、类型、枚举；版本 v0.0.40 到 v0.0.44。"""

import importlib

import pytest
from published_models import differences

from scns_conductor.slurmrestd.dispatch import OPERATIONS

pytestmark = pytest.mark.compat

PUBLISHED = [
    ("slurpy.v0040.models", "v0.0.40"),
    ("slurpy.v0041.models", "v0.0.41"),
    ("slurpy.v0042.models", "v0.0.42"),
    ("slurmrestapi.models", "v0.0.41"),
    ("slurmrestapi.models", "v0.0.42"),
    ("slurmrestapi.models", "v0.0.43"),
    ("slurmrestapi.models", "v0.0.44"),
]
# 同一版的文档也随 slurmrestd 的版本不同：FRONT_END 在 25.05 去掉了。
RELEASES_DIFFER = {"cluster_rec.flags: 枚举不同 ['FRONT_END']"}


def _tables(version: str) -> list[str]:
    found: set[str] = set()
    for each in OPERATIONS:
        if each.covers(version):
            found |= {each.answer_in(version), each.body or each.answer_in(version)}
    return sorted(found)


@pytest.mark.parametrize(("module", "version"), PUBLISHED)
def test_every_field_of_every_table_is_the_published_one(module: str, version: str) -> None:
    models = importlib.import_module(module)
    known = {name.lower(): name for name in dir(models)}
    found: list[str] = []
    seen: set[str] = set()
    for table in _tables(version):
        plain = table.replace("_", "").lower()
        name = known.get(version.replace("v0.0.", "v00") + plain) or known.get(plain)
        assert name is not None, f"{module} 里没有 {table}"
        found += differences(getattr(models, name), table, version, seen)
    assert set(found) <= RELEASES_DIFFER
    assert len(seen) > 150
