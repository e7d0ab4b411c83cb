"""scns top 打开的几屏：一个作业的输出、它为什么等、问一句、全部的键。"""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Label, RichLog, Static

from scns_conductor.cli.job_text import local_time
from scns_conductor.cli.top_rows import plain
from scns_conductor.client import AsyncClient
from scns_conductor.client.output_calls import Stream
from scns_conductor.client.problem import ClientError
from scns_conductor.client.request import Request, segment
from scns_conductor.client.wire import Answer
from scns_conductor.language import told

# 输出从末尾多少字节看起，至多留几行。
TAIL_BYTES = 65_536
MOST_LINES = 5_000
BACK: list[BindingType] = [Binding("escape,q", "app.pop_screen", told("返回"))]


class LogScreen(Screen[None]):
    """一个作业的输出，边写边看。"""

    BINDINGS: ClassVar[list[BindingType]] = [*BACK, Binding("e", "other", told("标准输出/错误"))]

    def __init__(self, client: AsyncClient, job_id: str, *, begun: bool = True) -> None:
        super().__init__()
        self._client, self._job_id, self._begun = client, job_id, begun
        self._stream: Stream = "stdout"
        self._rest = b""

    def compose(self) -> ComposeResult:
        """一行标题，其余是输出。"""
        yield Label("", id="title", markup=False)
        yield RichLog(max_lines=MOST_LINES, wrap=True, markup=False, auto_scroll=True)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """打开就跟着。"""
        self._follow()
        self.query_one(RichLog).focus()

    def action_other(self) -> None:
        """换标准输出与标准错误。"""
        self._stream = "stderr" if self._stream == "stdout" else "stdout"
        self.query_one(RichLog).clear()
        self._follow()

    @work(exclusive=True)
    async def _follow(self) -> None:
        title = self.query_one("#title", Label)
        plainly = f"{told('作业')} {self._job_id} · {self._stream}"
        title.update(plainly if self._begun else f"{plainly} · {told('还没有开始')}")
        self._rest = b""
        try:
            data, total = await self._client.send(tail_of(self._job_id, self._stream))
            self._write(data)
            async for event in self._client.follow(self._job_id, self._stream, offset=total):
                if event.name == "output":
                    self._begun = True
                    title.update(plainly)
                    self._write(event.output())
                elif event.name == "end":
                    state = str(event.json().get("state", ""))
                    title.update(f"{plainly} · {told('结束了')} {state}")
        except ClientError as error:
            title.update(f"{told('作业')} {self._job_id} · {plain(told(str(error)))}")
        self._write(b"", last=True)

    def _write(self, data: bytes, *, last: bool = False) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if last and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        log = self.query_one(RichLog)
        for line in lines:
            text = Text.from_ansi(line.decode(errors="replace").rsplit("\r", 1)[-1])
            text.plain = plain(text.plain.expandtabs())
            log.write(text)


class WhyScreen(ModalScreen[None]):
    """一个作业为什么还没有开始。"""

    BINDINGS: ClassVar[list[BindingType]] = BACK

    def __init__(self, client: AsyncClient, job_id: str) -> None:
        super().__init__()
        self._client, self._job_id = client, job_id

    def compose(self) -> ComposeResult:
        """一个框。"""
        with VerticalScroll(classes="box"):
            yield Static(told("正在问……"), id="why", markup=False)
            yield Label(told("Esc 返回"), classes="hint", markup=False)

    def on_mount(self) -> None:
        """打开就问。"""
        self._ask()

    @work(exclusive=True)
    async def _ask(self) -> None:
        try:
            found = await self._client.why(self._job_id)
        except ClientError as error:
            self.query_one("#why", Static).update(plain(told(str(error))))
            return
        head = [found.job_id, found.state, *([found.reason] if found.reason not in (None, "None") else [])]
        lines = [f"{told('作业')} {'  '.join(head)}", "", told(found.text)]
        if found.expected_start_time:
            lines.append(f"{told('预计开始')} {local_time(found.expected_start_time.isoformat())}")
        self.query_one("#why", Static).update("\n".join(plain(part) for each in lines for part in each.split("\n")))


class SureScreen(ModalScreen[bool]):
    """问一句：y 是，别的不是。"""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", told("是")), Binding("n,escape,q", "answer(False)", told("不")),
    ]  # fmt: skip

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """一个框。"""
        with Vertical(classes="box small"):
            yield Static(self._question, markup=False)
            yield Label(told("y 是   n 不"), classes="hint", markup=False)

    def action_answer(self, sure: bool) -> None:
        """答了。"""
        self.dismiss(sure)


class HelpScreen(ModalScreen[None]):
    """全部的键。"""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "app.pop_screen", told("返回"))]

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._keys = keys

    def compose(self) -> ComposeResult:
        """一个框。"""
        with VerticalScroll(classes="box"):
            for key, meaning in self._keys:
                yield Static(f"{key:<10} {meaning}", markup=False)
            yield Label(told("Esc 返回"), classes="hint", markup=False)


def tail_of(job_id: str, stream: Stream) -> Request[tuple[bytes, int]]:
    """输出的末尾，与此刻一共多少字节：从那里接着跟。"""

    def read(answer: Answer) -> tuple[bytes, int]:
        total = next((value for name, value in answer.headers.items() if name.lower() == "x-total-bytes"), "0")
        return answer.body, int(total)

    return Request("GET", f"/jobs/{segment(job_id)}/logs/{stream}", query={"tail": TAIL_BYTES}, read=read)
