// What stands beside the graph: functions, the one that is chosen, processes, and what all blocks were like.
let tab = 'functions';
const TABS = ['functions', 'details', 'processes', 'blocks'];
function open(name) {
  tab = name;
  for (const other of TABS) {
    $(`tab-${other}`).setAttribute('aria-selected', other === tab);
    $(`tab-${other}`).tabIndex = other === tab ? 0 : -1;
    $(other).hidden = other !== tab;
  }
}
for (const name of TABS) $(`tab-${name}`).onclick = () => { open(name); show(false); };
$('tabs').onkeydown = event => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  const there = TABS.filter(name => !$(`tab-${name}`).hidden);
  const next = there[(there.indexOf(tab) + step + there.length) % there.length];
  event.preventDefault();
  open(next);
  $(`tab-${next}`).focus();
  show(false);
};
$('tab-processes').hidden = !SEVERAL;
$('tab-processes').textContent = `Processes (${data.processes.length})`;
$('tab-blocks').hidden = data.difference || !data.blocks;

// ---- processes: which are shown, what each holds, and what it had from its parent
function pickOnly(number) {
  picked.clear();
  if (number >= 0) picked.add(number);
  show();
}
function toggle(number) {
  if (!picked.size) data.processes.forEach((_, other) => picked.add(other));
  if (picked.has(number)) picked.delete(number); else picked.add(number);
  if (picked.size === data.processes.length) picked.clear();
  show();
}
function drawProcesses() {
  const box = $('processes');
  if (tab !== 'processes') return;
  box.replaceChildren();
  const sums = new Float64Array(data.processes.length);
  for (let h = 0; h < COUNT; h++) {
    if (!kinds[holders.kind[h]] || thread >= 0 && holders.thread[h] !== thread) continue;
    sums[holders.process[h]] += now(h)[0];
  }
  const inherits = data.processes.some(({ inherited }) => inherited);
  const note = make('p', 'What a process and its parent hold together counts once, for the one that allocated it.', box);
  note.className = 'dim'; note.hidden = !inherits;
  const everyone = make('button', 'All processes', make('p', undefined, box));
  everyone.type = 'button'; everyone.disabled = !picked.size; everyone.onclick = () => pickOnly(-1);
  const table = make('table', undefined, box), head = make('tr', undefined, make('thead', undefined, table));
  table.className = 'wide';
  const titles = ['Process', 'Now', 'Own peak', ...inherits ? ['Inherited'] : [], 'RSS, end'];
  for (const title of titles) make('th', title, head).scope = 'col';
  const body = make('tbody', undefined, table);
  for (const number of [...data.processes.keys()].sort((a, b) => sums[b] - sums[a] || data.processes[b].peak - data.processes[a].peak)) {
    const { name, peak, peak_at, inherited, rss } = data.processes[number];
    const row = make('tr', undefined, body), first = make('div', undefined, make('td', undefined, row));
    const check = make('input', undefined, first), only = make('button', name.replace(/ (\d+\))$/, '\u00a0$1'), first);
    check.type = 'checkbox'; check.checked = !picked.size || picked.has(number); check.onchange = () => toggle(number);
    check.setAttribute('aria-label', `show ${name}`);
    only.type = 'button'; only.title = `${name}: show it alone`; only.onclick = () => pickOnly(number);
    make('td', amount(sums[number]), row).dataset.bytes = sums[number];
    const own = make('td', size(peak), row);
    own.title = when(peak_at); own.dataset.bytes = peak;
    if (inherits) make('td', inherited ? size(inherited) : '–', row).dataset.bytes = inherited;
    make('td', rss === null ? 'not known' : size(rss), row);
  }
}
// ---- what all blocks were like
function drawBlocks() {
  const box = $('blocks');
  if (tab !== 'blocks' || box.childElementCount || !data.blocks) return;
  const { allocations, allocated_bytes, temporary, sizes, lifetimes } = data.blocks;
  make('p', `${group(allocations)} blocks were allocated, ${size(allocated_bytes)} in all; ${group(temporary)} of them (${percent(temporary, allocations)}) were temporary: freed before their thread’s next allocation.`, box);
  const short = bytes => size(bytes).replace('.0 ', ' ');
  histogram(box, 'Sizes', sizes.map(({ from, to, blocks, bytes }) => [to === from ? short(from) : `${short(from)} – ${short(to + 1)}`, blocks, bytes]));
  histogram(box, 'Lived', lifetimes.map(({ lived, blocks, bytes }) => [lived, blocks, bytes]));
}
function histogram(box, heading, rows) {
  const table = make('table', undefined, box), head = make('tr', undefined, make('thead', undefined, table));
  table.className = 'wide'; table.dataset.part = heading;
  for (const title of [heading, 'Blocks', 'Bytes']) make('th', title, head).scope = 'col';
  const most = [1, 2].map(column => Math.max(1, ...rows.map(row => row[column])));
  for (const [text, blocks, bytes] of rows) {
    const row = make('tr', undefined, table);
    make('td', text, row);
    for (const [value, shown, largest] of [[blocks, group(blocks), most[0]], [bytes, size(bytes), most[1]]]) {
      const cell = make('td', shown, row);
      cell.dataset.number = value;
      cell.style.background = `linear-gradient(to left, var(--bar) ${value / largest * 100}%, transparent 0)`;
    }
  }
}
function drawPanel() { drawDetails(); drawProcesses(); drawBlocks(); }
