"""账户树的继承、QOS 与关联的先后、原因码：对照手算的表。"""

from typing import Any

import pytest

from scns_conductor.core.accounting import Accounting, AssociationFacts, QosFacts
from scns_conductor.core.job_limits import (
    Demand,
    Owner,
    claims,
    demand_of_row,
    never_fits,
    submit_limits,
    violation,
)
from scns_conductor.core.tres import format_tres, parse_tres


def accounting(*associations: AssociationFacts, qos: tuple[QosFacts, ...] = ()) -> Accounting:
    parents = {"root": None, "physics": "root", "theory": "physics", "lab": "physics", "biology": "root"}
    return Accounting(
        parents,
        {(each.account, each.user_name, each.partition): each for each in associations},
        {each.name: each for each in qos},
    )


ROOT = AssociationFacts(account="root", qos=("normal",), max_wall=86400)
PHYSICS = AssociationFacts(
    account="physics", max_jobs=5, max_wall=3600, grp_tres={"cpu": 8}, max_tres_per_job={"cpu": 4, "mem": 1024}
)
THEORY = AssociationFacts(account="theory", qos=("normal", "high"), max_tres_per_job={"cpu": 2}, grp_jobs=3)
ALICE = AssociationFacts(account="theory", user_name="alice", max_jobs=1, default_qos="high")
BOB = AssociationFacts(account="lab", user_name="bob")
CAROL = AssociationFacts(account="theory", user_name="carol", partition="gpu", max_wall=60)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        # (max_jobs, max_wall, max_tres_per_job, qos, default_qos)
        (ROOT, (None, 86400, {}, ("normal",), None)),
        (PHYSICS, (5, 3600, {"cpu": 4, "mem": 1024}, ("normal",), None)),
        (THEORY, (5, 3600, {"cpu": 2, "mem": 1024}, ("normal", "high"), None)),
        (ALICE, (1, 3600, {"cpu": 2, "mem": 1024}, ("normal", "high"), "high")),
        (BOB, (5, 3600, {"cpu": 4, "mem": 1024}, ("normal",), None)),
        (CAROL, (5, 60, {"cpu": 2, "mem": 1024}, ("normal", "high"), None)),
    ],
)
def test_what_is_not_written_comes_from_the_nearest_parent(own: AssociationFacts, expected: tuple[Any, ...]) -> None:
    # lab 自己没有关联的行：照样接到 physics。
    tree = accounting(ROOT, PHYSICS, THEORY, ALICE, BOB, CAROL)
    found = tree.effective(own)
    assert (found.max_jobs, found.max_wall, found.max_tres_per_job, found.qos, found.default_qos) == expected
    # Grp… 只管自己的子树，不继承。
    assert (found.grp_tres, found.grp_jobs) == (own.grp_tres, own.grp_jobs)


def test_a_partition_of_its_own_comes_first_and_the_default_qos_is_slurms() -> None:
    everywhere = AssociationFacts(account="theory", user_name="carol")
    tree = accounting(ROOT, PHYSICS, THEORY, ALICE, BOB, CAROL, everywhere)
    assert tree.find("theory", "carol", "gpu") is CAROL
    assert tree.find("theory", "carol", "main") is everywhere
    assert tree.find("theory", "mallory", "main") is None
    assert tree.find(None, "carol", "main") is None
    # 写明的、唯一的、normal。
    assert tree.default_qos(ALICE) == "high"
    assert tree.default_qos(BOB) == "normal"
    assert tree.default_qos(everywhere) == "normal"
    assert tree.allows(BOB, "normal")
    assert not tree.allows(BOB, "high")


def owner(association: AssociationFacts | None, qos: QosFacts | None = None) -> Owner:
    tree = accounting(ROOT, PHYSICS, THEORY, ALICE, BOB, qos=() if qos is None else (qos,))
    user = "nobody" if association is None else association.user_name
    return Owner(tree, association, qos, user, None if association is None else association.account)


