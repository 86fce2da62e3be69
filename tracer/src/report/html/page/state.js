// What is shown, in the address: a link to it shows the same. Only what is not as the page opens is told.
const KEPT = {
  view: [() => choice.view !== undefined && choice.view !== data.first ? views[choice.view].name : null,
    text => { const view = views.findIndex(({ name }) => name === text); if (view >= 0) choice = { view }; }],
  at: [() => choice.view === undefined ? [choice.from, choice.era].filter(era => era !== undefined).join('-') : null,
    text => {
      const [first, last] = text.split('-').map(Number), isEra = era => Number.isInteger(era) && era >= 0 && era < ERAS;
      if (!timeline || !isEra(first)) return;
      choice = last === undefined ? { era: first } : isEra(last) && first <= last ? { from: first, era: last } : choice;
    }],
  frames: [() => own === data.own ? null : own ? 'own' : 'all', text => { own = text === 'own'; }],
  language: [() => language === data.looks_at ? null : language, text => { if (Object.hasOwn(isLookedAt, text)) language = text; }],
  text: [() => byLine ? 'line' : null, text => { byLine = text === 'line'; }],
  begins: [() => inverted === data.inverted ? null : inverted ? 'holder' : 'root', text => { inverted = text === 'holder'; }],
  flame: [() => flame ? '1' : null, text => { flame = text === '1'; }],
  by: [() => byProcess ? 'process' : null, text => { byProcess = SEVERAL && text === 'process'; }],
  process: [() => picked.size ? [...picked].sort((a, b) => a - b).join('-') : null,
    text => { for (const number of text.split('-').map(Number)) if (Object.hasOwn(data.processes, number)) picked.add(number); }],
  thread: [() => thread >= 0 ? String(thread) : null, text => { if (Object.hasOwn(data.threads, text)) thread = Number(text); }],
  kinds: [() => String(kinds) === String(data.chosen) ? null : data.kinds.filter((_, kind) => kinds[kind]).join('-'),
    text => { const wanted = text.split('-'); data.kinds.forEach((kind, number) => { kinds[number] = wanted.includes(kind); }); }],
  holder: [() => chosenName === null ? null : strings[chosenName], text => { chosenName = numberOf(text); }],
  tab: [() => tab === (chosenName === null ? 'functions' : 'details') ? null : tab, text => { if (TABS.includes(text) && !$(`tab-${text}`).hidden) tab = text; }],
  order: [() => order.column === columns[1][0] && !order.up ? null : order.column + (order.up ? '-up' : ''),
    text => { const [column, up] = text.split('-'); if (columns.some(([name]) => name === column)) order = { column, up: up === 'up' }; }],
  clock: [() => onClock ? '1' : null, text => { onClock = text === '1'; }],
  search: [() => needle || null, text => { needle = text; }],
};
let told = null;
function remember() {
  const parts = new URLSearchParams();
  for (const [key, [get]] of Object.entries(KEPT)) { const text = get(); if (text !== null) parts.set(key, text); }
  told = parts.toString();
  // A browser may not allow it where a page is shown within another; the page works without.
  try { history.replaceState(null, '', told ? `#${told}` : location.href.split('#')[0]); } catch { /* no link then */ }
}
// What was opened, and what a link says of it.
function recall() {
  choice = { view: data.first };
  data.chosen.forEach((is, kind) => { kinds[kind] = is; });
  [own, language, byLine, byProcess, inverted, flame, thread, onClock, needle] = [data.own, data.looks_at, false, false, data.inverted, false, -1, false, ''];
  picked.clear();
  chosenName = null;
  tab = 'functions';
  order = { column: columns[1][0], up: false };
  const parts = new URLSearchParams(location.hash.slice(1));
  for (const [key, [, set]] of Object.entries(KEPT)) {
    const text = parts.get(key);
    if (text === null) continue;
    set(text);
    if (key === 'holder' && chosenName !== null) { $('tab-details').hidden = false; tab = 'details'; }
  }
  forgetStacks();
  $('search').value = needle;
  open(tab);
}
window.addEventListener('hashchange', () => { if (location.hash.slice(1) !== told) { recall(); focus = 0; show(); } });
