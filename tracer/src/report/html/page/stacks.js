// Which frames of a stack are looked at, which of them is the holder, and what their boxes say.
const PLUMBING = 1, SPECIAL = 2, PROCESS = 4, NAMELESS = 8;
// A Python function stands before the interpreter's machine code that runs it.
const NATIVE = 0, PYTHON = 1, INTERPRETER = 2, JAVASCRIPT = 3;
const isScript = frame => frames.kind[frame] === PYTHON || frames.kind[frame] === JAVASCRIPT;
const isMixed = frames.kind.includes(PYTHON);
// Stands for a stack of which the choice of frames leaves none.
const NONE = frames.name.push(strings.push('(no such frames)') - 1) - 1;
frames.short.push(frames.name[NONE]);
for (const [column, value] of [['place', 0], ['module', 0], ['flags', SPECIAL], ['kind', NATIVE], ['source', 0]]) frames[column].push(value);

// The program's own code alone: not libc, the language's library, allocators, the interpreter, imports.
let own = data.own;
let language = data.looks_at, byProcess = false, byLine = false;
const framesKey = () => `${own} ${language} ${byProcess}`;
const isLookedAt = {
  telling: () => true,
  python: kind => kind === PYTHON,
  native: kind => kind !== PYTHON,
};
// What is hidden of all stacks while own code is looked at.
const isPlumbing = frame => (frames.flags[frame] & (PLUMBING | NAMELESS)) !== 0 || frames.kind[frame] === INTERPRETER;
const tellingOf = new Int32Array(trie.parent.length);
for (let h = 0; h < holders.node.length; h++) tellingOf[holders.node[h]] = holders.telling[h];

const paths = new Map();
// A stack as it is looked at, leaf first, and which of its frames is the holder.
function path(node) {
  let known = paths.get(node);
  if (known) return known;
  const whole = [];
  for (let at = node; at > 0; at = trie.parent[at]) whole.push(trie.frame[at]);
  const teller = Math.min(tellingOf[node], whole.length - 1);
  const chooses = language !== 'telling' && whole.some(frame => frames.kind[frame] === PYTHON);
  // What a line of Python or JavaScript calls is told by the native function that it called, not by what that calls in turn.
  const isOwn = frame => !isPlumbing(frame) && !(frames.flags[frame] & SPECIAL);
  const called = own && isScript(whole[teller]) ? whole.slice(0, teller).findLastIndex(isOwn) : 0;
  const list = [];
  let telling = -1;
  whole.forEach((frame, i) => {
    const special = frames.flags[frame] & SPECIAL;
    if (frames.flags[frame] & PROCESS) { if (!byProcess) return; }
    else if (!special && chooses && !isLookedAt[language](frames.kind[frame])) return;
    else if (!special && own && i !== teller && (isPlumbing(frame) || i < called)) return;
    if (telling < 0 && i >= teller && !(frames.flags[frame] & PROCESS)) telling = list.length;
    list.push(frame);
  });
  const isFrame = frame => !(frames.flags[frame] & PROCESS);
  if (!list.some(isFrame)) list.unshift(NONE);
  // What tells is not looked at, nor what called it: the outermost that is.
  if (telling < 0) telling = Math.max(0, list.findLastIndex(isFrame));
  paths.set(node, known = { list, telling });
  return known;
}
// The name of who holds what lies on a stack.
const tellerName = node => { const { list, telling } = path(node); return frames.name[list[telling]]; };
function forgetStacks() { paths.clear(); }

// ---- boxes: of one function, or of one line
const lines = new Map();
const lineOf = frames.name.map((name, f) => {
  const key = `${name} ${frames.place[f]}`;
  if (!lines.has(key)) lines.set(key, lines.size);
  return lines.get(key);
});
const BOXES = Math.max(strings.length, lines.size) + 1;
const boxOf = frame => byLine ? lineOf[frame] : frames.name[frame];
// What stands in a box of a frame.
function boxText(frame) {
  const short = strings[frames.short[frame]], place = strings[frames.place[frame]];
  if (!byLine || !place) return short;
  const source = strings[frames.source[frame]];
  return `${place}  ${source || short}`;
}

// ---- what is hidden, in one line
let hiddenTold = null;
const hiddenWords = () => own ? hiddenTold ??= tellHidden() : '';
function tellHidden() {
  const names = new Set(), hidden = new Map();
  for (let f = 0; f < NONE; f++) {
    if (frames.flags[f] & SPECIAL) continue;
    names.add(frames.name[f]);
    if (!isPlumbing(f)) continue;
    const place = strings[frames.place[f]], isImport = place.startsWith('<frozen importlib');
    const module = isImport ? 'Python’s imports' : strings[frames.module[f]].split('/').pop() || place.split(':')[0] || 'the runtime';
    if (!hidden.has(module)) hidden.set(module, new Set());
    hidden.get(module).add(frames.name[f]);
  }
  const many = [...hidden.values()].reduce((sum, of) => sum + of.size, 0);
  if (!many) return '';
  const most = [...hidden].sort((a, b) => b[1].size - a[1].size).slice(0, 3).map(([module]) => module);
  const more = hidden.size > 3 ? ' and others' : '';
  const calls = frames.kind.some((kind, f) => isScript(f)) ? ' Of the native functions that a line calls, the first is shown.' : '';
  return `Own code: ${group(many)} of ${group(names.size)} functions are not shown, of ${most.join(', ')}${more}.${calls} All shows every frame.`;
}
