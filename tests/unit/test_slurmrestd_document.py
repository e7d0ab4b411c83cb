"""/openapi/v3 不要令牌：随便写的版本不占内存。"""

from scns_conductor.slurmrestd.dispatch import OPERATIONS
from scns_conductor.slurmrestd.document import document


def test_unknown_versions_share_one_document() -> None:
    assert OPERATIONS
    assert document("v0.0.1") is document("anything") is document()
    one = document("v0.0.44")
    assert one is document("v0.0.44")
    assert {path.split("/")[2] for path in one["paths"]} == {"v0.0.44"}
