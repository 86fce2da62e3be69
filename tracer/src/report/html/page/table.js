// The functions beside the graph.
const columns = data.difference
  ? [['name', 'Function'], ['change', 'Change'], ['before', 'Before'], ['after', 'After']]
  : [['name', 'Function'], ['own', 'Own'], ['total', 'Total'], ['blocks', 'Blocks']];
if (data.growth > 0) columns.push(['growth', 'Growth']);
let order = { column: columns[1][0], up: false };
const LONGEST = 200;
let functions = [];
// Who asked, of the stack: the innermost function of the program's own, then any named one.
const tellers = new Map();
function teller(node) {
  let own = tellers.get(node);
  if (own === undefined) {
    const list = path(node);
    own = list.find(f => !(frames.flags[f] & (PLUMBING | UNNAMED | SPECIAL))) ?? list.find(f => !(frames.flags[f] & (UNNAMED | SPECIAL))) ?? list[0];
    tellers.set(node, own);
  }
  return own;
}
function count() {
  const table = new Map();
  const row = name => {
    let entry = table.get(name);
    if (!entry) table.set(name, entry = { name: strings[name], own: 0, total: 0, blocks: 0, growth: 0, before: 0, after: 0, change: 0, last: -1 });
    return entry;
  };
  for (let h = 0; h < COUNT; h++) {
    // Of a function that changed, what did not change counts too.
    if (data.difference ? !isShown(h) : !bytes[h]) continue;
    const node = holders.node[h];
    row(frames.name[teller(node)]).own += bytes[h];
    for (const frame of path(node)) {
      const entry = row(frames.name[frame]);
      if (entry.last === h) continue;
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
  return amount(value);
}
function list() {
  const { column, up } = order, sign = up ? 1 : -1;
  // What shrank most is as much of a change as what grew.
  const key = entry => column === 'change' && !up ? Math.abs(entry.change) : entry[column];
  functions.sort((a, b) => sign * (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) || b.total - a.total);
  const shown = wanted ? functions.filter(entry => wanted(entry.name)) : functions;
  const body = $('rows');
  body.replaceChildren();
  for (const entry of shown.slice(0, LONGEST)) {
    const row = make('tr', undefined, body), button = make('button', entry.name, make('td', undefined, row));
    button.type = 'button'; button.title = entry.name;
    button.onclick = () => { $('search').value = needle = needle === entry.name ? '' : entry.name; show(false); };
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
const heads = columns.map(([name, text]) => {
  const button = make('button', text, make('th', undefined, $('columns')));
  button.type = 'button'; button.dataset.text = text;
  button.onclick = () => { order = { column: name, up: order.column === name ? !order.up : name === 'name' }; list(); };
  return [name, button];
});
