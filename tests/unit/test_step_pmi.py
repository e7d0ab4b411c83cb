"""PMI 的服务端：分段到来的消息、fence 之前之后看得见什么、不合规矩的客户。"""

import pytest

from scns_conductor.worker.step.pmi import PmiError, PmiServer, parse_pmi2, process_mapping


class Tasks:
    """一个节点上的任务；记下回答、交出去的键、结束的要求。"""

    def __init__(self, ranks: list[int], size: int) -> None:
        self.answers: dict[int, bytes] = dict.fromkeys(ranks, b"")
        self.exchanged: list[bytes] = []
        self.aborted: list[tuple[int, int, str]] = []
        self.server = PmiServer(
            job="7.0", size=size, ranks=ranks, mapping="(vector,(0,2,1))", answer=self._answer,
            exchange=self.exchanged.append, abort=lambda *what: self.aborted.append(what),
        )  # fmt: skip

    def _answer(self, rank: int, data: bytes) -> None:
        self.answers[rank] += data

    def ask(self, rank: int, data: bytes) -> bytes:
        self.answers[rank] = b""
        self.server.feed(rank, data)
        return self.answers[rank]

    def ask_2(self, rank: int, text: str) -> dict[str, str]:
        answer = self.ask(rank, b"%6d" % len(text) + text.encode())
        assert not answer or int(answer[:6]) == len(answer) - 6
        return parse_pmi2(answer[6:].decode())


def test_pmi_1_puts_become_visible_elsewhere_after_the_barrier() -> None:
    here, there = Tasks([0, 1], 3), Tasks([2], 3)
    for tasks, rank in ((here, 0), (here, 1), (there, 2)):
        answer = tasks.ask(rank, b"cmd=init pmi_version=1 pmi_subversion=1\n")
        assert answer == b"cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n"
    put = b"cmd=put kvsname=7.0 key=card-0 value=a b=c\n"
    assert here.ask(0, put[:10]) == b""
    assert here.ask(0, put[10:]) == b"cmd=put_result rc=0 msg=success\n"
    get = b"cmd=get kvsname=7.0 key=card-0\n"
    assert b"rc=-1" in there.ask(2, get)
    assert here.ask(0, b"cmd=barrier_in\n") == b""
    assert here.exchanged == []
    here.ask(1, b"cmd=barrier_in\n")
    there.ask(2, b"cmd=barrier_in\n")
    parts = here.exchanged + there.exchanged
    assert len(parts) == 2
    here.server.gathered(parts)
    there.server.gathered(parts)
    assert here.answers[0] == here.answers[1] == there.answers[2] == b"cmd=barrier_out rc=0\n"
    assert there.ask(2, get) == b"cmd=get_result rc=0 msg=success value=a b=c\n"
    mapping = b"cmd=get kvsname=7.0 key=PMI_process_mapping\n"
    assert here.ask(1, mapping) == b"cmd=get_result rc=0 msg=success value=(vector,(0,2,1))\n"


def test_pmi_2_with_semicolons_threads_and_waiting_for_a_node_attribute() -> None:
    tasks = Tasks([0, 1], 2)
    tasks.ask(0, b"cmd=init pmi_version=2 pmi_subversion=0\n")
    tasks.ask(1, b"cmd=init pmi_version=2 pmi_subversion=0\n")
    full = tasks.ask_2(1, "cmd=fullinit;pmijobid=7;pmirank=1;threaded=TRUE;")
    assert (full["rank"], full["size"], full["rc"]) == ("1", "2", "0")
    assert tasks.ask_2(1, "cmd=kvs-put;thrid=0x1f;key=k;value=a;;b=;")["thrid"] == "0x1f"
    assert tasks.ask_2(0, "cmd=info-getnodeattr;key=shm;wait=TRUE;") == {}
    tasks.ask_2(1, "cmd=info-putnodeattr;key=shm;value=s1;")
    assert parse_pmi2(tasks.answers[0][6:].decode())["value"] == "s1"
    tasks.ask_2(0, "cmd=kvs-fence;")
    tasks.ask_2(1, "cmd=kvs-fence;")
    tasks.server.gathered(tasks.exchanged)
    assert tasks.ask_2(0, "cmd=kvs-get;jobid=7.0;srcid=-1;key=k;")["value"] == "a;b="
    assert tasks.ask_2(0, "cmd=kvs-get;jobid=7.0;srcid=-1;key=x;")["found"] == "FALSE"
    assert tasks.ask_2(0, "cmd=spawn;ncmds=1;")["rc"] != "0"
    tasks.ask_2(0, "cmd=abort;isworld=TRUE;msg=bad;")
    assert tasks.aborted == [(0, 0, "bad")]


@pytest.mark.parametrize("data", [b"cmd=nonsense\n", b"cmd=put kvsname=x key=y\n", b"x" * 2_000_000])
def test_what_is_not_pmi_is_refused(data: bytes) -> None:
    with pytest.raises(PmiError):
        Tasks([0], 1).ask(0, data)


def test_a_length_that_is_no_number_is_refused() -> None:
    tasks = Tasks([0], 1)
    tasks.ask(0, b"cmd=init pmi_version=2 pmi_subversion=0\n")
    with pytest.raises(PmiError):
        tasks.ask(0, b"abcdefcmd=x;")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ({"a": [0, 1], "b": [2, 3]}, "(vector,(0,2,2))"),
        ({"a": [0, 2], "b": [1, 3]}, "(vector,(0,2,1),(0,2,1))"),
        ({"a": [0, 1, 2], "b": [3]}, "(vector,(0,1,3),(1,1,1))"),
        ({"a": [0]}, "(vector,(0,1,1))"),
    ],
)
def test_process_mapping(nodes: dict[str, list[int]], expected: str) -> None:
    assert process_mapping(nodes) == expected
