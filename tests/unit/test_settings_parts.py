"""设置分在几个文件里，合起来谁也不盖住谁。"""

from itertools import combinations

import pytest

from scns_conductor.core.settings import Settings

PARTS = [part for part in Settings.__mro__[1:] if part.__module__.startswith("scns_conductor.")]


def test_no_two_parts_share_a_name() -> None:
    assert len(PARTS) > 4
    for one, other in combinations(PARTS, 2):
        own = {name for name in vars(one) if not name.startswith("__")}
        # pydantic 自己的不算。
        shared = {name for name in own & set(vars(other)) if not name.startswith(("__", "_abc", "model_"))}
        assert not shared - {"_calculate_keys"}, (one.__name__, other.__name__)


@pytest.mark.parametrize(
    "name",
    [
        "node_features",
        "container_mounts",
        "accounting_storage_enforce",
        "webhook_allowed_networks",
        "health_check_node_states",
        "suspend_exc_partitions",
    ],
)
def test_lists_are_written_with_commas(name: str) -> None:
    written = {
        "accounting_storage_enforce": "limits,qos",
        "webhook_allowed_networks": "10.0.0.0/8, 192.168.0.0/16",
        "health_check_node_states": "idle, mixed",
    }.get(name, "/a, /b")
    found = getattr(Settings.model_validate({name: written}), name)
    assert len(found) == (3 if name == "accounting_storage_enforce" else 2)
