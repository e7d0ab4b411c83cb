"""测试模块写 pytest_plugins = ["outage_fixtures"]，就有 outage（自己的引擎）与 fragile（用它们的节点）。"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from node_yard import NodeYard
from outage import Outage

from conftest import settings_for
from engine_template import copy_template
from scns_conductor import migrations
from scns_conductor.local.engines import running_engines


@pytest.fixture
def outage(tmp_path: Path, scratch: Path) -> Iterator[Outage]:
    place = scratch / f"outage-{tmp_path.name}"
    copy_template(place)
    with running_engines(place) as engines:
        trouble = Outage(engines)
        try:
            yield trouble
        finally:
            trouble.close()


@pytest.fixture
def fragile(outage: Outage, tmp_path: Path) -> Iterator[NodeYard]:
    settings = settings_for(outage.engines, "scns", tmp_path)
    migrations.upgrade(settings)
    yard = NodeYard(settings, tmp_path)
    yield yard
    yard.close()
