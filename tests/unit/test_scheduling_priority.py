"""多因子优先级与公平树，对着手算的表。"""

import pytest

from scns_conductor.scheduling.fair_tree import Account, User, fair_share
from scns_conductor.scheduling.priority import Standing, Weights, factors, normalised, priority

WEEK = 7 * 86400


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        # 1000×(1/7) + 2000×0.25 + 500×((1/4+8/64)/2)
        (Standing(eligible_time=WEEK - 86400, cpus=8, nodes=1, fairshare=0.25), 1000 / 7 + 500 + 93.75),
        # 等待到一周封顶
        (Standing(eligible_time=-WEEK, cpus=64, nodes=4), 1000 + 500),
        # 还不具备条件的没有等待分；nice 降低
        (Standing(eligible_time=None, cpus=64, nodes=4, nice=100), 500 - 100),
        # 最小是 1
        (Standing(eligible_time=None, cpus=1, nodes=1, nice=10_000), 1),
    ],
)
def test_priority_is_the_weighted_sum(standing, expected):
    weights = Weights(age=1000, fairshare=2000, job_size=500)
    assert priority(standing, weights, WEEK, cluster_cpus=64, cluster_nodes=4) == pytest.approx(expected)


def test_partition_qos_assoc_and_tres_add_up():
    weights = Weights(partition=100, qos=10, assoc=1, tres={"cpu": 400, "gres/gpu": 800})
    standing = Standing(
        None, 1, partition_factor=0.5, qos_factor=1.0, assoc_factor=1.0, tres_shares={"cpu": 0.25, "gres/gpu": 0.5}
    )
    found = factors(standing, weights, 0.0, 64, 4)
    assert found["partition"] == 50
    assert found["tres/cpu"] == 100
    assert found["tres/gres/gpu"] == 400
    assert sum(found.values()) == 50 + 10 + 1 + 100 + 400


def test_favor_small_inverts_the_size_factor():
    small, large = Standing(None, 1, 1), Standing(None, 64, 4)
    weights = Weights(job_size=100, favor_small=True)
    assert priority(small, weights, 0, 64, 4) > priority(large, weights, 0, 64, 4)


def test_normalised_divides_by_the_highest():
    assert normalised({"a": 10, "b": 5, "c": 0}) == {"a": 1.0, "b": 0.5, "c": 0.0}
    assert normalised({"a": 0}) == {"a": 0.0}


def test_fair_tree_ranks_accounts_before_users():
    """A 用得少，A 的用户都排在 B 的前面，哪怕 B 里有人没用过。"""
    accounts = [Account("a", shares=1), Account("b", shares=1)]
    users = [User("a1", "a", usage=10), User("a2", "a", usage=20), User("b1", "b", usage=0), User("b2", "b", usage=70)]
    assert fair_share(accounts, users) == {("a", "a1"): 1.0, ("a", "a2"): 0.75, ("b", "b1"): 0.5, ("b", "b2"): 0.25}


def test_fair_tree_shares_weigh_usage():
    users = [User("x", "a", shares=3, usage=30), User("y", "a", shares=1, usage=11)]
    found = fair_share([Account("a")], users)
    assert found["a", "x"] > found["a", "y"]


def test_fair_tree_ties_between_siblings_share_the_rank():
    users = [User("x", "a", usage=5), User("y", "a", usage=5), User("z", "a", usage=50)]
    assert fair_share([Account("a")], users) == {("a", "x"): 1.0, ("a", "y"): 1.0, ("a", "z"): pytest.approx(1 / 3)}


def test_fair_tree_user_tied_with_account_gets_its_best_users_rank():
    accounts = [Account("top"), Account("sub", "top")]
    users = [User("u", "top", usage=10), User("s1", "sub", usage=2), User("s2", "sub", usage=8)]
    found = fair_share(accounts, users)
    assert found["top", "u"] == found["sub", "s1"] == 1.0
    assert found["sub", "s2"] == pytest.approx(1 / 3)


def test_fair_tree_tied_accounts_merge_their_children():
    accounts = [Account("a"), Account("b")]
    users = [User("a1", "a", usage=2), User("a2", "a", usage=8), User("b1", "b", usage=4), User("b2", "b", usage=6)]
    found = fair_share(accounts, users)
    ranked = sorted(found, key=lambda key: -found[key])
    assert [name for _, name in ranked] == ["a1", "b1", "b2", "a2"]


def test_fair_tree_rejects_loops_and_unknown_parents():
    with pytest.raises(ValueError, match="成环"):
        fair_share([Account("a", "b"), Account("b", "a")], [User("u", "a")])
    with pytest.raises(ValueError, match="不存在"):
        fair_share([Account("a", "nowhere")], [])
