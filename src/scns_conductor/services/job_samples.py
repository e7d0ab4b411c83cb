"""一个作业的 CPU、内存、GPU 随时间怎样变化：各节点的，与合在一起的。"""

import asyncio
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from scns_conductor.core.answers.jobs import JobSamples, NodeSamples, SampleSeries
from scns_conductor.core.states import ACTIVE_STATES
from scns_conductor.core.tokens import Identity
from scns_conductor.services.answers import AnswerDesk
from scns_conductor.services.job_queries import read_job, require_reader
from scns_conductor.services.job_steps import ask_nodes_to_sample
from scns_conductor.statements.job_detail import SAMPLED
from scns_conductor.statements.job_samples import SAMPLES_OF_JOB


async def job_samples(
    engine: AsyncEngine, desk: AnswerDesk, identity: Identity, job_id: str, *, attempt: int | None, live: bool
) -> JobSamples:
    """attempt 缺省是最近一次；live 为真时先请节点此刻采样一次。别人的作业抛 Forbidden。"""
    job = await read_job(engine, job_id, SAMPLED)
    require_reader(identity, job, "用量", job_id)
    wanted = job["restart_count"] if attempt is None else attempt
    if live and wanted == job["restart_count"] and job["state"] in ACTIVE_STATES:
        await ask_nodes_to_sample(engine, desk, [job["job_id"]])
    async with engine.connect() as connection:
        values = {"job_id": job["job_id"], "restart_count": wanted}
        rows = (await connection.execute(SAMPLES_OF_JOB, values)).all()
    # 换算成每一格的平均数要过一遍全部的格，不在事件循环里占着：上千个节点的作业也不耽误别人。
    nodes, total = await asyncio.to_thread(_shown, rows)
    return {
        "job_id": str(job["job_id"]),
        "restart_count": wanted,
        "running": job["state"] in ACTIVE_STATES and wanted == job["restart_count"],
        "total": total,
        "nodes": nodes,
    }


def _shown(rows: Sequence[Row[Any]]) -> tuple[list[NodeSamples], SampleSeries | None]:
    nodes: list[NodeSamples] = [{"node_name": row.node_name, **_series(row)} for row in rows]
    return nodes, _total(rows) if rows else None


def _series(row: Any) -> SampleSeries:
    lengths = [min(row.width_s, row.elapsed_s - index * row.width_s) or row.width_s for index in range(len(row.cpu_s))]
    return _answer(
        *(row.since, row.width_s, row.elapsed_s),
        [used / length for used, length in zip(row.cpu_s, lengths, strict=True)],
        row.memory_mb,
        None if row.gpu_s is None else [used / length for used, length in zip(row.gpu_s, lengths, strict=False)],
        row.gpu_memory_mb,
        row.gpu_energy_j,
    )


def _answer(
    since: datetime,
    width_s: float,
    elapsed_s: float,
    cpus: Sequence[float],
    memory_mb: Sequence[int | None],
    gpus: Sequence[float] | None,
    gpu_memory_mb: Sequence[int | None] | None,
    gpu_energy_j: float | None,
) -> SampleSeries:
    return {
        "since": since.isoformat(),
        "width_s": width_s,
        "elapsed_s": round(elapsed_s, 3),
        "cpus": [round(value, 3) for value in cpus],
        "memory_mb": list(memory_mb),
        "gpus": None if gpus is None else [round(value, 3) for value in gpus],
        "gpu_memory_mb": None if gpu_memory_mb is None else list(gpu_memory_mb),
        "gpu_energy_j": None if gpu_energy_j is None else round(gpu_energy_j, 1),
    }


def _total(rows: Sequence[Any]) -> SampleSeries:
    """各节点合在一起：格子取最宽的，CPU 按重叠的时间摊，内存是各节点同一格里的峰值之和。"""
    since = min(row.since for row in rows)
    ends = [(row.since - since).total_seconds() + row.elapsed_s for row in rows]
    width_s, elapsed_s = max(row.width_s for row in rows), max(ends)
    buckets = max(1, math.ceil(round(elapsed_s / width_s, 6)))
    cpu_s, gpu_s = [0.0] * buckets, [0.0] * buckets
    memory: list[int | None] = [None] * buckets
    gpu_memory: list[int | None] = [None] * buckets
    for row in rows:
        offset_s = (row.since - since) / timedelta(seconds=1)
        _spread(cpu_s, row.cpu_s, offset_s, row, width_s)
        _spread(gpu_s, row.gpu_s or (), offset_s, row, width_s)
        _pile(memory, row.memory_mb, offset_s, row.width_s, width_s)
        _pile(gpu_memory, row.gpu_memory_mb or (), offset_s, row.width_s, width_s)
    lengths = [min(width_s, elapsed_s - index * width_s) or width_s for index in range(buckets)]
    has_gpu = any(row.gpu_s is not None for row in rows)
    energies = [row.gpu_energy_j for row in rows if row.gpu_energy_j is not None]
    return _answer(
        *(since, width_s, elapsed_s),
        [used / length for used, length in zip(cpu_s, lengths, strict=True)],
        memory,
        [used / length for used, length in zip(gpu_s, lengths, strict=True)] if has_gpu else None,
        gpu_memory if has_gpu else None,
        sum(energies) if energies else None,
    )


def _spread(into: list[float], used: Sequence[float], offset_s: float, row: Any, width_s: float) -> None:
    for index, amount in enumerate(used):
        begun_s = offset_s + index * row.width_s
        ended_s = min(begun_s + row.width_s, offset_s + row.elapsed_s)
        length_s = ended_s - begun_s
        if length_s <= 0:
            continue
        for bucket in range(int(begun_s // width_s), min(len(into), math.ceil(ended_s / width_s))):
            overlap_s = min(ended_s, (bucket + 1) * width_s) - max(begun_s, bucket * width_s)
            into[bucket] += amount * max(0.0, overlap_s) / length_s


def _pile(
    into: list[int | None], peaks: Sequence[int | None], offset_s: float, own_width_s: float, width_s: float
) -> None:
    own: dict[int, int] = {}
    for index, peak in enumerate(peaks):
        if peak is not None:
            bucket = min(len(into) - 1, int((offset_s + index * own_width_s) // width_s))
            own[bucket] = max(own.get(bucket, 0), peak)
    for bucket, peak in own.items():
        into[bucket] = (into[bucket] or 0) + peak
