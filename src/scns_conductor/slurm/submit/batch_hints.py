"""只是提示的选项（绑定、频率、采样……）：不起作用，值写错了仍照 sbatch 22.05 的原话与退出码拒绝。"""

import re
from collections.abc import Callable, Mapping

from scns_conductor.core.units import parse_duration
from scns_conductor.slurm.session import Fatal
from scns_conductor.slurm.submit import newer_options
from scns_conductor.slurm.submit.node_orders import limit_variables

_BAD = 255
_FREQUENCY = r"(low|medium|high|highm1|\d+)"
_GOVERNOR = r"(conservative|ondemand|performance|powersave|schedutil|userspace)"
_FORMS = {
    "hint": r"(compute_bound|memory_bound|(no)?multithread|help)(,(compute_bound|memory_bound|(no)?multithread))*",
    "mem_bind": r"((v|verbose|q|quiet|no|none|sort|nosort|p|prefer|rank|local|help"
    r"|(map|mask)_mem:[^,]+(,(0x)?[\da-f]+)*),?)+",
    "gres_flags": r"(disable|enforce)-binding|allow-task-sharing|(one-task|multiple-tasks)-per-sharing",
    "profile": r"(all|none|energy|task|lustre|network|filesystem)(,(energy|task|lustre|network|filesystem))*",
    "acctg_freq": r"(\d+|(energy|task|network|filesystem)=\d+(,(energy|task|network|filesystem)=\d+)*)",
    "cpu_freq": rf"({_FREQUENCY}(-{_FREQUENCY})?(:{_GOVERNOR})?|{_GOVERNOR})",
    "gpu_freq": rf"(verbose|([a-z]+=)?{_FREQUENCY})(,(verbose|([a-z]+=)?{_FREQUENCY}))*",
    "get_user_env": r"(\d+[sl]?|[sl])?",
    **newer_options.FORMS,
}  # fmt: skip
# 拒绝时的话与退出码；没有列的是 Invalid --名字 specification。
_WORDS: dict[str, Callable[[str], tuple[tuple[str, ...], int]]] = {
    "hint": lambda text: ((f'unrecognized --hint argument "{text}", see --hint=help',), 1),
    "mem_bind": lambda text: ((f'unrecognized --mem-bind argument "{text}"',), _BAD),
    "profile": lambda text: ((f"invalid --profile={text} option",), _BAD),
    "acctg_freq": lambda text: ((f"Invalid --acctg-freq specification: {text}",), _BAD),
    "cpu_freq": lambda text: ((f'unrecognized --cpu-freq argument "{text}"', "Invalid --cpu-freq argument"), _BAD),
    "gpu_freq": lambda text: ((f"Invalid --gpu-freq argument: {text if '=' in text else f'gpu:{text}'}",), _BAD),
}
_COUNTS = (
    "ntasks_per_core", "ntasks_per_socket", "threads_per_core", "cores_per_socket", "sockets_per_node",
    "wait_all_nodes",
)  # fmt: skip


def check_hints(given: Mapping[str, str]) -> None:
    """有一个写错了就抛 Fatal。"""
    for key, form in _FORMS.items():
        text = given.get(key)
        if text is not None and not re.fullmatch(form, text, re.IGNORECASE):
            lines, code = _WORDS.get(key, _invalid(key))(text)
            raise Fatal(*lines, code=code)
    for key in _COUNTS:
        text = given.get(key)
        if text is not None and (not text.isdigit() or (text == "0" and key != "wait_all_nodes")):
            raise Fatal(f'Invalid numeric value "{text}" for --{key.replace("_", "-")}.')
    if given.get("wait_all_nodes", "0") not in ("0", "1"):
        raise Fatal("Invalid --wait-all-nodes specification", code=_BAD)
    if not re.fullmatch(r"[\d*]+(:[\d*]+){0,2}", given.get("extra_node_info", "1")):
        raise Fatal(f'Invalid numeric value "{given["extra_node_info"]}" for first arg of -B.')
    if given.get("delay_boot"):
        try:
            parse_duration(given["delay_boot"])
        except ValueError:
            raise Fatal("Invalid --delay-boot specification", code=_BAD) from None
    if "propagate" in given:
        limit_variables(given)


def _invalid(key: str) -> Callable[[str], tuple[tuple[str, ...], int]]:
    return lambda _text: ((f"Invalid --{key.replace('_', '-')} specification",), _BAD)
