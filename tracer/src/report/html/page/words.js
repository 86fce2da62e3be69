// What the page is told, and how amounts and moments read.
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const { trie, holders, views, timeline } = data;
const { strings, frames } = trie;

const group = n => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ',');
function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  if (bytes < 1024) return group(bytes) + ' B';
  let unit = 1, scale = 1024;
  while (Math.round(bytes / scale * 10) >= 10240 && unit < 6) { unit++; scale *= 1024; }
  const tenths = Math.round(bytes / scale * 10);
  return group(Math.floor(tenths / 10)) + '.' + tenths % 10 + ' ' + units[unit];
}
const isRate = () => choice.view !== undefined && views[choice.view].rate;
const amount = bytes => size(bytes) + (isRate() ? '/s' : '');
const signed = bytes => (bytes < 0 ? '−' : '+') + amount(Math.abs(bytes));
const percent = (part, whole) => (whole ? part / whole * 100 : 0).toFixed(1) + ' %';
const offset = ns => '+' + (ns < 1e9 ? (Math.floor(ns / 1e6) / 1000).toFixed(3) : (ns / 1e9).toFixed(1)) + 's';
// A moment: since the start, or on the clock, as is chosen.
let onClock = false;
const clockOf = ns => new Date(data.started_unix_ms + ns / 1e6).toISOString();
const when = ns => onClock ? clockOf(ns).slice(11, ns < 1e9 || data.duration < 60e9 ? 23 : 19) + ' UTC' : offset(ns);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// A name in two parts, of which the last is cut last where there is no room: of a path the function stays.
function cut(text, parent) {
  const at = Math.max(...['::', '.', '/'].map(sign => text.lastIndexOf(sign) + sign.length * (text.lastIndexOf(sign) > 0)));
  const name = make('span', undefined, parent);
  name.className = 'cut';
  if (at > 1 && at < text.length && text.length > 16) { make('span', text.slice(0, at), name); make('span', text.slice(at), name); }
  else make('span', text, name);
}
function make(tag, text, parent) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}
