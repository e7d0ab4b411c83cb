"""cluster.yaml 的读写：核心写法、行号、坏文件。"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.cli.cluster_yaml import LARGEST, UnreadableYaml, read_cluster_yaml, write_cluster_yaml

_SCALARS = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(min_size=1, max_size=8), _VALUES, max_size=4))
def test_what_is_written_reads_back(content: dict[str, object]) -> None:
    text = write_cluster_yaml(content)
    assert read_cluster_yaml(text.encode(), "x").content == content


@given(st.binary(max_size=80) | st.text("a:-[]{}&*!|>?#'\"%@`<,\n 01.", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_with_one_line(data: bytes) -> None:
    try:
        assert isinstance(read_cluster_yaml(data, "x").content, dict)
    except UnreadableYaml as error:
        said = str(error)
        assert said.startswith("x"), said
        assert "\n" not in said, said


def test_times_are_text_and_places_have_lines() -> None:
    found = read_cluster_yaml(
        b"common: &all\n  max_time: 1:30:00\npartitions:\n  - name: a\n    <<: *all\n"
        b"  - name: yes\n    grace_time: 5\n",
        "c.yaml",
    )
    assert found.content["partitions"] == [
        {"name": "a", "max_time": "1:30:00"},
        {"name": "yes", "grace_time": 5},
    ]
    assert found.where("partitions[1].grace_time") == "c.yaml:7"
    # 没有写的那一处：最近的上一层。
    assert found.where("partitions[1].nodes") == "c.yaml:6"
    assert found.where("accounts") == "c.yaml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "x:2：a 写了两遍，上一遍在第 1 行"),
        ("a: [1\n", "x:2"),
        ("- 1\n", "最外层"),
        ("a: &a [*a]\n", "引用"),
        ("a: !!python/object:os.system {}\n", "x"),
        ("a: !env X\n", "x:1：不认识的标签"),
    ],
)
def test_broken_files_name_the_line(text: str, said: str) -> None:
    with pytest.raises(UnreadableYaml, match=r"^x") as refused:
        read_cluster_yaml(text.encode(), "x")
    assert said in str(refused.value)


def test_deep_wide_and_huge_files_are_refused_early() -> None:
    tenfold = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
        f"{here}: &{here} [{','.join([f'*{above}'] * 10)}]\n" for above, here in zip("abcde", "bcdef", strict=True)
    )
    for text, said in (
        ("a: " + "[" * 5000 + "]" * 5000, "x：太深"),
        (tenfold, "太大"),
        ("#" * (LARGEST + 1), "x：太大"),
    ):
        with pytest.raises(UnreadableYaml, match=said):
            read_cluster_yaml(text.encode(), "x")
