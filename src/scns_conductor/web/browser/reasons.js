// Slurm 的原因码，用白话说。
import { t } from "./facts.js";

const WORDS = {
  None: ["刚提交，正在排", "just submitted"], Resources: ["等资源空出来", "waiting for resources"], Priority: ["前面有更优先的作业", "higher-priority jobs ahead"],
  Dependency: ["等它依赖的作业", "waiting for a dependency"], DependencyNeverSatisfied: ["依赖永远不会满足", "dependency can never be met"],
  JobHeldUser: ["被用户保留", "held by its user"], JobHeldAdmin: ["被管理员保留", "held by an administrator"], BeginTime: ["还没到开始的时刻", "begin time not reached"],
  JobArrayTaskLimit: ["数组同时运行的已到上限", "array task limit reached"], Licenses: ["等许可证", "waiting for licences"], ReqNodeNotAvail: ["要的节点用不了", "required node not available"],
  PartitionDown: ["分区停用", "partition is down"], PartitionTimeLimit: ["时限超过分区的上限", "time limit over the partition's"], PartitionNodeLimit: ["节点数超过分区的上限", "too many nodes for the partition"],
  Reservation: ["等预留", "waiting for its reservation"], NodeDown: ["节点下线", "node is down"],
};
export const reasonText = (reason, message) => (WORDS[reason] ? t(...WORDS[reason]) : message || reason || "");
