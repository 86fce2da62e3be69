// What is on the page, and what its buttons do.
let stale = true, tabled = 0;
function show(changed = true) {
  if (changed) { values(); fill(); rank(); stale = true; }
  mix(); search(); share(); draw(); drawTimeline();
  // What stands beside the picture comes once it is there.
  clearTimeout(tabled);
  tabled = setTimeout(() => { if (stale) count(); stale = false; list(); drawPanel(); });
  remember();
  const total = $('total'), sum = tree.bytes[0], words = chosen();
  total.dataset.bytes = sum;
  total.textContent = amount(sum);
  $('words').textContent = words;
  $('books').textContent = data.difference
    ? `${signed(tree.after[0] - tree.before[0])}: ${size(tree.before[0])} before, ${size(tree.after[0])} after`
    : `${group(tree.blocks[0])} blocks` + (thread >= 0 && data.merged ? '; (other) is not told apart by thread' : '');
  const range = timeline && moment();
  if (range) line.setAttribute('aria-valuenow', Math.round(range[1] / 1e6));
  [line.dataset.from, line.dataset.to] = range || ['', ''];
  line.setAttribute('aria-valuetext', `${amount(sum)} ${words}`);
  buttons.forEach((button, view) => button?.setAttribute('aria-pressed', choice.view === view));
  $('inverted').setAttribute('aria-pressed', inverted);
  $('shape').setAttribute('aria-pressed', flame);
  $('own').setAttribute('aria-pressed', own);
  $('all').setAttribute('aria-pressed', !own);
  $('by-line').setAttribute('aria-pressed', byLine);
  $('by-process').setAttribute('aria-pressed', byProcess);
  $('clock').setAttribute('aria-pressed', onClock);
  $('hidden-words').textContent = hiddenWords();
  $('process').value = picked.size === 1 ? [...picked][0] : picked.size ? -2 : -1;
  $('thread').value = thread;
  $('language').value = language;
  for (const button of $('kinds').children) button.setAttribute('aria-pressed', kinds[button.value]);
}
const names = { peak: 'Peak', end: 'End', growing: 'Growing', allocated: 'All allocated', asked: 'Asked for', temporary: 'Temporary', after: 'After', before: 'Before', change: 'Change' };
const buttons = views.map((view, number) => {
  if (view.name === 'temporary' && !view.bytes.some(Boolean)) return null;
  if (view.name === 'growing' && !holders.growth.some(Boolean) && !holders.thread_growth.some(Boolean)) return null;
  const button = make('button', names[view.name], $('views'));
  button.type = 'button'; button.title = view.words; button.dataset.view = view.name;
  button.onclick = () => { choice = { view: number }; show(); };
  return button;
});
function offer(select, all, labels, set) {
  select.hidden = labels.length < 2;
  [all, ...labels].forEach((text, number) => { make('option', text, select).value = number - 1; });
  select.onchange = () => { set(Number(select.value)); show(); };
}
offer($('process'), `All ${data.processes.length} processes`, data.processes.map(({ name }) => name), value => { picked.clear(); if (value >= 0) picked.add(value); });
// Chosen beside the graph.
const some = make('option', 'Some processes', $('process'));
some.value = -2; some.hidden = true;
offer($('thread'), 'All threads', data.threads, value => { thread = value; });
// Another choice of frames, or of what a box is: other boxes.
function reframe(set) { set(); forgetStacks(); focus = 0; show(); toRoot(); }
$('own').onclick = () => reframe(() => { own = true; });
$('all').onclick = () => reframe(() => { own = false; });
$('by-line').onclick = () => reframe(() => { byLine = !byLine; });
$('by-process').hidden = !SEVERAL;
$('by-process').onclick = () => reframe(() => { byProcess = !byProcess; });
// Of a program without Python there is nothing to choose.
$('language').hidden = !isMixed;
for (const [view, text] of [['telling', 'Python and native'], ['python', 'Python frames'], ['native', 'Native frames']])
  make('option', text, $('language')).value = view;
