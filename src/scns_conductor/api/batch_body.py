"""批量提交的请求体：一块块地来，一个个地读出作业，读过的不留；几十 MB 的一批占的内存也就是其中的脚本那么多。"""

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from scns_conductor.api.job_request import BatchRequest, SubmitRequest
from scns_conductor.core.errors import InvalidRequest, PayloadTooLarge

_HEAD = re.compile(r'\s*\{\s*"jobs"\s*:\s*\[')
_TAIL = re.compile(r"\s*\]\s*\}\s*")
_FIRST, _NEXT = re.compile(r"\s*(?=[^\s\]])"), re.compile(r"\s*,\s*(?=\S)")
# 开头不是 {"jobs": [ 的至多看这么多，由 BatchRequest 说哪里不对。
_SAMPLE = 64 * 1024
# 说得出的也就一百处。
_MOST_ERRORS = 100
# 断在一个词（true、\\u4e2d）当中时，错误指着它的开头。
_LONGEST_WORD = 12


@dataclass(frozen=True, slots=True)
class ReadWants:
    """核对过的要求；只留写了的字段。"""

    partition: str | None
    reservation: str | None
    model_fields_set: set[str]
    found: dict[str, Any]

    def columns(self) -> dict[str, Any]:
        """写了的字段 -> JobSpec 的列。"""
        return self.found


@dataclass(frozen=True, slots=True)
class ReadDraft:
    """读出的一个作业；脚本以 UTF-8 留着：有一个表情符号的 str，每个字符都要占四字节。"""

    job: ReadWants
    packed: bytes

    @property
    def script(self) -> str:
        """脚本。"""
        return self.packed.decode()


class BatchBody:
    """依次 feed 各块，最后 finish。

    不合法的抛 RequestValidationError、InvalidRequest、PayloadTooLarge。至多 most_jobs 个，一个至多 most_characters 长。
    """

    def __init__(self, most_jobs: int, most_characters: int) -> None:
        self._most_jobs, self._most_characters = most_jobs, most_characters
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text = ""
        self._inside = False
        # 一个很大的作业不必每来一块都从头看：多出一倍才再看。
        self._enough = 0
        self._count = 0
        self._drafts: list[ReadDraft] = []
        self._errors: list[Any] = []

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """收下一块，读出其中完整的作业。"""
        try:
            self._text += self._decoder.decode(chunk, last)
        except UnicodeDecodeError as error:
            raise _malformed("不是 UTF-8", error.start) from error
        if len(self._text) < self._enough and not last:
            return
        at = 0
        if not self._inside:
            head = _HEAD.match(self._text)
            if head is None:
                if last or len(self._text) > _SAMPLE:
                    raise self._not_a_batch()
                return
            self._inside, at = True, head.end()
        while (start := (_NEXT if self._count else _FIRST).match(self._text, at)) is not None:
            end = self._element(start.end(), last=last)
            if end is None:
                break
            at = end
        self._text = self._text[at:]
        if start is None and len(self._text) > _SAMPLE:
            # 该是逗号或结尾的地方是别的：不把余下的都攒着。
            raise _malformed("作业之间没有逗号，或后面多出了东西", 0)

    def finish(self) -> list[ReadDraft]:
        """收完了：全部作业，次序不变。"""
        self.feed(b"", last=True)
        if _TAIL.fullmatch(self._text) is None:
            raise _malformed("数组没有完，或后面多出了东西", 0)
        if self._count > self._most_jobs:
            most = self._most_jobs
            raise InvalidRequest("jobs", f"一次至多 {most} 个，给了 {self._count} 个；请分几次", code="batch_too_large")
        if self._errors:
            raise RequestValidationError(self._errors)
        if not self._count:
            self._text = '{"jobs": []}'
            raise self._not_a_batch()
        return self._drafts

    def _element(self, start: int, *, last: bool) -> int | None:
        """从 start 起读一个，返回它之后的位置；还没有来全返回 None。"""
        try:
            value, end = self._json.raw_decode(self._text, start)
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _LONGEST_WORD
            if last or not cut:
                raise _malformed(error.msg, error.pos) from error
            if len(self._text) - start > self._most_characters:
                raise PayloadTooLarge(
                    f"jobs[{self._count}]：一个作业超过 {self._most_characters} 个字符；请把数据放到文件里",
                    code="payload_too_large",
                ) from error
            self._enough = 2 * (len(self._text) - start)
            return None
        except RecursionError as error:
            raise _malformed("嵌套太深", start) from error
        if end == len(self._text) and not last:
            # 数字也许还没有完；别的也不差这一块。
            return None
        self._enough = 0
        self._take(value)
        return end

    def _take(self, value: Any) -> None:
        index, self._count = self._count, self._count + 1
        if index >= self._most_jobs or len(self._errors) >= _MOST_ERRORS:
            # 只数，好说一共几个。
            return
        try:
            request = SubmitRequest.model_validate(value)
            packed = request.script.encode()
        except ValidationError as error:
            self._errors += _located(error, "jobs", index)
            self._drafts = []
        except UnicodeEncodeError:
            self._errors.append({"type": "string_unicode", "loc": ("body", "jobs", index, "script")})
            self._drafts = []
        else:
            if not self._errors:
                job = request.job
                wants = ReadWants(job.partition, job.reservation, job.model_fields_set, job.columns())
                self._drafts.append(ReadDraft(wants, packed))

    def _not_a_batch(self) -> Exception:
        """不是 {"jobs": […]}。"""
        try:
            BatchRequest.model_validate(json.loads(self._text))
        except ValidationError as error:
            return RequestValidationError(_located(error))
        except json.JSONDecodeError as error:
            return _malformed(error.msg, error.pos)
        except RecursionError:
            return _malformed("嵌套太深", 0)
        return InvalidRequest("jobs", '请求体应是 {"jobs": [{"job": …, "script": …}, …]}，每个键只写一次')


def _located(error: ValidationError, *place: str | int) -> list[Any]:
    return [{**item, "loc": ("body", *place, *item["loc"])} for item in error.errors(include_url=False)]


def _malformed(reason: str, position: int) -> RequestValidationError:
    return RequestValidationError([{"type": "json_invalid", "loc": ("body", position), "ctx": {"error": reason}}])
