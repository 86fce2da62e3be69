// What is known of the function that is chosen: its lines, who calls it, what it calls, where and how long its blocks live.
let chosenName = null;
function choose(name) {
  chosenName = name;
  if (name !== null) open('details'); else if (tab === 'details') open('functions');
  show(false);
}
const numberOf = name => { const number = strings.indexOf(name); return number > 0 && frames.name.includes(number) ? number : null; };

// Sums over all stacks that the function is on, of what is shown.
function detailsOf(name) {
  const sums = { holds: 0, total: 0, blocks: 0, growth: 0, lines: new Map(), callers: new Map(), callees: new Map(), processes: new Map(), threads: new Map() };
  for (const view of ['allocated', 'temporary']) sums[view] = { bytes: 0, blocks: 0 };
  const add = (map, key, value) => map.set(key, (map.get(key) ?? 0) + value);
  const ever = ['allocated', 'temporary'].map(viewNamed);
  const whole = new Map();
  for (let h = 0; h < COUNT; h++) {
    if (!isShown(h)) continue;
    const node = holders.node[h];
    let on = whole.get(node);
    if (on === undefined) {
      const { list, telling } = path(node);
      const inner = list.findIndex(frame => frames.name[frame] === name);
      on = null;
      if (inner >= 0) {
        const holds = frames.name[list[telling]] === name, outer = list.findLastIndex(frame => frames.name[frame] === name);
        on = { holds, line: list[holds ? telling : inner], caller: list[outer + 1], callee: holds ? undefined : list[inner - 1] };
      }
      whole.set(node, on);
    }
    if (!on) continue;
    if (on.holds) ever.forEach(view => {
      if (!view) return;
      sums[view.name].bytes += view.bytes[h]; sums[view.name].blocks += view.blocks[h];
    });
    if (!bytes[h]) continue;
    sums.total += bytes[h]; sums.blocks += blocks[h];
    if (on.holds) { sums.holds += bytes[h]; sums.growth += growth[h]; }
    add(sums.lines, lineText(on.line), bytes[h]);
    add(sums.callers, on.caller === undefined ? -1 : frames.name[on.caller], bytes[h]);
    add(sums.callees, on.callee === undefined ? -1 : frames.name[on.callee], bytes[h]);
    add(sums.processes, holders.process[h], bytes[h]);
    if (holders.thread[h] >= 0) add(sums.threads, holders.thread[h], bytes[h]);
  }
  return sums;
}
function drawDetails() {
  const box = $('details');
  box.replaceChildren();
  $('tab-details').hidden = chosenName === null;
  if (chosenName === null || tab !== 'details') return;
  const name = chosenName, sums = detailsOf(name), all = tree.bytes[0];
  const title = make('h2', undefined, box);
  swatch(name, title);
  title.append(strings[name]);
  const facts = make('p', undefined, box);
  facts.dataset.bytes = sums.holds; facts.dataset.total = sums.total;
  const each = sums.blocks ? `, ${size(sums.total / sums.blocks)} each` : '';
  facts.textContent = `Holds ${amount(sums.holds)} (${percent(sums.holds, all)}); ${amount(sums.total)} with what it calls, in ${group(sums.blocks)} blocks${each}.`;
  const said = [];
  if (sums.growth) said.push(`grows by ${size(sums.growth)}/s`);
  const { allocated, temporary } = sums;
  if (allocated.blocks) {
    said.push(`allocated in all: ${size(allocated.bytes)} in ${group(allocated.blocks)} blocks`);
    if (viewNamed('temporary')) said.push(`${percent(temporary.blocks, allocated.blocks)} of these temporary (freed before the next allocation)`);
  }
  if (said.length) make('p', said.join('; ') + '.', box).className = 'dim';
  const tools = make('p', undefined, box);
  const button = (text, pressed) => { const it = make('button', text, tools); it.type = 'button'; it.onclick = pressed; };
  button('Search for it', () => { $('search').value = needle = strings[name]; show(false); });
  button('Choose nothing (Esc)', () => choose(null));
  if ([...sums.lines.keys()].some(line => line !== NO_LINE)) part(box, 'Lines', sums.lines, sums.total, text => text);
  part(box, 'Called by', sums.callers, sums.total, number => number < 0 ? '(nothing that is shown)' : strings[number], number => number >= 0 && (() => choose(number)));
  part(box, 'Calls', sums.callees, sums.total, number => number < 0 ? '(asks for memory itself)' : strings[number], number => number >= 0 && (() => choose(number)));
  if (SEVERAL) part(box, 'Processes', sums.processes, sums.total, number => data.processes[number].name, number => () => pickOnly(number));
  if (sums.threads.size > 1) part(box, 'Threads', sums.threads, sums.total, number => data.threads[number]);
}
// A list of parts with their bytes, largest first.
const SHOWN_PARTS = 12;
function part(box, heading, sums, all, text, pressed) {
  const parts = [...sums].sort((a, b) => b[1] - a[1]);
  if (!parts.length) return;
  make('h3', heading, box);
  const table = make('table', undefined, box);
  table.className = 'parts'; table.dataset.part = heading;
  for (const [key, has] of parts.slice(0, SHOWN_PARTS)) {
    const row = make('tr', undefined, table), first = make('td', undefined, row), act = pressed?.(key);
    first.title = text(key);
    if (act) {
      const button = make('button', undefined, first);
      button.type = 'button'; button.onclick = act;
      if (heading !== 'Processes') swatch(key, button);
      cut(text(key), button);
    } else first.textContent = text(key);
    make('td', amount(has), row).dataset.bytes = has;
    make('td', percent(has, all), row);
  }
  const rest = parts.slice(SHOWN_PARTS).reduce((sum, [, has]) => sum + has, 0);
  if (rest) make('p', `and ${group(parts.length - SHOWN_PARTS)} more with ${amount(rest)}`, box).className = 'dim';
}
