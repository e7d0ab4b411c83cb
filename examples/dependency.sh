#!/bin/sh
# 依赖：准备 → 计算 → 收尾；计算失败了也收尾（afterany），成功了才发布（afterok）。
set -eu
prepare=$(scns submit --parsable -J prepare --wrap 'echo 数据 > data.txt')
compute=$(scns submit --parsable -J compute -d "afterok:$prepare" --wrap 'cat data.txt; exit 3')
publish=$(scns submit --parsable -J publish -d "afterok:$compute" --kill-on-invalid-dep yes --wrap 'echo 发布')
scns submit --wait --quiet -J cleanup -d "afterany:$compute:$publish" --wrap 'rm data.txt; echo 收尾'
scns jobs --all -j "$prepare,$compute,$publish" --sort job_id
