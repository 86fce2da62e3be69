// What the holders held over time, one on the other, over what was held before attach.
let bands = [], banded = '';
const REST = -1;
// How much was left of what was held before attach; known of all processes together.
function beforeAt(ns) {
  if (picked.size) return 0;
  let left = 0;
  for (const [at, bytes] of data.before) { if (at > ns && left) break; left = bytes; if (at > ns) break; }
  return left;
}
function stackBands() {
  const key = `${framesKey()} ${kinds} ${[...picked]} ${thread}`;
  if (banded === key) return false;
  banded = key;
  const rest = { name: REST, level: new Float64Array(ERAS), holders: 0 };
  bands = [...ranks.keys()].map(name => ({ name, level: new Float64Array(ERAS) }));
  for (const [name, level] of levelsByName(false)) {
    const band = bands[ranks.get(name)] ?? rest;
    if (band === rest) { rest.holders++; level.forEach((bytes, era) => { rest.level[era] += bytes; }); } else band.level = level;
  }
  bands.push(rest);
  return true;
}
const shadeOf = band => band.name === REST ? palette.rest : colourOf(band.name);
const heldAt = era => bands.reduce((sum, band) => sum + band.level[era], 0);

// Each as a shape with steps, from where the one below it ends.
function drawBands({ ctx, bbox, valToPos }) {
  const x = ns => valToPos(ns, 'x', true), y = bytes => valToPos(bytes, 'y', true);
  const left = Array.from({ length: ERAS }, (_, era) => x(beginOf(era))), right = Array.from({ length: ERAS }, (_, era) => x(endOf(era)));
  const base = Float64Array.from({ length: ERAS }, (_, era) => beforeAt(endOf(era)));
  const shape = (from, to, shade) => {
    ctx.beginPath();
    for (let era = 0; era < ERAS; era++) { ctx.lineTo(left[era], y(to[era])); ctx.lineTo(right[era], y(to[era])); }
    for (let era = ERAS - 1; era >= 0; era--) { ctx.lineTo(right[era], y(from[era])); ctx.lineTo(left[era], y(from[era])); }
    ctx.closePath();
    ctx.fillStyle = shade;
    ctx.fill();
  };
  ctx.save();
  ctx.beginPath(); ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height); ctx.clip();
  if (base.some(Boolean)) shape(new Float64Array(ERAS), base, palette.beneath);
  let under = base;
  for (const band of bands) {
    if (!band.level.some(Boolean)) continue;
    const over = under.map((bytes, era) => bytes + band.level[era]);
    shape(under, over, shadeOf(band));
    if (band.name !== REST && band.name === chosenName) {
      // Of the one that is chosen, the rim too.
      ctx.strokeStyle = colour('--ink'); ctx.lineWidth = 1.5 * uPlot.pxRatio;
      ctx.stroke();
    }
    under = over;
  }
  ctx.restore();
}
// Whose band lies there.
function bandAt(ns, bytes) {
  const era = eraOf(ns);
  let under = beforeAt(endOf(era));
  if (bytes < under) return null;
  for (const band of bands) {
    under += band.level[era];
    if (bytes < under) return { band, held: band.level[era] };
  }
  return null;
}

// ---- the key to them: each a button that chooses, with what it has of what is shown
function drawKey() {
  const key = $('bands');
  key.replaceChildren();
  key.hidden = data.difference || !ranks.size;
  if (key.hidden) return;
  const sums = new Map();
  let rest = 0, others = new Set();
  for (let h = 0; h < COUNT; h++) {
    if (!bytes[h]) continue;
    const name = tellerName(holders.node[h]);
    if (ranks.has(name)) sums.set(name, (sums.get(name) ?? 0) + bytes[h]);
    else { rest += bytes[h]; others.add(name); }
  }
  for (const name of [...ranks.keys()].sort((a, b) => (sums.get(b) ?? 0) - (sums.get(a) ?? 0))) {
    const has = sums.get(name) ?? 0;
    // Who has nothing now is told where it has a band that can be seen.
    if (!has && name !== chosenName && !(bands[ranks.get(name)]?.level.some(bytes => bytes > top / 50))) continue;
    const button = make('button', undefined, key);
    button.type = 'button'; button.dataset.bytes = has;
    button.title = `${strings[name]}: ${amount(has)}, ${percent(has, tree.bytes[0])}`;
    button.setAttribute('aria-pressed', name === chosenName);
    make('i', undefined, button).style.background = colourOf(name);
    cut(shortOf(name), button);
    make('b', has ? amount(has) : '–', button);
    button.onclick = () => choose(name === chosenName ? null : name);
  }
  if (rest) {
    const entry = make('span', undefined, key);
    entry.dataset.bytes = rest;
    make('i', undefined, entry).style.background = palette.rest;
    make('span', `the rest, ${group(others.size)} more`, entry);
    make('b', amount(rest), entry);
  }
}
const shorts = new Map(frames.name.map((name, f) => [name, strings[frames.short[f]]]));
const shortOf = name => shorts.get(name) ?? strings[name];
