'use strict';
(() => {
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const { trie, holders, views, timeline } = data;
const { strings, frames } = trie;
const INLINED = 1, PLUMBING = 2, UNNAMED = 4, SPECIAL = 8;
const COUNT = holders.node.length, NODES = trie.parent.length;
const ROW = 18;

// What is shown: a view by its number, the end of an era, or a window of eras.
let choice = { view: data.first };
let kinds = data.chosen.slice();
let process = -1, thread = -1;
let inverted = data.inverted, flame = false;
let needle = '', wanted = null;
let order = { column: 'own', up: false };

// ---- words
const group = n => String(n).replace(/\B(?=(\d{3})+$)/g, ',');
function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  if (bytes < 1024) return group(Math.round(bytes)) + ' B';
  let unit = 1, scale = 1024;
  while (Math.round(bytes / scale * 10) >= 10240 && unit < 6) { unit++; scale *= 1024; }
  const tenths = Math.round(bytes / scale * 10);
  return group(Math.floor(tenths / 10)) + '.' + tenths % 10 + ' ' + units[unit];
}
const isRate = () => choice.view !== undefined && views[choice.view].rate;
const amount = bytes => size(bytes) + (isRate() ? '/s' : '');
const percent = (part, whole) => (whole ? part / whole * 100 : 0).toFixed(1) + ' %';
const offset = ns => '+' + (ns < 1e9 ? (Math.floor(ns / 1e6) / 1000).toFixed(3) : (ns / 1e9).toFixed(1)) + 's';
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
function make(tag, text, parent) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

// ---- what each holder has, of what is chosen
const ERA = timeline.width * timeline.step;
const ERAS = Math.max(1, Math.ceil(timeline.end.length / timeline.step));
const bytes = new Float64Array(COUNT), blocks = new Float64Array(COUNT);
function values() {
  for (let h = 0; h < COUNT; h++) {
    bytes[h] = blocks[h] = 0;
    if (!kinds[holders.kind[h]] || (process >= 0 && holders.process[h] !== process)
        || (thread >= 0 && holders.thread[h] !== thread)) continue;
    if (choice.view !== undefined) {
      bytes[h] = views[choice.view].bytes[h];
      blocks[h] = views[choice.view].blocks[h];
      continue;
    }
    const to = choice.era, from = choice.from ?? 0, lives = holders.lives[h];
    for (let i = 0; i < lives.length; i += 4) {
      if (from <= lives[i] && lives[i] <= to && (lives[i + 1] < 0 || lives[i + 1] > to)) {
        bytes[h] += lives[i + 2];
        blocks[h] += lives[i + 3];
      }
    }
  }
}

// ---- trees: frames of one name under the same callers are one box
const paths = new Map();
function path(node) {
  let list = paths.get(node);
  if (!list) {
    list = [];
    for (let at = node; at > 0; at = trie.parent[at]) list.push(trie.frame[at]);
    paths.set(node, list);
  }
  return list;
}
function grow(leafFirst) {
  const tree = { parent: [0], frame: [0], depth: [0], several: [false], at: new Int32Array(COUNT) };
  const children = new Map();
  const child = (parent, frame) => {
    const key = parent * strings.length + frames.name[frame];
    let node = children.get(key);
    if (node === undefined) {
      node = tree.parent.length;
      children.set(key, node);
      tree.parent.push(parent); tree.frame.push(frame); tree.depth.push(tree.depth[parent] + 1); tree.several.push(false);
    } else if (frames.place[tree.frame[node]] !== frames.place[frame]) tree.several[node] = true;
    return node;
  };
  if (leafFirst) {
    const ends = new Map();
    for (let h = 0; h < COUNT; h++) {
      let end = ends.get(holders.node[h]);
      if (end === undefined) {
        end = 0;
        for (const frame of path(holders.node[h])) end = child(end, frame);
        ends.set(holders.node[h], end);
      }
      tree.at[h] = end;
    }
  } else {
    const merged = new Int32Array(NODES);
    for (let n = 1; n < NODES; n++) merged[n] = child(merged[trie.parent[n]], trie.frame[n]);
    for (let h = 0; h < COUNT; h++) tree.at[h] = merged[holders.node[h]];
  }
  const count = tree.parent.length;
  tree.children = Array.from({ length: count }, () => null);
  for (let n = 1; n < count; n++) (tree.children[tree.parent[n]] ??= []).push(n);
  const name = n => strings[frames.name[tree.frame[n]]];
  for (const list of tree.children) list?.sort((a, b) => name(a) < name(b) ? -1 : 1);
  for (const part of ['bytes', 'blocks', 'growth']) tree[part] = new Float64Array(count);
  return tree;
}
const trees = [];
let tree, zoom = 0, focus = 0;
const zooms = [0, 0];
function fill() {
  const which = inverted ? 1 : 0;
  tree = trees[which] ??= grow(inverted);
  zoom = zooms[which];
  tree.bytes.fill(0); tree.blocks.fill(0); tree.growth.fill(0);
  for (let h = 0; h < COUNT; h++) {
    if (!bytes[h]) continue;
    const at = tree.at[h];
    tree.bytes[at] += bytes[h]; tree.blocks[at] += blocks[h]; tree.growth[at] += holders.growth[h];
  }
  for (let n = tree.parent.length - 1; n > 0; n--) {
    const parent = tree.parent[n];
    tree.bytes[parent] += tree.bytes[n]; tree.blocks[parent] += tree.blocks[n]; tree.growth[parent] += tree.growth[n];
  }
  if (!tree.bytes[zoom]) zoom = zooms[which] = 0;
  if (!tree.bytes[focus]) focus = zoom;
}
const label = n => n ? strings[frames.name[tree.frame[n]]] : 'all';

// ---- search
let found = new Uint8Array(0);
function search() {
  const pattern = /^\/(.+)\/$/.exec(needle);
  wanted = null;
  if (needle) {
    const lower = needle.toLowerCase();
    wanted = text => text.toLowerCase().includes(lower);
    if (pattern) try { const regex = new RegExp(pattern[1]); wanted = text => regex.test(text); } catch { /* not yet a pattern: as text */ }
  }
  found = new Uint8Array(frames.name.length);
  if (wanted) {
    const hit = strings.map(text => text !== '' && wanted(text));
    for (let f = 1; f < found.length; f++) found[f] = hit[frames.name[f]] || hit[frames.place[f]] || hit[frames.module[f]] ? 1 : 0;
  }
}
function share() {
  const out = $('matched');
  if (!wanted) { out.textContent = ''; delete out.dataset.bytes; return; }
  // Of each stack once, however often it matches.
  const hit = new Uint8Array(NODES);
  let sum = 0;
  for (let n = 1; n < NODES; n++) hit[n] = hit[trie.parent[n]] | found[trie.frame[n]];
  for (let h = 0; h < COUNT; h++) if (hit[holders.node[h]]) sum += bytes[h];
  out.dataset.bytes = sum;
  out.textContent = `${percent(sum, tree.bytes[0])} · ${amount(sum)}`;
}

// ---- flame graph
let boxes = [], rows = 0;
function canvas(element, height) {
  const width = element.clientWidth, ratio = window.devicePixelRatio || 1;
  element.style.height = height + 'px';
  element.width = Math.round(width * ratio); element.height = Math.round(height * ratio);
  const pen = element.getContext('2d');
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width];
}
const hues = new Map();
function hue(text) {
  let h = hues.get(text);
  if (h === undefined) {
    h = 7;
    for (let i = 0; i < text.length; i++) h = (h * 31 + text.charCodeAt(i)) >>> 0;
    hues.set(text, h = 95 + h % 125);
  }
  return h;
}
function lay() {
  boxes = [];
  const width = $('flame').clientWidth || 1;
  const scale = width / (tree.bytes[zoom] || 1);
  const above = [];
  for (let n = zoom; ; n = tree.parent[n]) { above.push(n); if (!n) break; }
  for (const n of above.slice(1)) boxes.push({ n, x: 0, w: width, row: tree.depth[n] });
  const pending = [[zoom, 0]];
  rows = tree.depth[zoom] + 1;
  while (pending.length) {
    const [n, x] = pending.pop();
    boxes.push({ n, x, w: tree.bytes[n] * scale, row: tree.depth[n] });
    rows = Math.max(rows, tree.depth[n] + 1);
    let at = x, narrow = null;
    for (const child of tree.children[n] ?? []) {
      const w = tree.bytes[child] * scale;
      if (!w) continue;
      if (w >= 0.7) { pending.push([child, at]); narrow = null; }
      // Boxes too narrow to be seen are drawn as one, so that there is no hole.
      else if (narrow) { narrow.w += w; narrow.many++; narrow.bytes += tree.bytes[child]; }
      else boxes.push(narrow = { n: -1, x: at, w, row: tree.depth[child], many: 1, bytes: tree.bytes[child] });
      at += w;
    }
  }
  const lowest = boxes.reduce((most, box) => Math.max(most, box.row + 1), 1);
  rows = lowest;
}
function draw() {
  const scroll = $('scroll'), height = rows * ROW;
  $('tall').style.height = height + 'px';
  const seen = Math.max(ROW, Math.min(height, Math.round(window.innerHeight * 0.68)));
  const [pen] = canvas($('flame'), seen);
  const top = scroll.scrollTop;
  const [light, sat, special, match, text, back, accent] =
    ['--light', '--sat', '--special', '--found', '--text', '--card', '--accent'].map(colour);
  pen.font = '12px ui-monospace, monospace';
  pen.textBaseline = 'middle';
  const letter = pen.measureText('m').width;
  for (const box of boxes) {
    const y = (flame ? rows - 1 - box.row : box.row) * ROW - top;
    if (y + ROW < 0 || y > seen) continue;
    const frame = box.n < 0 ? 0 : tree.frame[box.n];
    const plain = box.n <= 0 || frames.flags[frame] & SPECIAL;
    pen.globalAlpha = box.row < tree.depth[zoom] ? 0.55 : 1;
    pen.fillStyle = wanted && box.n > 0 && found[frame] ? match : plain ? special : `hsl(${hue(label(box.n))} ${sat} ${light})`;
    if (wanted && !(box.n > 0 && found[frame])) pen.globalAlpha *= 0.5;
    pen.fillRect(box.x, y, Math.max(box.w - (box.w > 3 ? 1 : 0), 0.5), ROW - 1);
    pen.globalAlpha = 1;
    if (box.n === focus && document.activeElement === $('flame')) {
      pen.strokeStyle = accent; pen.lineWidth = 2;
      pen.strokeRect(box.x + 1, y + 1, Math.max(box.w - 3, 1), ROW - 3);
    }
    if (box.n < 0 || box.w < 3 * letter) continue;
    const room = Math.floor((box.w - 6) / letter), name = box.n ? label(box.n) : `all ${amount(tree.bytes[0])}`;
    if (room < 2) continue;
    pen.fillStyle = text;
    pen.fillText(name.length > room ? name.slice(0, room - 1) + '…' : name, box.x + 4, y + ROW / 2);
  }
  $('empty').hidden = tree.bytes[0] > 0;
  scroll.hidden = !tree.bytes[0];
  $('reset').hidden = !zoom;
  $('zoomed').textContent = zoom ? `${label(zoom)}: ${amount(tree.bytes[zoom])}, ${percent(tree.bytes[zoom], tree.bytes[0])}` : 'Click a box to zoom in';
}
function boxAt(event) {
  const rect = $('flame').getBoundingClientRect();
  const x = event.clientX - rect.left, line = Math.floor((event.clientY - rect.top + $('scroll').scrollTop) / ROW);
  const row = flame ? rows - 1 - line : line;
  return boxes.find(box => box.row === row && x >= box.x && x < box.x + box.w);
}
function zoomTo(n) {
  zoom = zooms[inverted ? 1 : 0] = focus = n;
  lay(); toRoot(); draw(); hide();
}
function toRoot() {
  $('tall').style.height = rows * ROW + 'px';
  $('scroll').scrollTop = flame ? rows * ROW : 0;
}
function describe(box) {
  const card = $('card');
  card.replaceChildren();
  if (box.n < 0) {
    make('b', `${group(box.many)} narrow boxes`, card);
    make('div', `${amount(box.bytes)}, ${percent(box.bytes, tree.bytes[0])}`, card);
    return;
  }
  const { n } = box, frame = tree.frame[n];
  make('b', label(n), card);
  make('div', `${amount(tree.bytes[n])} (${group(tree.bytes[n])} bytes) in ${group(tree.blocks[n])} blocks`, card);
  let shares = `${percent(tree.bytes[n], tree.bytes[0])} of all`;
  if (zoom) shares += `, ${percent(tree.bytes[n], tree.bytes[zoom])} of what is zoomed to`;
  make('div', shares, card);
  if (tree.growth[n]) make('div', `grows by ${size(tree.growth[n])}/s`, card);
  if (n) {
    const place = tree.several[n] ? 'several lines' : strings[frames.place[frame]];
    if (place) make('div', place, card);
    if (strings[frames.module[frame]]) make('div', strings[frames.module[frame]], card).className = 'dim';
  }
}
function hover(box, x, y) {
  const card = $('card');
  describe(box);
  card.hidden = false;
  const { width, height } = card.getBoundingClientRect();
  card.style.left = Math.max(4, Math.min(x + 14, window.innerWidth - width - 6)) + 'px';
  card.style.top = (y + 18 + height > window.innerHeight ? Math.max(4, y - height - 10) : y + 18) + 'px';
}
const hide = () => { $('card').hidden = true; };

