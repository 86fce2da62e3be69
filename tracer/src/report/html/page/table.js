// The functions beside the graph.
const columns = data.difference
  ? [['name', 'Function'], ['change', 'Change'], ['before', 'Before'], ['after', 'After']]
  : [['name', 'Function'], ['own', 'Holds', 'What is told by this function: it is the holder'], ['total', 'Total', 'What is in all stacks that it is on'], ['blocks', 'Blocks']];
if (data.growth > 0) columns.push(['growth', 'Growth']);
$('functions').classList.toggle('growing', data.growth > 0);
let order = { column: columns[1][0], up: false };
const LONGEST = 200;
let functions = [];
function count() {
  const table = new Map();
  const row = name => {
    let entry = table.get(name);
    if (!entry) table.set(name, entry = { number: name, name: strings[name], short: '', own: 0, total: 0, blocks: 0, growth: 0, before: 0, after: 0, change: 0, last: -1 });
    return entry;
  };
  for (let h = 0; h < COUNT; h++) {
    // Of a function that changed, what did not change counts too.
    if (data.difference ? !isShown(h) : !bytes[h]) continue;
    const { list, telling } = path(holders.node[h]);
    row(frames.name[list[telling]]).own += bytes[h];
    for (const frame of list) {
      const entry = row(frames.name[frame]);
      if (entry.last === h) continue;
      entry.short ||= strings[frames.short[frame]];
      entry.last = h; entry.total += bytes[h]; entry.blocks += blocks[h]; entry.growth += growth[h];
      if (data.difference) { entry.before += views[BEFORE].bytes[h]; entry.after += views[AFTER].bytes[h]; }
    }
  }
  functions = [...table.values()];
  for (const entry of functions) entry.change = entry.after - entry.before;
}
function cell(entry, column) {
  const value = entry[column];
  if (column === 'change') return value ? signed(value) : '0 B';
  if (column === 'blocks') return group(value);
  if (column === 'growth') return value ? size(value) + '/s' : '';
  return value ? amount(value) : '';
}
function list() {
  const { column, up } = order, sign = up ? 1 : -1;
  // What shrank most is as much of a change as what grew.
  const key = entry => column === 'change' && !up ? Math.abs(entry.change) : entry[column];
  // Those that have nothing of it come last, whichever way it is sorted.
  const none = entry => Number(column !== 'name' && !entry[column]);
  functions.sort((a, b) => none(a) - none(b) || sign * (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) || b.total - a.total);
  const shown = wanted ? functions.filter(entry => wanted(entry.name)) : functions;
  const body = $('rows');
  body.replaceChildren();
  for (const entry of shown.slice(0, LONGEST)) {
    const row = make('tr', undefined, body), first = make('td', undefined, row), button = make('button', undefined, first);
    row.classList.toggle('chosen', entry.number === chosenName);
    button.type = 'button'; button.title = entry.name;
    swatch(entry.number, button);
    cut(entry.short || entry.name, button);
    button.onclick = () => choose(entry.number === chosenName ? null : entry.number);
    for (const [column] of columns.slice(1)) {
      const data = make('td', cell(entry, column), row);
      if (column === 'own') data.dataset.bytes = entry.own;
      if (column === 'own' || column === 'total') data.title = percent(entry[column], tree.bytes[0]);
      if (column === 'change') data.className = entry.change > 0 ? 'grown' : entry.change < 0 ? 'shrunk' : '';
    }
  }
  $('more').textContent = shown.length > LONGEST ? `and ${group(shown.length - LONGEST)} more; search for them` : '';
  for (const [name, button] of heads) {
    const chosen = name === column;
    button.parentElement.setAttribute('aria-sort', chosen ? up ? 'ascending' : 'descending' : 'none');
    button.textContent = button.dataset.text + (chosen ? up ? ' ▴' : ' ▾' : '');
  }
}
function swatch(name, parent) {
  const shade = data.difference ? null : colourOf(name);
  if (shade) make('i', undefined, parent).style.background = shade;
}
const heads = columns.map(([name, text, title]) => {
  const head = make('th', undefined, $('columns')), button = make('button', text, head);
  head.scope = 'col';
  button.type = 'button'; button.dataset.text = text; button.title = title ?? '';
  button.onclick = () => { order = { column: name, up: order.column === name ? !order.up : name === 'name' }; list(); remember(); };
  return [name, button];
});
