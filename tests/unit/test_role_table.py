"""谁能用哪个端点：每个端点都在表里，表里没有多的；写给人看的表与它相同。"""

import tempfile
from pathlib import Path

from scns_conductor.api.app import build_app
from scns_conductor.api.roles import OPEN, RULES, rows_of_table
from scns_conductor.core.settings import Settings
from scns_conductor.slurmrestd.dispatch import router
from scns_conductor.slurmrestd.operations import OPERATIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "roles.md"


def test_every_endpoint_has_a_rule_and_every_rule_an_endpoint() -> None:
    with tempfile.TemporaryDirectory() as folder:
        document = build_app(Settings(data_dir=Path(folder)), [router]).openapi()
    endpoints = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    endpoints |= {(each.method, each.route) for each in OPERATIONS}
    ruled = {(method, path.replace(":int", "")) for method, path in RULES if RULES[method, path] is not OPEN}
    assert ruled == {each for each in endpoints if RULES.get(each) is not OPEN}
    # 不要令牌的，一个一个看过：健康检查与登录。
    opened = {path for method, path in endpoints if RULES.get((method, path)) is OPEN}
    assert all(path.startswith(("/health/", "/auth/")) for path in opened)


def test_the_documented_table_is_the_table() -> None:
    text = DOCUMENT.read_text()
    table = "\n".join(rows_of_table())
    assert table in text, "docs/roles.md 的表不是这样了；执行 make openapi"
