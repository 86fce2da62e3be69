// The timeline: uPlot draws it; picking a moment or a window by mouse, finger or keys is ours.
const peak = views[0].at ?? 0;
const LENGTH = timeline ? Math.max(data.duration, timeline.begins + timeline.width * timeline.end.length, 1) : 1;
// Before the process was attached to there is nothing to see.
const START = timeline ? Math.min(timeline.begins, ...data.rss.slice(0, 1).map(([at]) => at), ...data.marks.map(([, at]) => at)) : 0;
const line = $('timeline');
const eraOf = ns => Math.max(0, Math.min(ERAS - 1, Math.floor((ns - timeline.begins) / ERA)));
const beginOf = era => timeline.begins + era * ERA;
const endOf = era => Math.min(LENGTH, beginOf(era + 1));
const curves = [];
let plot = null, drag = null, top = 1, limited = false, charged = true;

// Lines over the bands: what was held at most within each era, and what the kernel counted.
function startCurves() {
  curves.push({ name: 'traced, at most', style: '--heap', width: 1.2 });
  if (data.rss.length) curves.push({ name: 'RSS', style: '--rss', width: 1.6, points: () => picked.size ? rssOfPicked() : data.rss });
  const reaches = [data.rss, data.cgroup].map(points => points.reduce((a, b) => Math.max(a, b[1]), 0));
  // What others in the cgroup have would leave no room for what is looked at.
  charged = data.cgroup.length > 0 && reaches[1] <= 4 * Math.max(reaches[0], 1);
  if (charged) curves.push({ name: 'cgroup', style: '--cgroup', width: 1.2, points: () => picked.size ? [] : data.cgroup });
}
function rssOfPicked() {
  const steps = [...picked].flatMap(number => data.processes[number].curve.map(([at, bytes]) => [at, number, bytes]));
  const now = new Map(), points = [];
  for (const [at, number, bytes] of steps.sort((a, b) => a[0] - b[0])) {
    now.set(number, bytes);
    points.push([at, [...now.values()].reduce((a, b) => a + b, 0)]);
  }
  return points;
}
function plotted() {
  const { highest } = timeline;
  const edges = highest.map((_, i) => timeline.begins + i * timeline.width);
  edges.push(Math.min(LENGTH, timeline.begins + highest.length * timeline.width));
  // Of some of the processes or threads, only what they held at the end of each era is known.
  const isWhole = !picked.size && thread < 0;
  const held = isWhole ? highest.map((bytes, i) => bytes + beforeAt(edges[i + 1])) : highest.map(() => null);
  // A step lasts up to the end of its era.
  const tables = [[edges, [...held, held[held.length - 1] ?? 0]]];
  let most = held.reduce((a, b) => Math.max(a, b), 0);
  for (let era = 0; era < ERAS; era++) most = Math.max(most, heldAt(era) + beforeAt(endOf(era)));
  for (const { points } of curves.slice(1)) {
    const all = points();
    tables.push([all.map(([at]) => at), all.map(([, bytes]) => bytes)]);
    most = all.reduce((a, b) => Math.max(a, b[1]), most);
  }
  limited = data.limit !== null && data.limit <= most * 4;
  top = (limited ? Math.max(most, data.limit) : most || 1) * 1.1;
  line.dataset.top = top;
  return uPlot.join(tables);
}
const SECOND = 1e9, CLOCK = [...[1, 2, 5, 10, 20, 50, 100, 200, 500].map(ms => ms * 1e6), ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].map(s => s * SECOND)];
function startTimeline() {
  startCurves();
  const axis = { stroke: () => colour('--dim'), font: '11px system-ui, sans-serif', ticks: { show: false } };
  const grid = { stroke: () => colour('--line'), width: 1 };
  const powers = Array.from({ length: 60 }, (_, power) => 2 ** power);
  const tenths = Array.from({ length: 15 }, (_, power) => [1, 2, 5].map(by => by * 10 ** (power + 3))).flat();
  // On the clock the lines are at full seconds, minutes and hours.
  const splits = (_, axis, min, max, by) => {
    const all = [], skew = onClock ? (data.started_unix_ms % (by / 1e6)) * 1e6 : 0;
    for (let at = Math.ceil((min + skew) / by) * by - skew; at <= max; at += by) all.push(Math.round(at));
    return all;
  };
  const told = (_, ticks, axis, space, by) => ticks.map(ns => {
    if (onClock) return clockOf(ns).slice(11, by >= 60 * SECOND ? 16 : by >= SECOND ? 19 : 23);
    return ns ? offset(ns).replace('.000', '').replace('.0s', 's') : '0';
  });
  plot = new uPlot({
    width: line.clientWidth, height: 210, padding: [14, 22, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { show: false } },
    scales: { x: { time: false, range: () => [START, LENGTH] }, y: { range: () => [0, top] } },
    axes: [
      { ...axis, grid: { show: false }, size: 24, space: 80, incrs: () => onClock ? CLOCK : tenths, splits, values: told },
      { ...axis, grid, size: 62, space: 34, incrs: powers, values: (_, ticks) => ticks.map(bytes => bytes ? size(bytes).replace('.0', '') : '0') },
    ],
    series: [{}, ...curves.map(({ style, width, points }) => ({
      stroke: () => colour(style), width, points: { show: false }, spanGaps: true,
      paths: points ? undefined : uPlot.paths.stepped({ align: 1 }),
    }))],
    hooks: { drawAxes: [drawSpans, drawBands, drawChoice], draw: [annotate] },
  }, plotted(), line);
  for (const { name, style } of curves) {
    const entry = make('span', undefined, $('legend'));
    make('i', undefined, entry).style.background = `var(${style})`;
    entry.append(name);
    if (name === 'RSS' && data.processes.some(({ inherited }) => inherited)) {
      entry.append(' of each process, added up');
      entry.title = 'What processes share is in the RSS of each of them; among what was traced it counts once.';
    }
  }
  const last = data.before.at(-1);
  if (last) {
    const entry = make('span', undefined, $('legend')), before = make('i', undefined, entry);
    before.style.background = 'var(--before)'; before.className = 'area';
    entry.append('held before attach');
  }
  const far = [];
  if (data.limit !== null && !limited) far.push(`limit ${size(data.limit)}`);
  if (data.cgroup.length && !charged) far.push(`cgroup ${size(data.cgroup.reduce((a, b) => Math.max(a, b[1]), 0))}`);
  if (far.length) make('span', `${far.join(', ')}: far above`, $('legend')).className = 'dim';
  listen(plot.over);
  line.setAttribute('aria-valuemin', Math.round(START / 1e6));
  line.setAttribute('aria-valuemax', Math.round(LENGTH / 1e6));
  [line.dataset.start, line.dataset.length] = [START, LENGTH];
  new ResizeObserver(sizeTimeline).observe(line);
}
function sizeTimeline() { plot?.setSize({ width: line.clientWidth, height: window.innerWidth <= 480 ? 170 : 210 }); }
function drawTimeline() {
  if (!plot) return;
  if (stackBands()) plot.setData(plotted()); else plot.redraw(false, true);
  drawKey();
}

// Under the bands: spans.
function drawSpans({ ctx, bbox, valToPos }) {
  const x = ns => valToPos(ns, 'x', true), dot = uPlot.pxRatio;
  ctx.save();
  for (const [, at, end] of data.marks) {
    if (end === null) continue;
    ctx.globalAlpha = 0.13; ctx.fillStyle = colour('--mark');
    ctx.fillRect(x(at), bbox.top, Math.max(dot, x(end) - x(at)), bbox.height);
  }
  ctx.restore();
}
// Over the bands: what moments are chosen.
function drawChoice({ ctx, bbox, valToPos }) {
  const x = ns => valToPos(ns, 'x', true), dot = uPlot.pxRatio;
  ctx.save();
  const range = drag && Math.abs(drag.to - drag.from) > 4 ? [drag.from, drag.to].map(nsAt).sort((a, b) => a - b) : moment();
  if (range) {
    const [from, to] = range.map(x);
    ctx.fillStyle = colour('--choice');
    ctx.fillRect(from, bbox.top, to - from, bbox.height);
    ctx.fillStyle = colour('--accent');
    for (const at of [from, to]) ctx.fillRect(at - dot, bbox.top, 2 * dot, bbox.height);
  }
  ctx.restore();
}
// Over them: marks, the limit and the peak.
function annotate({ ctx, bbox, valToPos }) {
  const x = ns => valToPos(ns, 'x', true), y = bytes => valToPos(bytes, 'y', true), dot = uPlot.pxRatio;
  ctx.save();
  ctx.font = `${11 * dot}px system-ui, sans-serif`;
  ctx.textAlign = 'left'; ctx.textBaseline = 'alphabetic'; ctx.lineJoin = 'round';
  // With a rim, to be read over curves.
  const say = (text, at, base, style) => {
    const width = ctx.measureText(text).width;
    const left = Math.max(bbox.left + 2 * dot, Math.min(at, bbox.left + bbox.width - width - 2 * dot));
    ctx.setLineDash([]); ctx.lineWidth = 3 * dot; ctx.strokeStyle = colour('--card'); ctx.fillStyle = style;
    ctx.strokeText(text, left, base);
    ctx.fillText(text, left, base);
    return width;
  };
  const dashes = (style, from, to) => {
    ctx.strokeStyle = style; ctx.lineWidth = dot; ctx.setLineDash([4 * dot, 3 * dot]);
    ctx.beginPath(); ctx.moveTo(...from); ctx.lineTo(...to); ctx.stroke();
  };
  // Names that would lie on another go a line lower.
  const ends = [];
  for (const [name, at] of [...data.marks].sort((a, b) => a[1] - b[1])) {
    const style = colour('--mark'), left = x(at) + 3 * dot;
    dashes(style, [x(at), bbox.top], [x(at), bbox.top + bbox.height]);
    let row = ends.findIndex(end => end < left);
    if (row < 0) row = ends.length;
    if (row < 4) ends[row] = left + say(name.slice(0, 24), left, bbox.top + (11 + 13 * row) * dot, style) + 4 * dot;
  }
  if (limited) {
    dashes(colour('--limit'), [bbox.left, y(data.limit)], [bbox.left + bbox.width, y(data.limit)]);
    say(`limit ${size(data.limit)}`, bbox.left + 4 * dot, y(data.limit) - 4 * dot, colour('--limit'));
  }
  if (picked.size || thread >= 0) { ctx.restore(); return; }
  const most = timeline.highest.reduce((a, b) => Math.max(a, b), 0), high = most + beforeAt(peak);
  ctx.fillStyle = colour('--heap');
  ctx.beginPath(); ctx.arc(x(peak), y(high), 4 * dot, 0, 7); ctx.fill();
  ctx.font = `600 ${11 * dot}px system-ui, sans-serif`;
  say(`peak ${size(most)}`, x(peak) + 7 * dot, Math.max(bbox.top - 4 * dot, y(high) - 5 * dot), colour('--heap'));
  ctx.restore();
}

