"""PMIx 的服务端：节点上没有 libpmix 时说得清楚（真的 MPI 在 tests/compat/test_mpi.py）。"""

import pytest

from scns_conductor.worker.step import pmix as step_pmix


def test_a_node_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_pmix, "LIBRARY", "libpmix-that-is-not-here.so.2")
    with pytest.raises(step_pmix.PmixUnavailable, match=r"libpmix-that-is-not-here.*install libpmix2 on n1"):
        step_pmix.PmixServer(
            job="1.0", node="n1", nodes={"n1": [0]}, owner=(0, 0), seen=(0, 0),
            exchange=lambda _: None, abort=lambda *_: None,
        )  # fmt: skip
