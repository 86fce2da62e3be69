// What each holder has of what is chosen, and the tree of calls that it makes.
const INLINED = 1, PLUMBING = 2, UNNAMED = 4, SPECIAL = 8;
const COUNT = holders.node.length, NODES = trie.parent.length;
// A Python function stands before the interpreter's machine code that runs it.
const NATIVE = 0, PYTHON = 1, INTERPRETER = 2;
const isMixed = frames.kind.includes(PYTHON);
// Stands for a stack of which the choice of frames leaves none.
const NONE = frames.name.push(strings.push('(no such frames)') - 1) - 1;
frames.place.push(0); frames.module.push(0); frames.flags.push(SPECIAL); frames.kind.push(NATIVE); frames.source.push(0);

// What is shown: a view by its number, the end of an era, or a window of eras.
let choice = { view: data.first };
const kinds = data.chosen.slice();
let process = -1, thread = -1, frameView = isMixed ? data.looks_at : 'all';
let inverted = data.inverted, flame = false;

const ERA = timeline ? timeline.width * timeline.step : 1;
const ERAS = timeline ? Math.max(1, Math.ceil(timeline.end.length / timeline.step)) : 1;
const bytes = new Float64Array(COUNT), blocks = new Float64Array(COUNT), growth = new Float64Array(COUNT);
const [AFTER, BEFORE] = [0, 1];
const isShown = h => kinds[holders.kind[h]] && (process < 0 || holders.process[h] === process)
  && (thread < 0 || holders.thread[h] === thread);
function values() {
  const view = choice.view !== undefined ? views[choice.view] : null;
  // What grows over many threads is told of the stack, unless one thread is asked for.
  const rate = thread < 0 ? holders.growth : holders.thread_growth;
  for (let h = 0; h < COUNT; h++) {
    bytes[h] = blocks[h] = growth[h] = 0;
    if (!isShown(h)) continue;
    growth[h] = rate[h];
    if (view) {
      bytes[h] = view.rate ? rate[h] : view.bytes[h];
      blocks[h] = view.blocks[h];
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

// ---- stacks, leaf first, as far as they are looked at; those without Python are looked at whole
const isLookedAt = {
  telling: kind => kind !== INTERPRETER,
  python: kind => kind === PYTHON,
  native: kind => kind !== PYTHON,
};
const paths = new Map();
function path(node) {
  let list = paths.get(node);
  if (!list) {
    list = [];
    for (let at = node; at > 0; at = trie.parent[at]) list.push(trie.frame[at]);
    if (frameView !== 'all' && list.some(frame => frames.kind[frame] === PYTHON))
      list = list.filter(frame => isLookedAt[frameView](frames.kind[frame]) || frames.flags[frame] & SPECIAL);
    if (!list.length) list.push(NONE);
    paths.set(node, list);
  }
  return list;
}

// ---- trees: frames of one name under the same callers are one box
function grow() {
  const tree = { parent: [0], frame: [0], depth: [0], several: [false], at: new Int32Array(COUNT) };
  const numbers = new Map();
  const child = (parent, frame) => {
    const key = parent * strings.length + frames.name[frame];
    let node = numbers.get(key);
    if (node === undefined) {
      node = tree.parent.length;
      numbers.set(key, node);
      tree.parent.push(parent); tree.frame.push(frame); tree.depth.push(tree.depth[parent] + 1); tree.several.push(false);
    } else if (frames.place[tree.frame[node]] !== frames.place[frame]) tree.several[node] = true;
    return node;
  };
  if (inverted || frameView !== 'all') {
    const ends = new Map();
    for (let h = 0; h < COUNT; h++) {
      let end = ends.get(holders.node[h]);
      if (end === undefined) {
        const list = path(holders.node[h]);
        end = (inverted ? list : [...list].reverse()).reduce(child, 0);
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
  // What the graph's library is given: it keeps there which boxes are hidden.
  tree.boxes = Array.from({ length: count }, (_, n) => ({ n }));
  for (let n = 1; n < count; n++) (tree.boxes[tree.parent[n]].children ??= []).push(tree.boxes[n]);
  const name = ({ n }) => strings[frames.name[tree.frame[n]]];
  for (const { children } of tree.boxes) children?.sort((a, b) => name(a) < name(b) ? -1 : 1);
  for (const part of ['bytes', 'blocks', 'growth', 'after', 'before']) tree[part] = new Float64Array(count);
  tree.zoom = 0;
  return tree;
}
const trees = new Map();
let tree;
function fill() {
  const which = `${inverted} ${frameView}`;
  if (!trees.has(which)) trees.set(which, grow());
  tree = trees.get(which);
  const parts = [[tree.bytes, bytes], [tree.blocks, blocks], [tree.growth, growth]];
  if (data.difference) parts.push([tree.after, views[AFTER].bytes], [tree.before, views[BEFORE].bytes]);
  for (const [sums, of] of parts) {
    sums.fill(0);
    for (let h = 0; h < COUNT; h++) if (of[h] && isShown(h)) sums[tree.at[h]] += of[h];
    for (let n = tree.parent.length - 1; n > 0; n--) sums[tree.parent[n]] += sums[n];
  }
}
const label = n => n ? strings[frames.name[tree.frame[n]]] : 'all';

// ---- search
let needle = '', wanted = null;
const found = new Uint8Array(frames.name.length);
function search() {
  const pattern = /^\/(.+)\/$/.exec(needle);
  wanted = null;
  found.fill(0);
  if (!needle) return;
  const lower = needle.toLowerCase();
  wanted = text => text.toLowerCase().includes(lower);
  if (pattern) try { const regex = new RegExp(pattern[1]); wanted = text => regex.test(text); } catch { /* not yet a pattern: as text */ }
  const texts = new Map();
  const match = number => {
    if (!texts.has(number)) texts.set(number, Number(wanted(strings[number])));
    return texts.get(number);
  };
  for (let f = 0; f < found.length; f++) found[f] = match(frames.name[f]) | match(frames.place[f]) | match(frames.module[f]);
}
function share() {
  const out = $('matched');
  if (!wanted) { out.textContent = ''; delete out.dataset.bytes; return; }
  // Of each stack once, however often it matches.
  const hits = new Map();
  let sum = 0;
  for (let h = 0; h < COUNT; h++) {
    if (!bytes[h]) continue;
    const node = holders.node[h];
    if (!hits.has(node)) hits.set(node, path(node).some(frame => found[frame]));
    if (hits.get(node)) sum += bytes[h];
  }
  out.dataset.bytes = sum;
  out.textContent = `${percent(sum, tree.bytes[0])} · ${amount(sum)}`;
}