def demand(limit_s: float | None = 600, **tres: int) -> Demand:
    wanted = {"cpu": 1, "mem": 0, "node": 1, **tres}
    return Demand(wanted, wanted, limit_s)


@pytest.mark.parametrize(
    ("qos", "wanted", "reason"),
    [
        (None, demand(cpu=2), None),
        (None, demand(cpu=3), "AssocMaxCpuPerJobLimit"),
        (None, demand(mem=2048), "AssocMaxMemPerJob"),
        (None, demand(3601), "AssocMaxWallDurationPerJobLimit"),
        (None, demand(None), "AssocMaxWallDurationPerJobLimit"),
        # QOS 写了的盖过关联的同一种，没写的关联照管。
        (QosFacts(name="q", max_tres_per_job={"cpu": 3}), demand(cpu=3), None),
        (QosFacts(name="q", max_tres_per_job={"cpu": 3}), demand(cpu=4), "QOSMaxCpuPerJobLimit"),
        (QosFacts(name="q", max_tres_per_job={"cpu": 3}), demand(mem=2048), "AssocMaxMemPerJob"),
        (QosFacts(name="q", max_wall=7200), demand(7200), None),
        (QosFacts(name="q", max_wall=7200), demand(7201), "QOSMaxWallDurationPerJobLimit"),
        (QosFacts(name="q", min_tres_per_job={"cpu": 2}), demand(), "QOSMinCpuNotSatisfied"),
        (QosFacts(name="q", max_tres_mins_per_job={"cpu": 20}), demand(600, cpu=2), None),
        (QosFacts(name="q", max_tres_mins_per_job={"cpu": 19}), demand(600, cpu=2), "QOSMaxCpuMinutesPerJobLimit"),
    ],
)
def test_limits_of_one_job(qos: QosFacts | None, wanted: Demand, reason: str | None) -> None:
    found = violation(owner(ALICE, qos), wanted)
    assert (found.reason if found else None) == reason


def pools(
    association: AssociationFacts | None, qos: QosFacts | None, wanted: Demand, **options: bool
) -> dict[str, Any]:
    return {
        claim.pool: (claim.limit, claim.amount, claim.reason)
        for claim in claims(owner(association, qos), wanted, **options)
    }


def test_every_level_of_the_tree_has_its_own_pools() -> None:
    assert pools(ALICE, None, demand(cpu=2)) == {
        "assoc:theory:GrpJobs": (3, 1, "AssocGrpJobsLimit"),
        "assoc:physics:GrpTRES:cpu": (8, 2, "AssocGrpCpuLimit"),
        "assoc:theory/alice:MaxJobs": (1, 1, "AssocMaxJobsLimit"),
    }
    assert pools(BOB, None, demand(cpu=2)) == {
        "assoc:physics:GrpTRES:cpu": (8, 2, "AssocGrpCpuLimit"),
        "assoc:lab/bob:MaxJobs": (5, 1, "AssocMaxJobsLimit"),
    }
    assert pools(None, None, demand()) == {}


def test_a_qos_hides_the_same_kind_but_running_jobs_still_count() -> None:
    qos = QosFacts(
        name="q",
        grp_tres={"cpu": 100},
        max_jobs_per_user=2,
        max_tres_per_user={"cpu": 6},
        grp_tres_run_mins={"cpu": 60},
    )
    own = {
        "qos:q:GrpTRES:cpu": (100, 2, "QOSGrpCpuLimit"),
        "qos:q:MaxTRESPerUser:cpu:alice": (6, 2, "QOSMaxCpuPerUserLimit"),
        "qos:q:MaxJobsPerUser:alice": (2, 1, "QOSMaxJobsPerUserLimit"),
        "qos:q:GrpTRESRunMins:cpu": (3600, 1200, "QOSGrpCPURunMinutesLimit"),
        "assoc:theory:GrpJobs": (3, 1, "AssocGrpJobsLimit"),
    }
    assert pools(ALICE, qos, demand(cpu=2)) == own
    assert pools(ALICE, qos, demand(cpu=2), running=True) == {
        **own,
        "assoc:physics:GrpTRES:cpu": (8, 2, "AssocGrpCpuLimit"),
        "assoc:theory/alice:MaxJobs": (1, 1, "AssocMaxJobsLimit"),
    }


