"""Slurm 命令的选项解析与列的格式。"""

import pytest

from scns_conductor.core.batch_script import header_tokens
from scns_conductor.slurm.parse.options import UsageError, flags, parse, values
from scns_conductor.slurm.submit.batch_options import OPTIONS
from scns_conductor.slurm.table.columns import Field, letters, table

QUEUE = [*flags("-h --noheader", "--me"), *values("-j --jobs", "-u --user", "-n --name")]


def test_a_unique_prefix_of_a_long_option_is_enough() -> None:
    assert parse(["--job", "12", "--no"], QUEUE).pairs == [("jobs", "12"), ("noheader", "")]


def test_an_ambiguous_prefix_is_refused() -> None:
    with pytest.raises(UsageError, match="ambiguous"):
        parse(["--n"], QUEUE)


def test_short_options_may_be_glued_together_and_to_their_value() -> None:
    assert parse(["-hualice", "-n", "x"], QUEUE).pairs == [("noheader", ""), ("user", "alice"), ("name", "x")]


def test_options_after_positional_arguments_count() -> None:
    parsed = parse(["12", "--signal", "SIGTERM", "13"], values("-s --signal"))
    assert (parsed.last("signal"), parsed.arguments) == ("SIGTERM", ["12", "13"])


def test_what_follows_the_script_belongs_to_the_script() -> None:
    parsed = parse(["-n2", "job.sh", "-n", "9"], OPTIONS, permute=False)
    assert (parsed.last("ntasks"), parsed.arguments) == ("2", ["job.sh", "-n", "9"])


def test_a_missing_value_and_an_unknown_option_are_refused() -> None:
    with pytest.raises(UsageError, match="requires an argument"):
        parse(["--user"], QUEUE)
    with pytest.raises(UsageError, match="unrecognized option '--frob'"):
        parse(["--frob"], QUEUE)


def test_header_lines_are_quoted_like_the_shell_and_end_at_the_first_command() -> None:
    script = '#!/bin/sh\n#SBATCH -J "my job" -n 2\n\n# 注释\n#SBATCH\t--time   5\necho\n#SBATCH -n 9\n'
    parsed = parse(header_tokens(script), OPTIONS)
    assert dict(parsed.pairs) == {"job_name": "my job", "ntasks": "2", "time": "5"}


def test_literal_text_in_a_format_is_kept_in_header_and_rows() -> None:
    known = {"i": Field("JOBID", lambda row: str(row["id"])), "t": Field("ST", lambda row: str(row["state"]))}
    lines = table(letters("squeue", '"%i","%t"', known), [{"id": 1, "state": "R"}])
    assert lines == ['"JOBID","ST"', '"1","R"']


def test_widths_pad_and_truncate() -> None:
    known = {"i": Field("JOBID", lambda row: str(row["id"]))}
    assert table(letters("squeue", "%.3i|%5i", known), [{"id": 12345}], header=False) == ["123|12345"]
