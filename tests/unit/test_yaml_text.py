"""--yaml 的写法：写出来的读回来是同一个东西。"""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from scns_conductor.slurm.table.yaml_text import lines

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(st.dictionaries(TEXT, VALUES))
def test_what_is_written_is_read_back(value: dict[str, object]) -> None:
    assert yaml.safe_load("%YAML 1.1\n---\n" + "\n".join(lines(value) if value else ["{}"]) + "\n...\n") == value


def test_words_that_look_like_other_types_stay_words() -> None:
    value = {
        "no": "no",
        "on": "yes",
        "1": "1",
        "a b": "~",
        "null": "null",
        "time": "12:30:45",
        "x": 1e-05,
        "inf": 1e300,
    }
    assert yaml.safe_load("\n".join(lines(value))) == value
