# 两个阶段：第一阶段装进虚拟环境，第二阶段只带走它。API 与 worker 用同一个镜像，命令不同。
# BASE：带 python3（3.11 以上）与 venv 的 Debian；没有镜像仓库的地方可以用自己造的（make test-containers 就是）。
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY src ./src
RUN python3 -m venv /opt/scns \
 && /opt/scns/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[web,pam,oidc]'

FROM ${BASE}
# procps：作业脚本里常用 ps；tini：容器里的 1 号进程，收养并清理孤儿。
RUN apt-get update \
 && apt-get install -y --no-install-recommends procps tini \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 6820 --create-home --home-dir /var/lib/scns-conductor --shell /usr/sbin/nologin scns \
 && install -d -o scns -g scns -m 0700 /var/lib/scns-conductor
COPY --from=build /opt/scns /opt/scns
COPY scripts/health_check.py /opt/scns/bin/scns-health-check
ENV PATH=/opt/scns/bin:$PATH PYTHONUNBUFFERED=1 SCNS_DATA_DIR=/var/lib/scns-conductor SCNS_LOG_FORMAT=json
USER scns
WORKDIR /var/lib/scns-conductor
VOLUME /var/lib/scns-conductor
EXPOSE 6820 6821
ENTRYPOINT ["tini", "--"]
CMD ["scns", "api"]