def test_a_group_smaller_than_the_job_never_fits() -> None:
    found = never_fits(owner(BOB), demand(cpu=9))
    assert found is not None
    assert found.reason == "AssocGrpCpuLimit"
    assert never_fits(owner(BOB), demand(cpu=8)) is None


def test_submit_limits_cover_the_subtree_and_the_user() -> None:
    physics = AssociationFacts(account="physics", grp_submit_jobs=10, max_submit_jobs=3)
    tree = accounting(ROOT, physics, THEORY, ALICE)
    found = {limit.name: limit for limit in submit_limits(Owner(tree, ALICE, None, "alice", "theory"))}
    assert set(found) == {"assoc:physics:GrpSubmit", "assoc:theory/alice:MaxSubmit"}
    assert set(found["assoc:physics:GrpSubmit"].accounts or ()) == {"physics", "theory", "lab"}
    own = found["assoc:theory/alice:MaxSubmit"]
    assert (own.most, own.accounts, own.user) == (3, ("theory",), "alice")


@pytest.mark.parametrize(
    ("changes", "tres"),
    [
        ({}, {"cpu": 1, "mem": 0, "node": 1}),
        ({"tasks": 3, "cpus_per_task": 2, "memory_per_cpu": 100}, {"cpu": 6, "mem": 600, "node": 1}),
        ({"minimum_nodes": 2, "tasks": 2, "memory_per_node": 500}, {"cpu": 2, "mem": 1000, "node": 2}),
        (
            {"tres_per_node": "gres/gpu:a100:2", "minimum_nodes": 2, "tasks": 2, "memory_per_gpu": 10},
            {"cpu": 2, "mem": 40, "node": 2, "gres/gpu": 4, "gres/gpu:a100": 4},
        ),
        # 每节点向上取整，分到的就是这么多。
        ({"tres_per_job": "gpu:3", "minimum_nodes": 2, "tasks": 2}, {"cpu": 2, "mem": 0, "node": 2, "gres/gpu": 4}),
        ({"licenses": "matlab:2"}, {"cpu": 1, "mem": 0, "node": 1, "license/matlab": 2}),
        ({"exclusive": True, "memory_per_node": 0}, {"cpu": 64, "mem": 4096, "node": 1}),
    ],
)
def test_what_a_job_asks_for(changes: dict[str, Any], tres: dict[str, int]) -> None:
    assert demand_of_row({**PLAIN_ROW, **changes}, 0, (64, 4096)).tres == tres


PLAIN_ROW: dict[str, Any] = {
    "minimum_nodes": 1, "tasks": 1, "cpus_per_task": 1, "tres_per_node": None, "tres_per_job": None,
    "tres_per_task": None, "memory_per_node": None, "memory_per_cpu": None, "memory_per_gpu": None, "exclusive": False,
    "licenses": None, "time_limit": 60,
}  # fmt: skip


def test_tres_text() -> None:
    assert parse_tres("cpu=8, mem=4G,gres/gpu:a100=2,license/matlab=1,node=-1") == {
        "cpu": 8, "mem": 4096, "gres/gpu:a100": 2, "license/matlab": 1, "node": None,
    }  # fmt: skip
    assert format_tres({"gres/gpu": 2, "node": 1, "mem": 4096, "cpu": 8}) == "cpu=8,mem=4G,node=1,gres/gpu=2"
    assert format_tres({"mem": 4096}, minutes=True) == "mem=4096"
    for bad in ("cpu", "cpu=", "cpu=x", "foo=1", "billing=1", "mem=-5", "cpu=1.5", "gres/=1"):
        with pytest.raises(ValueError, match="TRES"):
            parse_tres(bad)
