// The flame graph: d3-flame-graph lays it out, draws it and zooms; what boxes say, their colours and the keyboard are ours.
const ROW = 19, NARROWEST = 0.7;
const graph = $('flame'), scroll = $('scroll');
let focus = 0;

// Those that hold much have a colour of their own, what calls them and what they call has the pale one of its language.
function fillOf(d) {
  const { n } = d.data, frame = tree.frame[n];
  if (d.highlight) return palette.match;
  if (data.difference) {
    const [before, after] = [tree.before[n], tree.after[n]];
    const part = (after - before) / Math.max(before, after, 1);
    if (!n || Math.abs(part) < 0.0005) return palette.special;
    // The more of it is new, or gone, the stronger.
    const strong = Math.sqrt(Math.abs(part));
    return `hsl(${part > 0 ? 6 : 214} ${30 + 45 * strong}% ${palette.even + (palette.light - palette.even) * strong}%)`;
  }
  if (!n) return palette.special;
  const holds = tree.held[n] * 2 >= tree.bytes[n] && colourOf(frames.name[frame]);
  if (holds) return holds;
  if (frames.flags[frame] & SPECIAL) return palette.special;
  return `hsl(${isScript(frame) ? 40 : 215} ${palette.sat}% ${palette.light + (frames.name[frame] % 3) * 1.5}%)`;
}

const tip = () => {};
tip.show = (event, d) => { hover(d.data.n, event.clientX, event.clientY); };
tip.hide = () => hide();
const chart = flamegraph.default()
  .cellHeight(ROW).minFrameSize(NARROWEST).transitionDuration(0).resetHeightOnZoom(true).inverted(true).tooltip(tip)
  .getName(d => d.data.n ? boxText(tree.frame[d.data.n]) : 'all').getValue(d => tree.bytes[(d.data ?? d).n]).getChildren(d => d.children)
  .color(fillOf).setSearchMatch(d => found[tree.frame[d.data.n]] === 1 && d.data.n > 0).setSearchHandler(() => {})
  .onClick(d => { tree.zoom = focus = d.data.n; drawn(); toRoot(); choose(d.data.n ? frames.name[tree.frame[d.data.n]] : null); });

let started = null;
function draw() {
  // Before it is measured.
  scroll.hidden = !tree.bytes[0];
  $('empty').hidden = !scroll.hidden;
  if (scroll.hidden) { $('zoomed').textContent = ''; return; }
  if (!tree.bytes[focus]) focus = 0;
  chart.width(graph.clientWidth || 1).inverted(!flame);
  // Each of these draws all of it, so one must do.
  const box = tree.boxes[0], isOther = started !== tree;
  if (!started) d3.select(graph).datum(box).call(chart);
  else if (isOther) chart.update(box);
  started = tree;
  if (!tree.bytes[tree.zoom]) chart.resetZoom();
  if (wanted) chart.search(needle);
  else if (!isOther) chart.clear();
  drawn();
}
// The library fades boxes and labels in; a moment picked on the timeline should be there at once, and heard of too.
function drawn() {
  // Two rows of its height are for a title.
  const width = chart.width(), height = chart.height() - 2 * ROW, bottom = height - ROW;
  d3.select(graph).select('svg').attr('height', height);
  let count = 0;
  d3.select(graph).selectAll('g.frame').each(function (d) {
    count++;
    const g = d3.select(this), { n } = d.data, wide = Number(g.attr('width')), y = d.depth * ROW;
    g.interrupt().attr('transform', `translate(${d.x0 * width},${flame ? bottom - y : y})`);
    g.select('rect').interrupt().attr('width', Math.max(0.5, wide > 4 ? wide - 1 : wide)).attr('height', ROW - 1);
    g.select('div').interrupt().text(n ? fitted(boxText(tree.frame[n]), wide) : `all: ${amount(tree.bytes[0])}`);
    this.id = `box-${n}`;
    this.setAttribute('role', 'treeitem');
    this.setAttribute('aria-level', tree.depth[n] + 1);
    this.setAttribute('aria-label', said(n));
    this.classList.toggle('focused', n === focus);
    this.classList.toggle('chosen', n > 0 && frames.name[tree.frame[n]] === chosenName);
  });
  const { zoom } = tree;
  // Below what is zoomed to, so many are there.
  let all = 0;
  const pending = [tree.boxes[zoom]];
  while (pending.length) for (const box of pending.pop().children ?? []) if (tree.bytes[box.n]) { all++; pending.push(box); }
  const missing = Math.max(0, all + tree.depth[zoom] + 1 - count);
  const told = zoom ? `${label(zoom)}: ${amount(tree.bytes[zoom])}, ${percent(tree.bytes[zoom], tree.bytes[0])}` : 'Click a box to zoom in';
  $('zoomed').textContent = told + (missing ? ` · ${group(missing)} ${missing === 1 ? 'box is' : 'boxes are'} too narrow to be drawn` : '');
  $('reset').hidden = !zoom;
  graph.setAttribute('aria-activedescendant', `box-${focus}`);
}
// Of a name that a box has no room for, its last part tells more than its first.
const LETTER = 7.3;
function fitted(text, wide) {
  if (byLine || text.length * LETTER < wide - 8) return text;
  const last = text.slice(text.lastIndexOf('::') + 2 * (text.lastIndexOf('::') >= 0));
  return last.length < text.length && last.length > 1 ? `…${last}` : text;
}
const said = n => `${label(n)}, ${amount(tree.bytes[n])}, ${percent(tree.bytes[n], tree.bytes[0])}`;
const elementOf = n => document.getElementById(`box-${n}`);
function zoomTo(n) {
  const element = elementOf(n);
  hide();
  if (element) chart.zoomTo(d3.select(element).datum());
}
function toRoot() { scroll.scrollTop = flame ? scroll.scrollHeight : 0; }

graph.onmousemove = event => { if (!$('card').hidden) moveCard(event.clientX, event.clientY); };
graph.onmouseleave = hide;
graph.onkeydown = event => {
  const isDrawn = ({ n }) => elementOf(n) && tree.bytes[n] > 0;
  const inside = (tree.boxes[focus].children ?? []).filter(isDrawn);
  const beside = (tree.boxes[tree.parent[focus]].children ?? []).filter(isDrawn);
  const at = beside.findIndex(({ n }) => n === focus), [out, deeper] = flame ? ['ArrowDown', 'ArrowUp'] : ['ArrowUp', 'ArrowDown'];
  let next = focus;
  if (event.key === out) next = tree.parent[focus];
  else if (event.key === deeper) next = inside.reduce((best, { n }) => tree.bytes[n] > tree.bytes[best] ? n : best, inside[0]?.n ?? focus);
  else if (event.key === 'ArrowLeft') next = beside[at - 1]?.n ?? focus;
  else if (event.key === 'ArrowRight') next = beside[at + 1]?.n ?? focus;
  else if (event.key === 'Enter') { event.preventDefault(); zoomTo(focus); return; }
  else return;
  event.preventDefault();
  const element = elementOf(next);
  if (!element) return;
  elementOf(focus)?.classList.remove('focused');
  focus = next;
  element.classList.add('focused');
  graph.setAttribute('aria-activedescendant', element.id);
  const box = element.getBoundingClientRect(), view = scroll.getBoundingClientRect();
  if (box.top < view.top) scroll.scrollTop -= view.top - box.top;
  if (box.bottom > view.bottom) scroll.scrollTop += box.bottom - view.bottom;
  hover(focus, Math.max(box.left, view.left), element.getBoundingClientRect().bottom - 14);
};
