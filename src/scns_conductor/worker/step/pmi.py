"""PMI-1 与 PMI-2 的服务端（MPICH 系的 MPI 靠它互相找到）：一个节点一个，任务经 PMI_FD 连着它。

两种协议共用一个键值空间；fence（barrier）时各节点的新键由 srun 汇齐再分给每个节点。只用标准库。
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MOST_MESSAGE = 1024**2
# PMI-1 的客户按这些长度分配缓冲区；更大的值 MPICH 处理不好。
_MAXES = "kvsname_max=256 keylen_max=64 vallen_max=1024"
_SUCCESS, _FAILURE = "0", "14"
_UNSUPPORTED = {"spawn", "name-publish", "name-unpublish", "name-lookup", "job-connect", "job-disconnect", "ring"}
_UNSUPPORTED_1 = {"spawn": "spawn", "publish_name": "publish", "unpublish_name": "unpublish", "lookup_name": "lookup"}


class PmiError(ValueError):
    """任务说的不是 PMI。"""


class _Client:
    """一个任务。waits_for 是它在等的节点属性；fenced 表示在等 fence。"""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.version = 0
        self.data = bytearray()
        self.thread = ""
        self.fenced = False
        self.waits_for: str | None = None


class PmiServer:
    """本节点的任务。answer 把回答送给一个任务，exchange 交出本节点的新键，abort 是任务要求结束整个作业步。"""

    def __init__(
        self,
        *,
        job: str,
        size: int,
        ranks: Sequence[int],
        mapping: str,
        answer: Callable[[int, bytes], None],
        exchange: Callable[[bytes], None],
        abort: Callable[[int, int, str], None],
    ) -> None:
        self._job = job
        self._size = size
        self._answer = answer
        self._exchange = exchange
        self._abort = abort
        self._clients = {rank: _Client(rank) for rank in ranks}
        self._fresh: dict[str, str] = {}
        self._shared: dict[str, str] = {"PMI_process_mapping": mapping}
        self._node: dict[str, str] = {}

    def feed(self, rank: int, chunk: bytes) -> None:
        """收下一个任务送来的字节；不成话抛 PmiError。"""
        client = self._clients[rank]
        client.data += chunk
        if len(client.data) > MOST_MESSAGE:
            raise PmiError(f"一条消息多于 {MOST_MESSAGE} 字节")
        while message := self._next(client):
            if client.version == 2:
                self._serve_2(client, message)
            else:
                self._serve_1(client, message)

    def gathered(self, parts: Sequence[bytes]) -> None:
        """srun 汇齐了：各节点交出的键都归并进来，等着的任务放行。"""
        for part in parts:
            self._shared.update(json.loads(part))
        for client in self._clients.values():
            if client.fenced:
                client.fenced = False
                if client.version == 2:
                    self._reply_2(client, "kvs-fence", rc=_SUCCESS)
                else:
                    self._reply_1(client, "cmd=barrier_out rc=0")

    def _next(self, client: _Client) -> str | None:
        """下一条完整的消息；PMI-2 的前面有六个字符的长度，其余的以换行结束。"""
        if client.version == 2:
            if len(client.data) < 6:
                return None
            try:
                length = int(client.data[:6])
            except ValueError as error:
                raise PmiError("PMI-2 的长度不是数") from error
            if len(client.data) < 6 + length:
                return None
            text, client.data = client.data[6 : 6 + length], client.data[6 + length :]
        else:
            line, newline, rest = client.data.partition(b"\n")
            if not newline:
                return None
            text, client.data = line, rest
        return text.decode("latin-1") or " "

    def _fence(self, client: _Client) -> None:
        client.fenced = True
        if all(each.fenced for each in self._clients.values()):
            fresh, self._fresh = self._fresh, {}
            self._exchange(json.dumps(fresh).encode())

    # ---- PMI-1 ----

    def _serve_1(self, client: _Client, line: str) -> None:
        words = dict(word.partition("=")[::2] for word in line.split(" ") if "=" in word)
        # 值里可能有空格与等号，它总在最后。
        head, found, value = line.partition(" value=")
        command = words.get("cmd") or words.get("mcmd", "")
        match command:
            case "init":
                client.version = 2 if words.get("pmi_version") == "2" else 1
                subversion = 0 if client.version == 2 else 1
                self._reply_1(
                    client, f"cmd=response_to_init pmi_version={client.version} pmi_subversion={subversion} rc=0"
                )
            case "get_maxes":
                self._reply_1(client, f"cmd=maxes {_MAXES} rc=0")
            case "get_appnum":
                self._reply_1(client, "cmd=appnum appnum=0 rc=0")
            case "get_my_kvsname":
                self._reply_1(client, f"cmd=my_kvsname kvsname={self._job} rc=0")
            case "get_universe_size":
                self._reply_1(client, f"cmd=universe_size size={self._size} rc=0")
            case "get_ranks2hosts":
                self._reply_1(client, "cmd=put_ranks2hosts 0 0 ")
            case "put":
                key = dict(word.partition("=")[::2] for word in head.split(" ")).get("key", "")
                if not found or not key:
                    raise PmiError(f"put 缺少 key 或 value：{line[:200]}")
                self._fresh[key] = value
                self._reply_1(client, "cmd=put_result rc=0 msg=success")
            case "get":
                known = self._lookup(words.get("key", ""))
                if known is None:
                    self._reply_1(client, f"cmd=get_result rc=-1 msg=key_{words.get('key')}_not_found value=unknown")
                else:
                    self._reply_1(client, f"cmd=get_result rc=0 msg=success value={known}")
            case "barrier_in":
                self._fence(client)
            case "finalize":
                self._reply_1(client, "cmd=finalize_ack rc=0")
            case "abort":
                self._abort(client.rank, _number(words.get("exitcode")), "")
            case "endcmd" | "":
                return
            case _ if command in _UNSUPPORTED_1:
                name = _UNSUPPORTED_1[command]
                self._reply_1(client, f"cmd={name}_result rc=-1 msg=not_supported info=not_supported errcodes=-1")
            case _:
                raise PmiError(f"不认识的 PMI-1 命令 {command!r}")

    def _reply_1(self, client: _Client, text: str) -> None:
        self._answer(client.rank, f"{text}\n".encode("latin-1", "replace"))

    def _lookup(self, key: str) -> str | None:
        # 自己节点上刚放的不等 fence 也看得见。
        return self._fresh.get(key, self._shared.get(key))

    # ---- PMI-2 ----

    def _serve_2(self, client: _Client, text: str) -> None:
        fields = parse_pmi2(text)
        client.thread = fields.get("thrid", "")
        command = fields.get("cmd", "")
        match command:
            case "fullinit":
                self._reply_2(
                    client, command, rc=_SUCCESS, pmi_version="2", pmi_subversion="0", rank=str(client.rank),
                    size=str(self._size), appnum="0", debugged="FALSE", pmiverbose="FALSE",
                )  # fmt: skip
            case "finalize":
                self._reply_2(client, command, rc=_SUCCESS)
            case "abort":
                self._abort(client.rank, 0, fields.get("msg", ""))
            case "job-getid":
                self._reply_2(client, command, rc=_SUCCESS, jobid=self._job)
            case "kvs-put":
                self._fresh[fields["key"]] = fields.get("value", "")
                self._reply_2(client, command, rc=_SUCCESS)
            case "kvs-get":
                self._reply_found(client, command, self._lookup(fields.get("key", "")))
            case "kvs-fence":
                self._fence(client)
            case "info-putnodeattr":
                self._put_node(fields["key"], fields.get("value", ""))
                self._reply_2(client, command, rc=_SUCCESS)
            case "info-getnodeattr":
                key = fields.get("key", "")
                if key not in self._node and fields.get("wait", "").upper() == "TRUE":
                    client.waits_for = key
                else:
                    self._reply_found(client, command, self._node.get(key))
            case "info-getjobattr":
                job = {"universeSize": str(self._size), "PMI_process_mapping": self._shared["PMI_process_mapping"]}
                self._reply_found(client, command, job.get(fields.get("key", "")))
            case _ if command in _UNSUPPORTED:
                self._reply_2(client, command, rc=_FAILURE, errmsg="not supported")
            case _:
                raise PmiError(f"不认识的 PMI-2 命令 {command!r}")

    def _put_node(self, key: str, value: str) -> None:
        self._node[key] = value
        for client in self._clients.values():
            if client.waits_for == key:
                client.waits_for = None
                self._reply_found(client, "info-getnodeattr", value)

    def _reply_found(self, client: _Client, command: str, value: str | None) -> None:
        if value is None:
            self._reply_2(client, command, rc=_SUCCESS, found="FALSE")
        else:
            self._reply_2(client, command, rc=_SUCCESS, found="TRUE", value=value)

    def _reply_2(self, client: _Client, command: str, **fields: str) -> None:
        pairs = {"cmd": f"{command}-response", **({"thrid": client.thread} if client.thread else {}), **fields}
        text = "".join(f"{name.replace('_', '-')}={value.replace(';', ';;')};" for name, value in pairs.items())
        body = text.encode("latin-1", "replace")
        self._answer(client.rank, b"%6d" % len(body) + body)


def parse_pmi2(text: str) -> dict[str, str]:
    """'cmd=x;key=a;;b;' -> {'cmd': 'x', 'key': 'a;b'}；值里的分号写两个。"""
    found: dict[str, str] = {}
    name, value, in_value = "", "", False
    index = 0
    while index < len(text):
        letter = text[index]
        index += 1
        if not in_value:
            if letter == "=":
                in_value = True
            else:
                name += letter
        elif letter != ";":
            value += letter
        elif text[index : index + 1] == ";":
            value += ";"
            index += 1
        else:
            found[name] = value
            name, value, in_value = "", "", False
    if in_value:
        found[name] = value
    return found


def process_mapping(nodes: Mapping[str, Sequence[int]]) -> str:
    """各节点上的任务 -> PMI_process_mapping：(vector,(首节点,节点数,每节点任务数),…)，按任务序号展开。"""
    owner = {rank: index for index, ranks in enumerate(nodes.values()) for rank in ranks}
    runs: list[list[int]] = []
    for rank in sorted(owner):
        if runs and runs[-1][0] == owner[rank]:
            runs[-1][1] += 1
        else:
            runs.append([owner[rank], 1])
    blocks: list[list[int]] = []
    for node, count in runs:
        if blocks and blocks[-1][2] == count and blocks[-1][0] + blocks[-1][1] == node:
            blocks[-1][1] += 1
        else:
            blocks.append([node, 1, count])
    return "(vector," + ",".join(f"({first},{many},{count})" for first, many, count in blocks) + ")"


def _number(text: str | None) -> int:
    return int(text) if text and text.lstrip("-").isdigit() else 1