$('language').onchange = event => reframe(() => { language = event.target.value; });
$('clock').onclick = () => { onClock = !onClock; show(false); };
const present = data.kinds.map((_, kind) => holders.kind.includes(kind));
if (present.filter(Boolean).length > 1) data.kinds.forEach((kind, number) => {
  if (!present[number]) return;
  const button = make('button', kind.replace('_', ' '), $('kinds'));
  button.type = 'button'; button.dataset.kind = kind; button.value = number;
  button.onclick = () => { kinds[number] = !kinds[number]; show(); };
});
$('search').oninput = event => { needle = event.target.value.trim(); show(false); };
$('shape').onclick = () => { flame = !flame; show(false); toRoot(); };
$('inverted').onclick = () => { inverted = !inverted; focus = 0; show(); toRoot(); };
$('reset').onclick = () => zoomTo(0);
document.addEventListener('keydown', event => {
  if (event.key === '/' && event.target !== $('search')) { event.preventDefault(); $('search').focus(); }
  if (event.key === 'Escape') {
    hide();
    if (needle) { $('search').value = needle = ''; show(false); } else if (tree.zoom) zoomTo(0); else if (chosenName !== null) choose(null);
    if (event.target === $('search')) graph.focus();
  }
});
const repaint = () => show(false);
function theme(name) { document.documentElement.dataset.theme = name; }
const dark = matchMedia('(prefers-color-scheme: dark)');
theme(dark.matches ? 'dark' : 'light');
dark.addEventListener('change', () => { theme(dark.matches ? 'dark' : 'light'); repaint(); });
$('theme').onclick = () => { theme(document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark'); repaint(); };
window.addEventListener('resize', () => { if (graph.clientWidth !== chart.width()) draw(); });

$('title').textContent = data.title;
document.title = `${data.title} · highwater`;
$('command').textContent = $('command').title = data.command;
const SHOWN_WARNINGS = 3;
if (data.trust.length) {
  const banner = $('banner');
  banner.hidden = false;
  const warnings = data.trust.filter(([warning]) => warning), notes = data.trust.filter(([warning]) => !warning);
  banner.classList.toggle('quiet', !warnings.length);
  for (const [, text] of warnings.slice(0, SHOWN_WARNINGS)) make('p', text, banner).className = 'warning';
  if (warnings.length > SHOWN_WARNINGS) {
    const rest = make('details', undefined, banner);
    make('summary', `${warnings.length - SHOWN_WARNINGS} more warnings`, rest);
    for (const [, text] of warnings.slice(SHOWN_WARNINGS)) make('p', text, rest).className = 'warning';
  }
  if (notes.length) {
    const more = make('details', undefined, banner);
    make('summary', `${warnings.length ? '' : 'Nothing was lost. '}Worth knowing: ${notes.length} ${notes.length === 1 ? 'note' : 'notes'}`, more);
    for (const [, text] of notes) make('p', text, more);
  }
}
const foot = [];
if (data.difference) $('empty').textContent = 'Nothing changed.';
if (timeline) foot.push(`Recorded ${data.started ?? ''} over ${offset(data.duration).slice(1)}. Moments on the timeline are ${(ERA / 1e6).toFixed(0)} ms apart; peak and end are exact.`);
if (data.growth > 0) {
  const left = data.seconds_to_limit !== null ? `: ${group(data.seconds_to_limit)} s from the end to the limit.` : '.';
  foot.push(`All that grows does so by ${size(data.growth)}/s together${left}`);
}
if (data.merged) foot.push(`(other) stands for the ${group(data.merged)} smallest holders.`);
$('footer').prepend(foot.join(' '));
recall();
values(); fill(); rank(); mix();
if (timeline) { stackBands(); startTimeline(); } else $('timeline-card').hidden = true;
$('key').hidden = !data.difference;
show();
// When the first picture is there: browsers' own tools show it, and so do our tests.
requestAnimationFrame(() => setTimeout(() => performance.mark('drawn')));
