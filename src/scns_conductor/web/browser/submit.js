export default { props: ["subject"], template: `<div class="empty">…</div>` };
