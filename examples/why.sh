#!/bin/sh
# 为什么还没有开始，怎样改能更早；假如现在提交，何时开始。
set -eu
job=$(scns submit --parsable -J patient -b now+1hour --wrap true)
scns why "$job"
scns update "$job" begin_time=now
scns submit --test-only -c 2 -t 10 --wrap true
scns cancel "$job" >/dev/null
