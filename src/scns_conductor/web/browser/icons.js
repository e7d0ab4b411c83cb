// 20×20 的线条图标：只有路径，颜色随文字。
import { h } from "vue";

const PATHS = {
  overview: "M3 10.5 10 4l7 6.5M5 9v7h10V9",
  jobs: "M4 5.5h12M4 10h12M4 14.5h8",
  submit: "M10 4v12M4 10h12",
  nodes: "M4 4h5v5H4zM11 4h5v5h-5zM4 11h5v5H4zM11 11h5v5h-5z",
  plan: "M3.5 5.5h6M6.5 10h8M9.5 14.5h7M3.5 3v14",
  usage: "M4 16V9M8 16V5M12 16v-5M16 16V7",
  whatif: "M6 4v6a4 4 0 0 0 4 4h6M13 11l3 3-3 3M6 4 3.5 6.5M6 4l2.5 2.5",
  accounts: "M7 9a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM2.5 16c.4-2.8 2.2-4 4.5-4s4.1 1.2 4.5 4M13 5v6M16 8h-6",
  admin: "M4 6h7M15 6h1M4 14h1M9 14h7M13 4v4M7 12v4",
  search: "M9 15a6 6 0 1 1 0-12 6 6 0 0 1 0 12ZM13.5 13.5 17 17",
  sun: "M10 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM10 2v2M10 16v2M2 10h2M16 10h2M4.3 4.3l1.4 1.4M14.3 14.3l1.4 1.4M15.7 4.3l-1.4 1.4M5.7 14.3l-1.4 1.4",
  moon: "M16 11.8A6.5 6.5 0 0 1 8.2 4 6.5 6.5 0 1 0 16 11.8Z",
  user: "M10 10a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM4 17c.6-3 3-4.5 6-4.5s5.4 1.5 6 4.5",
  close: "M5 5l10 10M15 5 5 15",
  down: "M5 8l5 5 5-5",
  left: "M12 5l-5 5 5 5",
  right: "M8 5l5 5-5 5",
  columns: "M3.5 4.5h13v11h-13zM8 4.5v11M12.5 4.5v11",
  download: "M10 3v10M6 9.5l4 4 4-4M4 16.5h12",
  upload: "M10 13V3M6 6.5l4-4 4 4M4 16.5h12",
  menu: "M3 6h14M3 10h14M3 14h14",
  warn: "M10 3.5 17.5 16h-15ZM10 8v4M10 13.6v.6",
  bulb: "M7.5 14a5 5 0 1 1 5 0v1.5h-5ZM8 17.5h4",
  refresh: "M16 10a6 6 0 1 1-1.8-4.3M16 3v3.5h-3.5",
  copy: "M7 7h9v9H7zM4 13V4h9",
  PENDING: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM10 6.5V10l2.5 2",
  RUNNING: "M7 4.5v11l8.5-5.5Z",
  COMPLETED: "M4 10.5 8.5 15 16 6",
  FAILED: "M5 5l10 10M15 5 5 15",
  TIMEOUT: "M6 3h8M6 17h8M7 3c0 4 6 5 6 7s-6 3-6 7M13 3c0 4-6 5-6 7s6 3 6 7",
  OUT_OF_MEMORY: "M5.5 5.5h9v9h-9zM8 2.5v3M12 2.5v3M8 14.5v3M12 14.5v3M2.5 8h3M2.5 12h3M14.5 8h3M14.5 12h3",
  CANCELLED: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM5 15 15 5",
  NODE_FAIL: "M3.5 4h13v5h-13zM3.5 12h6M12 12.5l4.5 4.5M16.5 12.5 12 17",
  SUSPENDED: "M7 4.5v11M13 4.5v11",
  PREEMPTED: "M4 10h9M9 6l4 4-4 4M16 4v12",
};

export const Icon = (props) =>
  h("svg", { viewBox: "0 0 20 20", width: props.size ?? 18, height: props.size ?? 18, class: "icon", "aria-hidden": "true" },
    h("path", { d: PATHS[props.name] ?? PATHS.CANCELLED }));
Icon.props = ["name", "size"];
