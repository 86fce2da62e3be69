// What is searched for, and how much of what is shown it has.
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
// Of each stack once, however often it matches, and whether or not what matches is looked at.
function share() {
  const out = $('matched');
  if (!wanted) { out.textContent = ''; delete out.dataset.bytes; return; }
  const hits = new Map();
  let sum = 0;
  for (let h = 0; h < COUNT; h++) {
    if (!bytes[h]) continue;
    const node = holders.node[h];
    if (!hits.has(node)) {
      let hit = false;
      for (let at = node; at > 0 && !hit; at = trie.parent[at]) hit = found[trie.frame[at]] === 1;
      hits.set(node, hit);
    }
    if (hits.get(node)) sum += bytes[h];
  }
  out.dataset.bytes = sum;
  out.textContent = `${percent(sum, tree.bytes[0])} · ${amount(sum)}`;
}
