"""命令与系统之间：连接、Slurm 的英文错误、退出码。"""

import os
import sys
from collections.abc import Callable, Sequence

from scns_conductor.client import ClientError, EndpointUnknown, JsonClient, Problem, Unreachable
from scns_conductor.client.conductor import for_commands
from scns_conductor.slurm.error_words import DETAILS, slurm_words
from scns_conductor.slurm.parse.help_text import help_lines, usage_lines
from scns_conductor.slurm.parse.options import Option, Parsed, UsageError, parse

CONTACT_FAILED = "Unable to contact slurm controller (connect failure)"


# 用户问了 --help、--usage 的命令的选项：打印过用法之后一一列出。
_helped: list[Sequence[Option]] = []
_used: list[Sequence[Option]] = []
# 写了 -vv 的命令：它的每个请求说一行。
_telling: list[str] = []
# 几个 -v 起说请求。
_TELLING_LEVEL = 2


class Fatal(Exception):
    """打印 lines（各行前加「命令: error: 」）并以 code 退出；prefix 为 None 时行首什么也不加（slurm_perror）。

    exact 的退出码不因 SLURM_EXIT_ERROR 而变。
    """

    def __init__(self, *lines: str, code: int = 1, prefix: str | None = "error: ", exact: bool = False) -> None:
        super().__init__(*lines)
        self.lines, self.code, self.prefix, self.exact = lines, code, prefix, exact


def slurm_error(error: ClientError) -> str:
    """服务器或连接的错误，换成 Slurm 的那句话；没有对应的，是服务器说的那句的英文。"""
    if isinstance(error, (EndpointUnknown, Unreachable)):
        return CONTACT_FAILED
    if not isinstance(error, Problem):
        return in_english(error)
    if error.status == 503:
        return CONTACT_FAILED
    field = error.errors[0].get("field", "") if error.errors else ""
    known = slurm_words(error.code, field)
    return known or in_english(error)


def in_english(error: Exception) -> str:
    """错误的说明，英文：Slurm 的命令同 Slurm 说英文，无论使用者的语言。"""
    # 译文有几百 KB，没有出错的命令不载入。
    from scns_conductor.language.catalogue import english

    return english(str(error))


def refusal_details(error: ClientError) -> list[str]:
    """提交被拒时排在那句话前面的说明；没有则为空。"""
    return [DETAILS[error.code]] if isinstance(error, Problem) and error.code in DETAILS else []


def say(command: str, line: str) -> None:
    """一行到标准错误，前面是命令的名字。"""
    print(f"{command}: {line}", file=sys.stderr)


def warn_not_exported(name: str) -> None:
    """变量不是 UTF-8，带不进作业：说一句，不悄悄没了。"""
    command = os.path.basename(sys.argv[0])
    say(command, f"warning: environment variable {name!a} is not valid UTF-8; not exported to the job")


def tell_requests(command: str, level: int) -> None:
    """写了几个 -v；-vv 起，此后的请求各说一行。"""
    if level >= _TELLING_LEVEL:
        _telling.append(command)


def connect(timeout_s: float = 60.0) -> JsonClient:
    """连接的对象，一个请求至多等 timeout_s 秒；找不到系统抛 EndpointUnknown。"""
    if not _telling:
        return for_commands(_waiting, timeout_s=timeout_s)
    from scns_conductor.slurm.telling_client import TellingClient

    client = for_commands(_waiting, TellingClient, timeout_s=timeout_s)
    client.command = _telling[0]  # type: ignore[attr-defined]
    return client


def _waiting(problem: Problem, wait_s: float) -> None:
    # sbatch 在 slurmctld 不答话时的那一句。
    command = os.path.basename(sys.argv[0])
    say(command, f"error: Slurm temporarily unable to accept job, sleeping and retrying ({problem.code}, {wait_s:g} s)")


def parse_or_exit(
    command: str,
    words: Sequence[str],
    options: Sequence[Option],
    *,
    permute: bool = True,
    code: int = 1,
    hint: bool = True,
) -> Parsed:
    """解析选项；写错了照 Slurm 打印两行（sacct 没有第二行的 hint），以 code 退出（sbatch 是 255，其余是 1）。"""
    try:
        parsed = parse(words, options, permute=permute)
        if "help" in parsed:
            _helped.append(options)
        elif "usage" in parsed:
            _used.append(options)
        tell_requests(command, len(parsed.every("verbose")))
        return parsed
    except UsageError as error:
        print(f"{command}: {error}", file=sys.stderr)
        if hint:
            print(f'Try "{command} --help" for more information', file=sys.stderr)
        raise SystemExit(code) from None


def _error_code(command: str, code: int) -> int:
    """SLURM_EXIT_ERROR：分得清是 Slurm 的错误还是程序的退出码；写错的选项（255）不受它管（同 22.05）。"""
    wanted = os.environ.get("SLURM_EXIT_ERROR", "") if command in ("sbatch", "srun", "salloc") else ""
    return int(wanted) & 0xFF if code == 1 and wanted.isdigit() else code


def current_umask() -> int:
    """作业沿用提交者的 umask（SLURM_UMASK 优先）。"""
    given = os.environ.get("SLURM_UMASK", "")
    if given and set(given) <= set("01234567"):
        return int(given, 8) & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return mask


def told(command: str, error: Fatal) -> int:
    """打印 Fatal 的各行，返回退出码。"""
    for line in error.lines:
        print(line if error.prefix is None else f"{command}: {error.prefix}{line}", file=sys.stderr)
    return error.code if error.exact else _error_code(command, error.code)


def run(command: str, body: Callable[[list[str]], int], words: list[str]) -> int:
    """执行一个命令；Fatal 与连接的错误变成一行英文和退出码。"""
    try:
        code = body(words)
        for options in _helped[:1]:
            print("\n".join(help_lines(options)))
        for options in _used[:1]:
            print("\n".join(usage_lines(options)))
        return code
    except Fatal as error:
        return told(command, error)
    except ClientError as error:
        say(command, f"error: {slurm_error(error)}")
        if isinstance(error, (EndpointUnknown, Unreachable)):
            # Slurm 不说原因；原因（地址、怎么启动）附在后面一行。
            say(command, in_english(error))
        return _error_code(command, 1)
    except BrokenPipeError:
        # 下游（head）不读了；免得解释器退出时再报一次。
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
