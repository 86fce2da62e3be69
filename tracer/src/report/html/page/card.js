// What is known of a box, beside the pointer.
function describe(n) {
  const card = $('card'), frame = tree.frame[n];
  card.replaceChildren();
  make('b', label(n), card);
  if (data.difference) {
    const [before, after] = [tree.before[n], tree.after[n]];
    make('div', `${signed(after - before)}: ${amount(before)} before, ${amount(after)} after`, card);
  } else make('div', `${amount(tree.bytes[n])} (${group(tree.bytes[n])} bytes) in ${group(tree.blocks[n])} blocks`, card);
  let shares = `${percent(tree.bytes[n], tree.bytes[0])} of all`;
  if (tree.zoom) shares += `, ${percent(tree.bytes[n], tree.bytes[tree.zoom])} of what is zoomed to`;
  make('div', shares, card);
  if (tree.growth[n]) make('div', `grows by ${size(tree.growth[n])}/s`, card);
  if (!n) return;
  if (SEVERAL && !data.difference) {
    const many = processesOf(n).size;
    if (many > 1) make('div', `in ${many} processes`, card);
  }
  if (tree.several[n]) {
    // Each of its lines, with what it has.
    const all = linesOf(n);
    for (const [text, has] of all.slice(0, SHOWN_LINES)) make('div', `${amount(has).padStart(11)}  ${text}`, card).className = 'source';
    if (all.length > SHOWN_LINES) make('div', `and ${group(all.length - SHOWN_LINES)} lines more`, card).className = 'dim';
  } else {
    const place = strings[frames.place[frame]], source = strings[frames.source[frame]];
    if (place) make('div', place, card);
    if (source) make('div', source, card).className = 'source';
  }
  if (strings[frames.module[frame]]) make('div', strings[frames.module[frame]], card).className = 'dim';
}
const SHOWN_LINES = 8, NO_LINE = 'no line known';
// Of each holder with a stack through a box, the frame that it is there.
function through(n, each) {
  for (let h = 0; h < COUNT; h++) {
    if (!bytes[h]) continue;
    let at = tree.at[h];
    while (tree.depth[at] > tree.depth[n]) at = tree.parent[at];
    if (at !== n) continue;
    const { list, telling } = path(holders.node[h]), depth = tree.depth[n];
    each(h, list[inverted ? telling + depth - 1 : list.length - depth]);
  }
}
function linesOf(n) {
  const sums = new Map();
  through(n, (h, frame) => {
    const text = lineText(frame);
    sums.set(text, (sums.get(text) ?? 0) + bytes[h]);
  });
  return [...sums].sort((a, b) => b[1] - a[1]);
}
function processesOf(n) {
  const of = new Set();
  through(n, h => of.add(holders.process[h]));
  return of;
}
function lineText(frame) {
  const place = strings[frames.place[frame]] || NO_LINE, source = strings[frames.source[frame]];
  return source ? `${place}  ${source}` : place;
}
function hover(n, x, y) {
  const card = $('card');
  describe(n);
  card.hidden = false;
  moveCard(x, y);
}
function moveCard(x, y) {
  const card = $('card'), { width, height } = card.getBoundingClientRect();
  card.style.left = Math.max(4, Math.min(x + 14, window.innerWidth - width - 6)) + 'px';
  card.style.top = (y + 18 + height > window.innerHeight ? Math.max(4, y - height - 10) : y + 18) + 'px';
}
function hide() { $('card').hidden = true; }

