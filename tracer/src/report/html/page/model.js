// What each holder has of what is chosen, and the tree of calls that it makes.
const COUNT = holders.node.length, NODES = trie.parent.length;

// What is shown: a view by its number, the end of an era, or a window of eras.
let choice = { view: data.first };
const kinds = data.chosen.slice();
const SEVERAL = data.processes.length > 1;
// Processes that are shown; none: all of them.
const picked = new Set();
let thread = -1, inverted = data.inverted, flame = false;

const ERA = timeline ? timeline.width * timeline.step : 1;
const ERAS = timeline ? Math.max(1, Math.ceil(timeline.end.length / timeline.step)) : 1;
const bytes = new Float64Array(COUNT), blocks = new Float64Array(COUNT), growth = new Float64Array(COUNT);
const [AFTER, BEFORE] = [0, 1];
const isShown = h => kinds[holders.kind[h]] && (!picked.size || picked.has(holders.process[h]))
  && (thread < 0 || holders.thread[h] === thread);
const viewNamed = name => views.find(view => view.name === name);
// What a holder has of what is chosen, whether or not it is shown: bytes and blocks.
function now(h) {
  if (choice.view !== undefined) {
    const view = views[choice.view];
    return [view.rate ? rates()[h] : view.bytes[h], view.blocks[h]];
  }
  const to = choice.era, from = choice.from ?? 0, lives = holders.lives[h], has = [0, 0];
  for (let i = 0; i < lives.length; i += 4) {
    if (from <= lives[i] && lives[i] <= to && (lives[i + 1] < 0 || lives[i + 1] > to)) {
      has[0] += lives[i + 2];
      has[1] += lives[i + 3];
    }
  }
  return has;
}
// What grows over many threads is told of the stack, unless one thread is asked for.
const rates = () => thread < 0 ? holders.growth : holders.thread_growth;
function values() {
  for (let h = 0; h < COUNT; h++) {
    bytes[h] = blocks[h] = growth[h] = 0;
    if (!isShown(h)) continue;
    growth[h] = rates()[h];
    [bytes[h], blocks[h]] = now(h);
  }
}

// ---- trees: frames of one text under the same callers are one box
function grow() {
  const tree = { parent: [0], frame: [0], depth: [0], several: [false], at: new Int32Array(COUNT), holds: new Int32Array(COUNT) };
  const numbers = new Map();
  const child = (parent, frame) => {
    const key = parent * BOXES + boxOf(frame);
    let node = numbers.get(key);
    if (node === undefined) {
      node = tree.parent.length;
      numbers.set(key, node);
      tree.parent.push(parent); tree.frame.push(frame); tree.depth.push(tree.depth[parent] + 1); tree.several.push(false);
    } else if (frames.place[tree.frame[node]] !== frames.place[frame]) tree.several[node] = true;
    return node;
  };
  const ends = new Map();
  for (let h = 0; h < COUNT; h++) {
    const leaf = holders.node[h];
    let end = ends.get(leaf);
    if (end === undefined) {
      const { list, telling } = path(leaf);
      let at = 0, holds = 0;
      if (inverted) for (let i = telling; i < list.length; i++) { at = child(at, list[i]); if (i === telling) holds = at; }
      else for (let i = list.length - 1; i >= 0; i--) { at = child(at, list[i]); if (i === telling) holds = at; }
      ends.set(leaf, end = [at, holds]);
    }
    [tree.at[h], tree.holds[h]] = end;
  }
  const count = tree.parent.length;
  // What the graph's library is given: it keeps there which boxes are hidden.
  tree.boxes = Array.from({ length: count }, (_, n) => ({ n }));
  for (let n = 1; n < count; n++) (tree.boxes[tree.parent[n]].children ??= []).push(tree.boxes[n]);
  const name = ({ n }) => strings[frames.name[tree.frame[n]]];
  for (const { children } of tree.boxes) children?.sort((a, b) => name(a) < name(b) ? -1 : 1);
  for (const part of ['bytes', 'blocks', 'growth', 'after', 'before', 'held']) tree[part] = new Float64Array(count);
  tree.zoom = 0;
  return tree;
}
const trees = new Map();
let tree;
function fill() {
  const which = `${inverted} ${byLine} ${framesKey()}`;
  if (!trees.has(which)) trees.set(which, grow());
  tree = trees.get(which);
  const parts = [[tree.bytes, bytes], [tree.blocks, blocks], [tree.growth, growth]];
  if (data.difference) parts.push([tree.after, views[AFTER].bytes], [tree.before, views[BEFORE].bytes]);
  for (const [sums, of] of parts) {
    sums.fill(0);
    for (let h = 0; h < COUNT; h++) if (of[h] && isShown(h)) sums[tree.at[h]] += of[h];
    for (let n = tree.parent.length - 1; n > 0; n--) sums[tree.parent[n]] += sums[n];
  }
  // Of each box, what its own stacks are told by: it is the holder of these.
  tree.held.fill(0);
  for (let h = 0; h < COUNT; h++) if (bytes[h]) tree.held[tree.holds[h]] += bytes[h];
}
const label = n => n ? strings[frames.name[tree.frame[n]]] : 'all';
