#!/bin/sh
# 假如加四个节点、时限最多 4 小时、负载多两成，等待各会怎样？用法：examples/what_if.sh [TRACE]
set -eu
trace=${1:-$(dirname "$0")/../tests/data/kth-sp2-cut.swf}

echo "现在："
scns simulate "$trace" --limit 800 --policy easy,sjf
echo "加四个 8 CPU 的节点："
scns simulate "$trace" --limit 800 --policy easy,sjf --add-nodes 4:8
echo "时限最多 4 小时（更长的到点被杀）："
scns simulate "$trace" --limit 800 --policy easy,sjf --cap-time-limit 4h
echo "负载多两成："
scns simulate "$trace" --limit 800 --policy easy,sjf --scale-load 1.2
