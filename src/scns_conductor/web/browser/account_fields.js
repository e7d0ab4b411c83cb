// 账户与关联的各项：名字、份额、上限，怎样写成一句。
import { t } from "./facts.js";
import { duration } from "./format.js";
import { tresText } from "./record_values.js";

export const LIMITS = [
  ["grp_tres", ["合计占用至多（GrpTRES）", "Group TRES (GrpTRES)"], "tres", "cpu=128,mem=1T,gres/gpu=8"], ["grp_jobs", ["合计运行作业（GrpJobs）", "Group jobs (GrpJobs)"], "number", ""], ["grp_submit_jobs", ["合计排队与运行（GrpSubmit）", "Group submitted (GrpSubmit)"], "number", ""],
  ["grp_tres_mins", ["合计累计用量，分钟（GrpTRESMins）", "Group TRES minutes"], "tres", "cpu=600000"], ["grp_wall", ["合计运行时长（GrpWall）", "Group wall time"], "limit", ""],
  ["max_tres_per_job", ["每个作业至多（MaxTRES）", "Per job (MaxTRES)"], "tres", "cpu=64"], ["max_tres_per_node", ["每个作业每节点至多", "Per job and node"], "tres", ""], ["max_wall", ["每个作业的时限（MaxWall）", "Wall time per job"], "limit", "2-00:00:00"],
];
export const SHARE = [["shares", ["份额", "Shares"], "number", "1"], ["qos", ["许用的 QOS", "Allowed QOS"], "list", "normal,high"], ["default_qos", ["缺省 QOS", "Default QOS"], "text", ""], ["max_jobs", ["每人同时运行（MaxJobs）", "Running per user"], "number", ""], ["max_submit_jobs", ["每人排队与运行（MaxSubmitJobs）", "Submitted per user"], "number", ""], ["priority", ["优先级因子", "Priority factor"], "number", ""]];
const ACCOUNT = [["name", ["名字", "Name"], "text", "vision", "new"], ["parent", ["上级", "Parent"], "text", "root"], ["description", ["说明", "Description"], "text", ""], ["organization", ["单位", "Organization"], "text", ""]];
export const NEW_ACCOUNT = [...ACCOUNT, ...[...SHARE, ...LIMITS].map((field) => [...field.slice(0, 3), field[3], "new"])];

// 有上限的写成一句：最要紧的几样。
export function limits(one) {
  const words = [tresText(one.grp_tres) && t("合计 ", "group ") + tresText(one.grp_tres), one.grp_jobs !== null && one.grp_jobs !== undefined && t("合计运行 ", "group jobs ") + one.grp_jobs, tresText(one.max_tres_per_job) && t("每作业 ", "per job ") + tresText(one.max_tres_per_job), tresText(one.max_tres_per_user) && t("每人 ", "per user ") + tresText(one.max_tres_per_user), one.max_wall && t("时限 ", "wall ") + duration(one.max_wall)];
  return words.filter(Boolean).join(t("；", "; ")) || "—";
}
