# SCNS-Conductor：常用的命令。只需要 python3（3.11 以上）、python3-venv 与 make。
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
SCNS := $(VENV)/bin/scns
# 有的机器不许 Python 存字节码：每个进程就得把整个包再编译一遍，测试要起几千个。
unexport PYTHONDONTWRITEBYTECODE
# 数据目录：缺省 root 用 /var/lib/scns-conductor，普通用户用 ~/.local/share/scns-conductor。
DATA_DIR ?=
UP_OPTIONS := $(if $(DATA_DIR),--data-dir $(DATA_DIR))
SEED ?= 1
JOBS ?= 2000
WORKERS ?= 4
# make test-machine 的机器：containers（systemd 是 1 号进程的容器）或 vm（QEMU 的虚拟机）。
MACHINES ?= containers
# make test-debian 用哪一版 Debian。
SUITE ?= trixie
PYTEST = $(PY) -m pytest --ignore=tests/compat --ignore=tests/production --ignore=tests/containers --ignore=tests/machines --ignore=tests/web

# 安装完才写的标记：没有变化时第二次 make 立即开始干正事，装到一半失败会从头再来。
LOCAL_STAMP := $(VENV)/.installed-local
DEV_STAMP := $(VENV)/.installed-dev
COMPAT_STAMP := $(VENV)/.installed-compat
WEBTEST_STAMP := $(VENV)/.installed-webtest
CONTAINERS_STAMP := $(VENV)/.installed-containers
BENCH_STAMP := $(VENV)/.installed-bench

.PHONY: help demo up down test test-faults test-debian coverage lint format openapi messages bench soak chaos test-compat test-web test-production test-containers test-machine deb clean

help: ## 列出全部命令
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "需要 Python 3.11 以上；可用 make PYTHON=/路径/python3 指定" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "建立虚拟环境失败；Debian 上请先 apt install python3-venv" >&2; exit 1; }

$(LOCAL_STAMP): pyproject.toml constraints.txt | $(PY)
	@echo "安装依赖（第一次需要一两分钟）……"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,web]'
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(PY)
	@echo "安装测试所需的依赖……"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev]'
	@touch $@ $(LOCAL_STAMP)

$(COMPAT_STAMP): pyproject.toml constraints.txt | $(DEV_STAMP)
	@echo "安装真实的 Slurm 客户端……"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev,compat]'
	@touch $@

$(WEBTEST_STAMP): pyproject.toml constraints.txt | $(DEV_STAMP)
	@echo "安装驱动浏览器的库……"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev,webtest]'
	@touch $@

$(CONTAINERS_STAMP): pyproject.toml constraints.txt | $(DEV_STAMP)
	@echo "安装 podman-compose……"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,dev,containers]'
	@touch $@

$(BENCH_STAMP): pyproject.toml constraints.txt | $(LOCAL_STAMP)
	@echo "安装一同比较的 HyperQueue……"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,bench]'
	@touch $@

demo: $(LOCAL_STAMP) ## 启动一套临时的系统，跑一组作业，列出结果，停下
	@$(PY) scripts/demo.py

up: $(LOCAL_STAMP) ## 在后台启动系统并打印用法（FOREGROUND=1 在前台，Ctrl-C 停止）
	@$(PY) -m scns_conductor.local up $(UP_OPTIONS) $(if $(FOREGROUND),,--detach)

down: $(LOCAL_STAMP) ## 停止 make up 启动的系统
	@$(PY) -m scns_conductor.local down $(UP_OPTIONS)

# 几个进程同时跑，一个文件总在同一个进程里，共用那里的引擎与系统；标了 alone 的要独占机器，最后一个个跑，
# 没有点名时只看有它们的文件，不把全部测试再导入一遍。退出码 5 是没有选中测试：ARGS 只点了一半时不算错。
ALONE = $(if $(findstring tests/,$(ARGS)),,$(shell grep -rl 'mark\.alone' tests --include='test_*.py'))
FAULTS = $(if $(findstring tests/,$(ARGS)),,$(shell grep -rlE 'mark\.faults|^(from|import) hypothesis' tests/unit tests/integration --include='test_*.py'))

test: $(DEV_STAMP) ## 每样能力的测试，几分钟（ARGS='-k 名字'；WORKERS=0 一个个跑）
	@$(PYTEST) -m 'not faults and not alone' -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS) || test $$? -eq 5
	@$(PYTEST) -m 'not faults and alone' $(ALONE) $(ARGS) || test $$? -eq 5

