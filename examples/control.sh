#!/bin/sh
# 保留、改、放行、挂起、恢复、发信号、取消。
set -eu
job=$(scns submit --parsable -J control --hold - <<'SCRIPT'
#!/bin/bash
trap 'echo 收到 USR1; exit 0' USR1
touch ready
while :; do sleep 0.1; done
SCRIPT
)
scns update "$job" comment=先改再放
scns release "$job"
until [ -e ready ]; do sleep 0.1; done
scns suspend "$job"
scns resume "$job"
scns cancel --signal USR1 "$job"
scns logs --follow "$job"
