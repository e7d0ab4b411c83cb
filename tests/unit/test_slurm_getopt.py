"""Slurm 命令的选项：照 getopt_long。"""

import pytest

from scns_conductor.slurm.parse.options import UsageError, flags, option, parse, values

OPTIONS = [
    *flags("-h --noheader", "-r --array", "--me"),
    *values("-j --jobs", "-u --user", "-n --ntasks", "-s --signal", "--job-name"),
    option("--exclusive", "optional"),
]


def pairs(*words: str) -> list[tuple[str, str]]:
    return parse(words, OPTIONS).pairs


def test_unique_prefix_of_a_long_option_is_enough() -> None:
    assert pairs("--nt", "4") == [("ntasks", "4")]
    assert pairs("--sig=TERM") == [("signal", "TERM")]


def test_ambiguous_prefix_is_refused_but_exact_name_is_not() -> None:
    with pytest.raises(UsageError, match="ambiguous"):
        pairs("--n")
    assert pairs("--jobs", "1") == [("jobs", "1")]


def test_short_options_may_be_glued() -> None:
    assert pairs("-n4") == [("ntasks", "4")]
    assert pairs("-hru", "alice") == [("noheader", ""), ("array", ""), ("user", "alice")]


def test_options_may_follow_arguments() -> None:
    parsed = parse(["12", "--signal", "USR1", "13"], OPTIONS)
    assert parsed.arguments == ["12", "13"]
    assert parsed.last("signal") == "USR1"


def test_without_permutation_everything_after_the_script_belongs_to_it() -> None:
    parsed = parse(["-n", "2", "job.sh", "-n", "3"], OPTIONS, permute=False)
    assert (parsed.last("ntasks"), parsed.arguments) == ("2", ["job.sh", "-n", "3"])


def test_last_value_wins_and_every_value_is_kept() -> None:
    parsed = parse(["-j1", "--jobs=2", "-j", "3"], OPTIONS)
    assert (parsed.last("jobs"), parsed.every("jobs")) == ("3", ["1", "2", "3"])


def test_optional_value_is_taken_only_after_an_equals_sign() -> None:
    parsed = parse(["--exclusive", "user"], OPTIONS)
    assert (parsed.last("exclusive"), parsed.arguments) == ("", ["user"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nothing"], "unrecognized option '--nothing'"),
        (["-Z"], "invalid option -- 'Z'"),
        (["-j"], "option requires an argument -- 'j'"),
        (["--user"], "option '--user' requires an argument"),
        (["--me=1"], "option '--me' doesn't allow an argument"),
    ],
)
def test_errors_are_worded_as_getopt(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        parse(words, OPTIONS)