test-faults: export HYPOTHESIS_PROFILE ?= longer
test-faults: $(DEV_STAMP) ## 其余的测试：真的故障、混沌、随机的请求、每个旧版本的升级、造出的包，性质的更多例子
	@$(PYTEST) -m '(faults or hypothesis) and not alone' -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(FAULTS) $(ARGS) || test $$? -eq 5
	@$(PYTEST) -m 'faults and alone' $(ALONE) $(ARGS) || test $$? -eq 5

# 别的 Python：make test PYTHON=python3.13 VENV=.venv-3.13。本机没有的，用另一版 Debian 的。
test-debian: ## 在另一版 Debian 里跑测试，用它的 Python 与 PostgreSQL（SUITE=trixie；要 root、mmdebstrap）
	@scripts/test_debian.sh $(SUITE) $(ARGS)

coverage: $(DEV_STAMP) ## 测试的覆盖率，含分支与子进程；逐行的报告在 htmlcov/
	@$(PYTEST) -m 'not alone' -n $(WORKERS) --dist loadfile --no-loadscope-reorder --cov --cov-report= $(ARGS) || test $$? -eq 5
	@$(PYTEST) -m alone --cov --cov-append --cov-report=term:skip-covered --cov-report=html $(ALONE) $(ARGS) || test $$? -eq 5

lint: $(DEV_STAMP) ## ruff、mypy --strict、测试之间对不对得上（tests/mypy.ini）与导入的约定（.importlinter）
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy --strict src
	@$(PY) -m mypy --config-file tests/mypy.ini
	@$(VENV)/bin/lint-imports

format: $(DEV_STAMP) ## 按约定的格式重写源码
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

openapi: $(DEV_STAMP) ## 写出 docs/openapi.json（改了接口之后）
	@$(PY) scripts/openapi.py

messages: $(DEV_STAMP) ## 更新英文的译文目录，列出还没有译文的（改了给人看的话之后）
	@$(PY) scripts/messages.py

bench: $(BENCH_STAMP) ## 性能测试：与 xargs、HyperQueue、Slurm、纯 RQ 轮流跑，对照目标（ARGS='--only a,b,c --rounds 1'）
	@$(PY) benchmarks/run.py $(ARGS)

soak: $(BENCH_STAMP) ## 一直满载地跑很多个作业，看谁在长、表胀不胀（SIZE=1000000）
	@$(PY) benchmarks/soak.py --jobs $(or $(SIZE),1000000)

chaos: $(DEV_STAMP) ## 混沌测试：make chaos SEED=7 JOBS=2000（FAILOVER=1 加上数据库的主备切换，要 Debian 的 postgresql）
	@$(PY) scripts/chaos.py --seed $(SEED) --jobs $(JOBS) $(if $(FAILOVER),--failover)

test-compat: $(COMPAT_STAMP) ## 用真实的 Slurm 客户端验证兼容性
	@$(PY) -m pytest tests/compat $(ARGS)

test-web: $(WEBTEST_STAMP) ## 在真的浏览器（Debian 的 chromium）里测试看板
	@$(PY) -m pytest tests/web $(ARGS)

deb: $(DEV_STAMP) ## 造 Debian 的软件包，在 dist/ 里
	@packaging/build_deb.sh dist $(PY)

test-production: $(DEV_STAMP) ## 照部署页在几台真的（容器里的）Debian 机器上装起来（要 root、podman、mmdebstrap；第一次造镜像要几分钟）
	@$(PY) -m pytest tests/production --timeout 1800 $(ARGS)

test-containers: $(CONTAINERS_STAMP) ## 造镜像、起 compose，照部署页的“容器”一节做（要 root、podman、mmdebstrap）
	@$(PY) -m pytest tests/containers --timeout 1800 $(ARGS)

test-machine: $(DEV_STAMP) ## 在刚装好的 Debian 里照部署页做：systemd、cgroup、重启、断电、升级、卸载、断网（要 root、podman；MACHINES=vm 用 qemu）
	@SCNS_MACHINES=$(MACHINES) $(PY) -m pytest tests/machines --timeout 5400 $(ARGS)

clean: ## 删除虚拟环境与缓存（不碰数据目录）
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov
