// The ten that hold most have a colour each: on the timeline, in the graph and in the table it is the same.
const TEN = 10;
// By the name of who holds: which of the ten it is.
let ranks = new Map(), ranked = '';
function rank() {
  const key = `${framesKey()} ${kinds}`;
  if (ranked === key) return;
  ranked = key;
  // The most that all stacks of a name held together, as far as is known: at the peak, at the end, and at the end of each era.
  const most = new Map();
  const reaches = (name, bytes) => { if (bytes > (most.get(name) ?? 0)) most.set(name, bytes); };
  for (const view of data.difference ? [AFTER, BEFORE] : [0, 1]) {
    const sums = new Map();
    for (let h = 0; h < COUNT; h++) {
      if (!kinds[holders.kind[h]] || !views[view].bytes[h]) continue;
      const name = tellerName(holders.node[h]);
      sums.set(name, (sums.get(name) ?? 0) + views[view].bytes[h]);
    }
    for (const [name, sum] of sums) reaches(name, sum);
  }
  if (timeline) for (const [name, level] of levelsByName()) for (const bytes of level) reaches(name, bytes);
  const other = strings.indexOf('(other)');
  const first = [...most].filter(([name]) => name !== other).sort((a, b) => b[1] - a[1]).slice(0, TEN);
  ranks = new Map(first.map(([name], i) => [name, i]));
}
// What each name held at the end of each era, of what is shown; the peak's own era as the peak was.
function levelsByName(all = true) {
  const levels = new Map(), peaks = new Map();
  for (let h = 0; h < COUNT; h++) {
    if (all ? !kinds[holders.kind[h]] : !isShown(h)) continue;
    const lives = holders.lives[h], atPeak = views[0].bytes[h];
    if (!lives.length && !atPeak) continue;
    const name = tellerName(holders.node[h]);
    if (!levels.has(name)) levels.set(name, new Float64Array(ERAS));
    const level = levels.get(name);
    // What came and went; summed up below.
    for (let i = 0; i < lives.length; i += 4) {
      level[lives[i]] += lives[i + 2];
      if (lives[i + 1] >= 0 && lives[i + 1] < ERAS) level[lives[i + 1]] -= lives[i + 2];
    }
    peaks.set(name, (peaks.get(name) ?? 0) + atPeak);
  }
  const peakEra = views[0].at === null ? -1 : eraOf(views[0].at);
  for (const [name, level] of levels) {
    for (let era = 1; era < ERAS; era++) level[era] += level[era - 1];
    if (peakEra >= 0) level[peakEra] = peaks.get(name);
  }
  return levels;
}
let palette;
function mix() {
  const [light, sat, special, match, even, strong, vivid] = ['--light', '--sat', '--special', '--found', '--even', '--band-light', '--band-sat'].map(name => colour(name));
  palette = { light: parseFloat(light), sat: parseFloat(sat), special, match, even: parseFloat(even) };
  const hues = [211, 30, 152, 348, 268, 50, 184, 318, 92, 12];
  palette.ten = hues.map((hue, i) => `hsl(${hue} ${vivid} ${parseFloat(strong) + (i % 2 ? 3 : 0)}%)`);
  palette.rest = `hsl(215 12% ${parseFloat(even)}%)`;
  palette.beneath = colour('--before');
}
const colourOf = name => ranks.has(name) ? palette.ten[ranks.get(name)] : null;