// ---- functions
const columns = [['name', 'Function'], ['own', 'Own'], ['total', 'Total'], ['blocks', 'Blocks']];
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
    if (!entry) table.set(name, entry = { name: strings[name], own: 0, total: 0, blocks: 0, last: -1 });
    return entry;
  };
  for (let h = 0; h < COUNT; h++) {
    if (!bytes[h]) continue;
    const node = holders.node[h];
    row(frames.name[teller(node)]).own += bytes[h];
    for (const frame of path(node)) {
      const entry = row(frames.name[frame]);
      if (entry.last === h) continue;
      entry.last = h; entry.total += bytes[h]; entry.blocks += blocks[h];
    }
  }
  functions = [...table.values()];
}
function list() {
  const { column, up } = order, sign = up ? 1 : -1;
  functions.sort((a, b) => sign * (a[column] < b[column] ? -1 : a[column] > b[column] ? 1 : 0) || b.total - a.total);
  const shown = wanted ? functions.filter(entry => wanted(entry.name)) : functions;
  const body = $('rows');
  body.replaceChildren();
  for (const entry of shown.slice(0, 200)) {
    const line = make('tr', undefined, body), button = make('button', entry.name, make('td', undefined, line));
    button.type = 'button'; button.title = entry.name;
    button.onclick = () => { $('search').value = needle = needle === entry.name ? '' : entry.name; show(false); };
    make('td', amount(entry.own), line).title = percent(entry.own, tree.bytes[0]);
    make('td', amount(entry.total), line).title = percent(entry.total, tree.bytes[0]);
    make('td', group(entry.blocks), line);
  }
  $('more').textContent = shown.length > 200 ? `and ${group(shown.length - 200)} more; search for them` : '';
  for (const [key, button] of heads) {
    const chosen = key === column;
    button.parentElement.setAttribute('aria-sort', chosen ? up ? 'ascending' : 'descending' : 'none');
    button.textContent = button.dataset.text + (chosen ? up ? ' ▴' : ' ▾' : '');
  }
}
const heads = columns.map(([key, text]) => {
  const button = make('button', text, make('th', undefined, $('columns')));
  button.type = 'button'; button.dataset.text = text;
  button.onclick = () => { order = { column: key, up: order.column === key ? !order.up : key === 'name' }; list(); };
  return [key, button];
});

