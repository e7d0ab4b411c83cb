#!/bin/bash
# 只用 curl：提交、查询、取消三个固定的端点，与批量提交。要 SCNS_URL 与 SCNS_TOKEN。
set -euo pipefail
call() { curl -sS --fail-with-body -H "Authorization: Bearer $SCNS_TOKEN" -H 'Content-Type: application/json' "$@"; }
job='{"name": "curl", "memory_per_node": "100M", "time_limit": "5", "current_working_directory": "'$PWD'"}'

# 断了可以带同一个幂等键重送，不会多出一个作业。
key=$(cat /proc/sys/kernel/random/uuid)
for _ in 1 2; do
  call -H "Idempotency-Key: $key" -d '{"job": '"$job"', "script": "#!/bin/bash\necho 你好\n"}' "$SCNS_URL/jobs/submit" | tee answer
  echo
done
id=$(grep -o '[0-9]*' answer)
until call "$SCNS_URL/jobs/query/$id" | grep -q '"state":"COMPLETED"'; do sleep 0.2; done
call "$SCNS_URL/jobs/$id/logs/stdout"
call -X POST "$SCNS_URL/jobs/cancel/$id"
echo
call -d '{"jobs": [{"job": '"$job"', "script": "true"}, {"job": '"$job"', "script": "true"}]}' "$SCNS_URL/jobs/submit/batch"
