"""NVML（nvidia-ml-py，附加组件 nvidia）：不必每次起一个程序，另有能耗的计数。"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from scns_conductor.worker.agent.gpus.card import Accelerator, ProbeError, Reading, model_word
from scns_conductor.worker.agent.gpus.nvidia import MAJOR, instance_of, numbered
from scns_conductor.worker.agent.gpus.probe import local_cpus

_PROFILE = re.compile(r"MIG\s+(\S+)")


class Nvml:
    """library 是 pynvml 模块。"""

    name = "nvidia"

    def __init__(self, library: ModuleType) -> None:
        self._library: Any = library

    def detect(self) -> list[Accelerator]:
        """各块卡；切成 MIG 的是各实例。"""
        nvml = self._library
        cards: list[Accelerator] = []
        with self._session():
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
                rule = f"c {MAJOR}:{nvml.nvmlDeviceGetMinorNumber(handle)} rwm"
                near = local_cpus(_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
                whole = Accelerator(index, model_word(name), "nvidia", (rule,), near, uuid)
                cards.append(whole)
                for instance in self._instances(handle) if self._sliced(handle) else ():
                    profile = _PROFILE.search(_text(nvml.nvmlDeviceGetName(instance)))
                    own = _text(nvml.nvmlDeviceGetUUID(instance))
                    cards.append(instance_of(whole, profile[1] if profile else "mig", own))
        return numbered(cards)

    def read(self) -> Mapping[str, Reading]:
        """整块的卡；MIG 实例只有显存，NVML 不给忙几成，不记。"""
        nvml = self._library
        found: dict[str, Reading] = {}
        with self._session():
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                with contextlib.suppress(nvml.NVMLError):
                    busy = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                    memory = nvml.nvmlDeviceGetMemoryInfo(handle).used // 1024**2
                    energy = self._optional("nvmlDeviceGetTotalEnergyConsumption", handle)
                    power = self._optional("nvmlDeviceGetPowerUsage", handle)
                    found[_text(nvml.nvmlDeviceGetUUID(handle))] = Reading(busy, memory, energy, power)
        return found

    def _sliced(self, handle: Any) -> bool:
        try:
            return bool(self._library.nvmlDeviceGetMigMode(handle)[0])
        except self._library.NVMLError:
            return False

    def _instances(self, handle: Any) -> Iterator[Any]:
        nvml = self._library
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(nvml.NVMLError):
                yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)

    def _optional(self, function: str, handle: Any) -> float | None:
        """毫焦、毫瓦 -> 焦、瓦；老的卡没有。"""
        try:
            return float(getattr(self._library, function)(handle)) / 1000
        except self._library.NVMLError:
            return None

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        # 每次开、关：握着它，驱动卸不掉、MIG 改不了。
        try:
            self._library.nvmlInit()
        except self._library.NVMLError as error:
            raise ProbeError(f"NVML：{error}") from error
        try:
            yield
        except self._library.NVMLError as error:
            raise ProbeError(f"NVML：{error}") from error
        finally:
            with contextlib.suppress(self._library.NVMLError):
                self._library.nvmlShutdown()


def _text(value: str | bytes) -> str:
    """老的版本给的是字节。"""
    return value.decode() if isinstance(value, bytes) else value


def nvml_if_working() -> Nvml | None:
    """装了、驱动也在才有。"""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None
    return Nvml(pynvml)