// ---- timeline
const peak = views[0].at ?? 0;
const LENGTH = Math.max(data.duration, timeline.begins + timeline.width * timeline.end.length, 1);
const line = $('timeline');
const LEFT = 4, RIGHT = 4, TOP = 16, BOTTOM = 16;
const xOf = ns => LEFT + Math.min(1, ns / LENGTH) * (line.clientWidth - LEFT - RIGHT);
const nsOf = x => Math.max(0, Math.min(1, (x - LEFT) / (line.clientWidth - LEFT - RIGHT))) * LENGTH;
const eraOf = ns => Math.max(0, Math.min(ERAS - 1, Math.floor((ns - timeline.begins) / ERA)));
const endOf = era => Math.min(LENGTH, timeline.begins + (era + 1) * ERA);
let pointer = null, drag = null;
const highest = timeline.highest.reduce((a, b) => Math.max(a, b), 0);
const most = data.rss.reduce((a, b) => Math.max(a, b[1]), highest) || 1;
const limited = data.limit !== null && data.limit <= most * 4;
function drawTimeline() {
  const height = parseInt(getComputedStyle(line).minHeight) || (window.innerWidth <= 480 ? 110 : 130);
  const [pen, width] = canvas(line, height);
  const top = limited ? Math.max(most, data.limit) : most;
  const y = bytes => height - BOTTOM - bytes / top * (height - TOP - BOTTOM);
  const [heap, shade, rss, limit, mark, chosen, dim, rule, accent] =
    ['--heap', '--heap-fill', '--rss', '--limit', '--mark', '--choice', '--dim', '--line', '--accent'].map(colour);
  pen.font = '11px system-ui, sans-serif';
  const stroke = (style, w, dash, points) => {
    pen.strokeStyle = style; pen.lineWidth = w; pen.setLineDash(dash); pen.beginPath();
    points.forEach(([px, py], i) => i ? pen.lineTo(px, py) : pen.moveTo(px, py));
    pen.stroke(); pen.setLineDash([]);
  };
  const say = (text, x, at, style) => {
    pen.fillStyle = style;
    const w = pen.measureText(text).width;
    pen.fillText(text, Math.max(2, Math.min(x, width - w - 2)), at);
  };
  stroke(rule, 1, [], [[0, y(0)], [width, y(0)]]);
  for (const [name, at, end] of data.marks) {
    if (end !== null) { pen.globalAlpha = 0.13; pen.fillStyle = mark; pen.fillRect(xOf(at), TOP, Math.max(1, xOf(end) - xOf(at)), height - TOP - BOTTOM); pen.globalAlpha = 1; }
    stroke(mark, 1, [2, 3], [[xOf(at), TOP], [xOf(at), y(0)]]);
    say(name.slice(0, 24), xOf(at) + 3, TOP + 9, mark);
  }
  const steps = [], left = i => xOf(timeline.begins + i * timeline.width);
  timeline.highest.forEach((bytes, i) => steps.push([left(i), y(bytes)], [left(i + 1), y(bytes)]));
  if (steps.length) {
    pen.fillStyle = shade; pen.beginPath(); pen.moveTo(steps[0][0], y(0));
    for (const [px, py] of steps) pen.lineTo(px, py);
    pen.lineTo(steps[steps.length - 1][0], y(0)); pen.fill();
    stroke(heap, 1.5, [], steps);
  }
  if (data.rss.length) stroke(rss, 1.5, [], data.rss.map(([at, bytes]) => [xOf(at), y(bytes)]));
  if (limited) { stroke(limit, 1, [6, 4], [[0, y(data.limit)], [width, y(data.limit)]]); say('limit ' + size(data.limit), 4, y(data.limit) - 3, limit); }
  const at = xOf(peak);
  pen.fillStyle = heap; pen.beginPath(); pen.arc(at, y(highest), 4, 0, 7); pen.fill();
  say('peak', at + 6, Math.max(10, y(highest) - 5), heap);
  say('0s', 4, height - 3, dim); say(offset(LENGTH), width, height - 3, dim);
  const now = moment();
  const range = drag && Math.abs(drag.to - drag.from) > 4 ? [nsOf(Math.min(drag.from, drag.to)), nsOf(Math.max(drag.from, drag.to))] : now;
  if (range) {
    const [from, to] = range.map(xOf);
    if (to - from > 1) { pen.fillStyle = chosen; pen.fillRect(from, TOP - 6, to - from, height - TOP - BOTTOM + 6); }
    for (const x of [from, to]) stroke(accent, 2, [], [[x, TOP - 6], [x, y(0)]]);
  }
  if (pointer !== null) stroke(dim, 1, [1, 2], [[pointer, 4], [pointer, y(0)]]);
}
function moment() {
  if (choice.view !== undefined) { const at = views[choice.view].at; return at === null ? null : [at, at]; }
  return [choice.from === undefined ? endOf(choice.era) : timeline.begins + choice.from * ERA, endOf(choice.era)];
}
function chosen() {
  if (choice.view !== undefined) {
    const view = views[choice.view];
    return view.words + (view.at === null ? '' : `, ${offset(view.at)}`);
  }
  const to = offset(endOf(choice.era));
  return choice.from === undefined ? `live at ${to}` : `allocated from ${offset(timeline.begins + choice.from * ERA)} to ${to} and live then`;
}
const place = event => event.clientX - line.getBoundingClientRect().left;
line.onpointerdown = event => { drag = { from: place(event), to: place(event) }; line.setPointerCapture(event.pointerId); };
line.onpointermove = event => {
  pointer = place(event);
  if (drag) drag.to = pointer;
  const ns = nsOf(pointer), i = Math.floor((ns - timeline.begins) / timeline.width);
  const before = data.rss.filter(([at]) => at <= ns).pop();
  $('moment-under').textContent = `${offset(ns)}: ${size(timeline.highest[i] ?? 0)} held` + (before ? `, RSS ${size(before[1])}` : '');
  drawTimeline();
};
line.onpointerleave = () => { pointer = null; $('moment-under').textContent = ''; drawTimeline(); };
line.onpointercancel = () => { drag = null; drawTimeline(); };
line.onpointerup = event => {
  if (!drag) return;
  const { from } = drag, to = place(event);
  drag = null;
  if (Math.abs(to - from) > 4) {
    const [a, b] = [from, to].sort((one, other) => one - other).map(x => eraOf(nsOf(x)));
    choice = { from: a, era: b };
  } else choice = Math.abs(to - xOf(peak)) <= 6 ? { view: 0 } : { era: eraOf(nsOf(to)) };
  show(true);
};
line.onkeydown = event => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === 'p' || event.key === 'Enter') choice = { view: 0 };
  else if (step) {
    const era = choice.era ?? eraOf((moment() ?? [peak])[0]);
    const next = Math.max(0, Math.min(ERAS - 1, era + step));
    choice = event.shiftKey ? { from: Math.min(choice.from ?? era, next), era: next } : { era: next };
  } else return;
  event.preventDefault();
  show(true);
};