function moment() {
  if (choice.view !== undefined) { const { at } = views[choice.view]; return at === null ? null : [at, at]; }
  return [choice.from === undefined ? endOf(choice.era) : beginOf(choice.from), endOf(choice.era)];
}
function chosen() {
  if (choice.view !== undefined) {
    const view = views[choice.view];
    return view.words + (view.at === null ? '' : `, ${when(view.at)}`);
  }
  const to = when(endOf(choice.era));
  return choice.from === undefined ? `live at ${to}` : `allocated from ${when(beginOf(choice.from))} to ${to} and live then`;
}

const nsAt = x => Math.max(START, Math.min(LENGTH, plot.posToVal(x, 'x')));
const bytesAt = event => plot.posToVal(event.clientY - plot.over.getBoundingClientRect().top, 'y');
const placeOf = event => event.clientX - plot.over.getBoundingClientRect().left;
function listen(over) {
  over.onpointerdown = event => { drag = { from: placeOf(event), to: placeOf(event) }; over.setPointerCapture(event.pointerId); };
  over.onpointermove = event => {
    const x = placeOf(event), ns = nsAt(x), said = [`${size(heldAt(eraOf(ns)))} held`];
    const left = beforeAt(endOf(eraOf(ns)));
    if (left) said.push(`${size(left)} from before attach`);
    for (const { name, points } of curves.slice(1)) {
      const before = points().filter(([at]) => at <= ns).pop();
      if (before) said.push(`${name} ${size(before[1])}`);
    }
    const there = bandAt(ns, bytesAt(event));
    if (there) said.push(there.band.name === REST ? `the rest ${size(there.held)}` : `${shortOf(there.band.name)} ${size(there.held)}`);
    $('moment-under').textContent = `${when(ns)}: ${said.join(', ')}`;
    if (drag) { drag.to = x; drawTimeline(); }
  };
  over.onpointerleave = () => { $('moment-under').textContent = $('moment-under').dataset.hint; };
  over.onpointercancel = () => { drag = null; drawTimeline(); };
  over.onpointerup = event => {
    if (!drag) return;
    const { from } = drag, to = placeOf(event);
    drag = null;
    if (Math.abs(to - from) > 4) {
      const [first, last] = [from, to].sort((a, b) => a - b).map(x => eraOf(nsAt(x)));
      choice = { from: first, era: last };
    } else {
      choice = Math.abs(to - plot.valToPos(peak, 'x')) <= 6 ? { view: 0 } : { era: eraOf(nsAt(to)) };
      const there = bandAt(nsAt(to), bytesAt(event));
      if (there && there.band.name !== REST) { chosenName = there.band.name; open('details'); }
    }
    show();
  };
}
line.onkeydown = event => {
  const now = choice.era ?? eraOf((moment() ?? [peak])[0]);
  const next = { ArrowLeft: now - 1, ArrowRight: now + 1, PageDown: now - 10, PageUp: now + 10, Home: 0, End: ERAS - 1 }[event.key];
  if (event.key === 'p' || event.key === 'Enter') choice = { view: 0 };
  else if (next !== undefined) {
    const era = Math.max(0, Math.min(ERAS - 1, next));
    choice = event.shiftKey ? { from: Math.min(choice.from ?? now, era), era } : { era };
  } else return;
  event.preventDefault();
  show();
};
