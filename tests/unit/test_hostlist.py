"""主机列表：展开与压缩互逆；几个字节的写法不占几个 GB，写坏的是 ValueError 而不是别的。"""

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scns_conductor.core.array_spec import MAX_SCATTERED, Stride, TaskRange, TooScattered, parse_array
from scns_conductor.core.hostlist import MAX_HOSTS, MAX_NAME_LENGTH, check_hostlist, compress, expand
from scns_conductor.core.job_reference import parse_job_reference
from scns_conductor.core.task_binding import cpu_bind_mode

PREFIXES = st.from_regex(r"[a-z][a-z0-9-]{0,5}[a-z-]", fullmatch=True)
HOSTS = st.lists(
    st.builds(lambda prefix, digits: prefix + digits, PREFIXES, st.text("0123456789", max_size=20)), max_size=40
)
RANGE = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 6)).map(
    lambda each: f"{str(each[0]).zfill(each[2])}-{each[0] + each[1]}"
)
BRACKET = st.lists(st.one_of(RANGE, st.integers(0, 999).map(str)), min_size=1, max_size=3).map(
    lambda items: f"[{','.join(items)}]"
)
WRITTEN = st.lists(
    st.lists(st.one_of(PREFIXES, BRACKET), min_size=1, max_size=3).map("".join), min_size=1, max_size=3
).map(",".join)
SHORT_BUT_HUGE = [
    "n[1-9999][1-9999]",
    "n[1-99][1-99][1-99][1-99]",
    "n" + "[0-9]" * 200,
    ",".join(["n[1-60000]"] * 300),
    "n[1-999999999999999]",
    "n[0-65536]",
    f"n[{'0' * 14}1-{'9' * 15}]",
    "n[" + "1-65000," * 500 + "1]",
]


@given(HOSTS)
@example(["n01", "n1", "n10", "n010", "n"])
@example(["n" + "9" * 200])
def test_compressing_then_expanding_gives_the_same_hosts(hosts: list[str]) -> None:
    assert set(expand(compress(hosts))) == set(hosts)


@given(WRITTEN)
def test_counting_first_tells_exactly_how_many_there_will_be(text: str) -> None:
    try:
        count = check_hostlist(text)
    except ValueError:
        with pytest.raises(ValueError, match="主机列表"):
            expand(text)
        return
    names = expand(text)
    assert len(names) == count <= MAX_HOSTS
    assert all(len(name) <= MAX_NAME_LENGTH for name in names)


@given(st.text(st.sampled_from("n0123456789-[], ²٣\0"), max_size=60))
def test_any_text_is_a_list_of_hosts_or_a_value_error(text: str) -> None:
    try:
        expand(text)
    except ValueError as error:
        assert "主机列表" in str(error)  # noqa: PT017 - 多数例子是合法的


def peak_of(action: object, *arguments: object) -> int:
    """拒绝时多占的内存（字节）。"""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"主机列表|数组|至多"):
            action(*arguments)  # type: ignore[operator]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", SHORT_BUT_HUGE, ids=lambda text: text[:20])
def test_a_short_list_of_very_many_hosts_is_refused_without_expanding_it(text: str) -> None:
    assert peak_of(expand, text) < 2 * 1024**2


@pytest.mark.parametrize(
    "text",
    ["n[9-1]", "n[1-3", "n1-3]", "n[[1]]", "n]1[", "n[]", "n[1,]", "n[-1]", "n[²]", "n[1-" + "9" * 5000 + "]",
     "n[" + "0" * 60_000 + "1-9]", "n" * 300, "n[1--2]", "n[a-b]"],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_broken_list_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(ValueError, match="主机列表") as caught:
        expand(text)
    assert len(str(caught.value)) < 200


def test_sibling_forms_are_bounded_by_what_they_expand_to() -> None:
    """别的短写法：数组里带步长的几项、作业号的任务、绑核的次数。"""
    # 步长不一的任务号列出来，每个 4 个字节；写了多少先数过。
    assert peak_of(lambda: parse_array(",".join(["0-3999999:2,1-9:3"] * 40), max_tasks=4_000_000)) < 2 * 1024**2
    assert peak_of(lambda: parse_array("0-99999999999", max_tasks=4_000_000)) < 2 * 1024**2
    assert peak_of(lambda: cpu_bind_mode("map_cpu:" + ",".join(["0*1024"] * 580))) < 4 * 1024**2
    # 作业号里等步长的大项照写的记，不列出几百万个；它们在数组里是几段，也先数过。
    tracemalloc.start()
    found = parse_job_reference("12_[0-19999998:4,1-19999999:7]")
    assert found is not None
    assert len(found.strided) == 2
    assert found.slots(Stride(0, 4), [TaskRange(0, 5_000_000)]) == (TaskRange(0, 5_000_000),)
    assert tracemalloc.get_traced_memory()[1] < 16 * 1024**2
    with pytest.raises(TooScattered):
        found.slots(Stride(), [TaskRange(0, 20_000_000)])
    assert tracemalloc.get_traced_memory()[1] < 16 * 1024**2
    tracemalloc.stop()
    assert parse_job_reference("12_[" + ",".join(f"{n}-9999999:7" for n in range(40)) + "]") is None
    assert parse_job_reference("12_[0-9998:2,1-9999:3]") is not None
    assert parse_job_reference(f"12_[0-{2 * MAX_SCATTERED - 2}:2]") is not None
    # 一项的等步长是一个区间，不受这个限制。
    assert len(parse_array("0-3999999:3", max_tasks=4_000_000)) == 1_333_334