// ---- everything
let stale = true, tabled = 0;
function show(changed = true) {
  if (changed) { values(); fill(); stale = true; }
  search(); share(); lay(); draw(); drawTimeline();
  // The table comes once the picture is there.
  clearTimeout(tabled);
  tabled = setTimeout(() => { if (stale) count(); stale = false; list(); });
  const total = $('total'), sum = tree.bytes[0];
  total.dataset.bytes = sum;
  total.textContent = amount(sum);
  $('words').textContent = chosen();
  $('books').textContent = `${group(tree.blocks[0])} blocks` + (thread >= 0 && data.merged ? '; (other) is not told apart by thread' : '');
  line.setAttribute('aria-valuetext', `${amount(sum)} ${chosen()}`);
  buttons.forEach((button, view) => button?.setAttribute('aria-pressed', choice.view === view));
  $('inverted').setAttribute('aria-pressed', inverted);
  $('shape').setAttribute('aria-pressed', flame);
}
const names = { peak: 'Peak', end: 'End', growing: 'Growing', allocated: 'All allocated', asked: 'Asked for' };
const buttons = views.map((view, number) => {
  if (view.name === 'growing' && !view.bytes.some(Boolean)) return null;
  const button = make('button', names[view.name], $('views'));
  button.type = 'button'; button.title = view.words;
  button.onclick = () => { choice = { view: number }; show(); };
  return button;
});
function choose(select, all, labels, set) {
  select.hidden = labels.length < 2;
  [all, ...labels].forEach((text, number) => { make('option', text, select).value = number - 1; });
  select.onchange = () => { set(Number(select.value)); show(); };
}
choose($('process'), 'All processes', data.processes, value => { process = value; });
choose($('thread'), 'All threads', data.threads, value => { thread = value; });
const present = data.kinds.map((_, kind) => holders.kind.includes(kind));
if (present.filter(Boolean).length > 1) data.kinds.forEach((kind, number) => {
  if (!present[number]) return;
  const button = make('button', kind.replace('_', ' '), $('kinds'));
  button.type = 'button';
  button.setAttribute('aria-pressed', kinds[number]);
  button.onclick = () => { kinds[number] = !kinds[number]; button.setAttribute('aria-pressed', kinds[number]); show(); };
});
$('search').oninput = event => { needle = event.target.value.trim(); show(false); };
$('shape').onclick = () => { flame = !flame; show(false); toRoot(); draw(); };
$('inverted').onclick = () => { inverted = !inverted; focus = 0; show(); toRoot(); draw(); };
$('reset').onclick = () => zoomTo(0);
$('scroll').onscroll = () => draw();
$('flame').onclick = event => { const box = boxAt(event); if (box && box.n >= 0) zoomTo(box.n); };
$('flame').onmousemove = event => { const box = boxAt(event); if (box) hover(box, event.clientX, event.clientY); else hide(); };
$('flame').onmouseleave = hide;
$('flame').onfocus = $('flame').onblur = () => draw();
$('flame').onkeydown = event => {
  const wide = n => boxes.some(box => box.n === n);
  const inside = (tree.children[focus] ?? []).filter(wide);
  const beside = (tree.children[tree.parent[focus]] ?? []).filter(wide);
  const at = beside.indexOf(focus), [out, deeper] = flame ? ['ArrowDown', 'ArrowUp'] : ['ArrowUp', 'ArrowDown'];
  let next = focus;
  if (event.key === out) next = tree.parent[focus];
  else if (event.key === deeper) next = inside.reduce((best, n) => tree.bytes[n] > tree.bytes[best] ? n : best, inside[0] ?? focus);
  else if (event.key === 'ArrowLeft') next = beside[at - 1] ?? focus;
  else if (event.key === 'ArrowRight') next = beside[at + 1] ?? focus;
  else if (event.key === 'Enter') { event.preventDefault(); zoomTo(focus); return; }
  else return;
  event.preventDefault();
  focus = next;
  const box = boxes.find(box => box.n === focus);
  if (!box) return;
  const y = (flame ? rows - 1 - box.row : box.row) * ROW, scroll = $('scroll');
  if (y < scroll.scrollTop) scroll.scrollTop = y;
  if (y + ROW > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = y + ROW - scroll.clientHeight;
  draw();
  const rect = $('flame').getBoundingClientRect();
  hover(box, rect.left + box.x, rect.top + y - scroll.scrollTop + ROW);
  $('flame').setAttribute('aria-label', `${label(focus)}, ${amount(tree.bytes[focus])}, ${percent(tree.bytes[focus], tree.bytes[0])}`);
};
document.addEventListener('keydown', event => {
  if (event.key === '/' && event.target !== $('search')) { event.preventDefault(); $('search').focus(); }
  if (event.key === 'Escape') {
    hide();
    if (needle) { $('search').value = needle = ''; show(false); } else if (zoom) zoomTo(0);
    if (event.target === $('search')) $('flame').focus();
  }
});
function theme(name) { document.documentElement.dataset.theme = name; }
const dark = matchMedia('(prefers-color-scheme: dark)');
theme(dark.matches ? 'dark' : 'light');
dark.addEventListener('change', () => { theme(dark.matches ? 'dark' : 'light'); draw(); drawTimeline(); });
$('theme').onclick = () => { theme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'); draw(); drawTimeline(); };
window.addEventListener('resize', () => { lay(); draw(); drawTimeline(); });

$('title').textContent = data.title;
document.title = `${data.title} · highwater`;
$('command').textContent = data.command;
$('command').title = data.command;
for (const [style, text] of [['--heap', 'held, as traced'], ['--rss', 'RSS']]) {
  if (style === '--rss' && !data.rss.length) continue;
  make('i', undefined, $('legend')).style.background = `var(${style})`;
  make('span', text, $('legend'));
}
if (data.limit !== null && !limited) make('span', ` · limit ${size(data.limit)}, far above`, $('legend'));
if (data.trust.length) {
  const banner = $('banner');
  banner.hidden = false;
  const warnings = data.trust.filter(([warning]) => warning), notes = data.trust.filter(([warning]) => !warning);
  banner.classList.toggle('quiet', !warnings.length);
  for (const [, text] of warnings) make('p', text, banner).className = 'warning';
  if (notes.length) {
    const more = make('details', undefined, banner);
    make('summary', `${warnings.length ? '' : 'Nothing was lost. '}Worth knowing: ${notes.length} ${notes.length === 1 ? 'note' : 'notes'}`, more);
    for (const [, text] of notes) make('p', text, more);
  }
}
let foot = `Recorded ${data.started ?? ''} over ${offset(data.duration).slice(1)}. Moments on the timeline are ${(ERA / 1e6).toFixed(0)} ms apart; peak and end are exact.`;
if (data.growth > 0) foot += ` All that grows does so by ${size(data.growth)}/s together`
  + (data.seconds_to_limit !== null ? `: ${group(Math.round(data.seconds_to_limit))} s from the end to the limit.` : '.');
if (data.merged) foot += ` (other) stands for the ${group(data.merged)} smallest holders.`;
$('footer').textContent = foot;
show();
})();
