// The log: rows of what was sent, received and changed, bounded in number and in
// size, so that a flood costs the page a constant amount.

import { dump } from './hex.js';
import { parse } from './json.js';

const maxRows = 500;
const maxShownChars = 4096;
const maxShownBytes = 256;

const list = document.getElementById('log');
const empty = document.getElementById('log-empty');
const newest = document.getElementById('log-newest');
const totals = {
  sent: { messages: 0, bytes: 0, node: document.getElementById('log-sent') },
  received: { messages: 0, bytes: 0, node: document.getElementById('log-received') },
};

let waiting = []; // rows since the last frame, oldest first
let painting = false;
let following = true;

// size writes a number of bytes as people read it.
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KiB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

// text writes down a text message. shown replaces what the row shows (secrets
// are not for a log that ends up in screenshots); bytes is the real size.
export function text(direction, message, shown = message) {
  const bytes = utf8Length(message);
  count(direction, bytes);
  add({ direction, kind: 'text', bytes, text: shown });
}

// binary writes down a binary message, a Uint8Array.
export function binary(direction, message) {
  count(direction, message.length);
  const note = message.length > maxShownBytes ? `\n… ${size(message.length - maxShownBytes)} more` : '';
  add({ direction, kind: 'binary', bytes: message.length, text: dump(message.subarray(0, maxShownBytes)) + note });
}

// local writes down what happened here: kind is state, open, close or error.
export function local(kind, message) {
  add({ direction: 'local', kind, text: message });
}

// clear empties the log and its totals.
export function clear() {
  waiting = [];
  list.replaceChildren();
  for (const total of Object.values(totals)) total.messages = total.bytes = 0;
  showTotals();
  empty.hidden = false;
  follow(true);
}

function count(direction, bytes) {
  totals[direction].messages++;
  totals[direction].bytes += bytes;
}

function utf8Length(message) {
  return new TextEncoder().encode(message).length;
}

// add queues a row. Rows are painted once per frame, and what would have been
// trimmed in the same frame is never built.
function add(row) {
  row.time = new Date();
  waiting.push(row);
  if (waiting.length > 2 * maxRows) waiting = waiting.slice(-maxRows);
  if (painting) return;
  painting = true;
  requestAnimationFrame(paint);
}

function paint() {
  painting = false;
  const rows = waiting.slice(-maxRows);
  waiting = [];
  if (rows.length === 0) return;
  empty.hidden = true;
  list.append(...rows.map(build));
  while (list.childElementCount > maxRows) list.firstElementChild.remove();
  showTotals();
  if (following) list.scrollTop = list.scrollHeight;
}

function showTotals() {
  for (const [direction, total] of Object.entries(totals)) {
    total.node.textContent = total.messages ? `${total.messages} ${direction}, ${size(total.bytes)}` : `0 ${direction}`;
  }
}

const arrows = { sent: '↑', received: '↓', local: '•' };

function build(row) {
  const item = node('li', 'row');
  item.dataset.testid = 'log-row';
  item.dataset.direction = row.direction;
  item.dataset.kind = row.kind;
  const arrow = node('span', 'arrow', arrows[row.direction]);
  arrow.setAttribute('aria-label', row.direction);
  const meta = node('span', 'meta', row.bytes === undefined ? row.kind : `${row.kind}, ${size(row.bytes)}`);
  const body = node('div', 'body');
  body.dataset.testid = 'log-body';
  item.append(node('time', '', clock(row.time)), arrow, body, meta);
  if (row.kind === 'text') fillText(item, body, row.text);
  else body.append(node('pre', '', row.text));
  return item;
}

// fillText shows JSON indented and coloured, and everything else as it is. An
// object of the plain protocol gets its type, channel and offset as labels.
function fillText(item, body, message) {
  let value;
  if (message.length <= maxShownChars) {
    try { value = parse(message); } catch { /* not JSON: shown as it is */ }
  }
  if (value === null || typeof value !== 'object') {
    const rest = message.length - maxShownChars;
    body.append(node('pre', '', rest > 0 ? `${message.slice(0, maxShownChars)}\n… ${rest} more characters` : message));
    return;
  }
  const labels = node('div', 'labels');
  value = label(item, labels, value);
  if (labels.childElementCount) body.append(labels);
  if (value === undefined) return;
  const pre = node('pre');
  colour(pre, JSON.stringify(value, null, 2));
  body.append(pre);
}

// label moves what names a protocol object into labels and returns the rest, or
// undefined when nothing is left to show.
function label(item, labels, value) {
  if (value.type === 'message' && typeof value.channel === 'string' && 'data' in value) {
    item.dataset.channel = value.channel;
    labels.append(node('span', 'tag channel', value.channel));
    if ('offset' in value) {
      item.dataset.offset = JSON.stringify(value.offset);
      labels.append(node('span', 'tag', `offset ${item.dataset.offset}`));
    }
    const { type, channel, offset, data, ...rest } = value;
    return Object.keys(rest).length ? { data, ...rest } : data;
  }
  if (value.type === 'error') {
    item.dataset.fault = '';
    labels.append(node('span', 'tag bad', value.code === undefined ? 'error' : `error ${JSON.stringify(value.code).replaceAll('"', '')}`));
    if (typeof value.message === 'string') labels.append(node('span', '', value.message));
    const { type, code, message, ...rest } = value;
    return Object.keys(rest).length ? rest : undefined;
  }
  if (typeof value.type === 'string') labels.append(node('span', 'tag', value.type));
  return value;
}

// A string (and the colon that makes it a key), a word or a number.
const token = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

function colour(pre, json) {
  let at = 0;
  for (const match of json.matchAll(token)) {
    pre.append(json.slice(at, match.index));
    const [whole, string, colon, word] = match;
    if (colon) pre.append(node('span', 'key', string), colon);
    else pre.append(node('span', string ? 'string' : word ? 'word' : 'number', whole));
    at = match.index + whole.length;
  }
  pre.append(json.slice(at));
}

// clock writes a time of day to the millisecond.
export function clock(time) {
  const two = (n) => String(n).padStart(2, '0');
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${String(time.getMilliseconds()).padStart(3, '0')}`;
}

// node makes an element.
export function node(tag, className = '', content = '') {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (content !== '') element.textContent = content;
  return element;
}

function follow(yes) {
  following = yes;
  newest.hidden = yes;
}

// Scrolling up stops the following; reaching the end, by hand or by the button,
// starts it again.
list.addEventListener('scroll', () => {
  follow(list.scrollHeight - list.scrollTop - list.clientHeight < 24);
});
newest.addEventListener('click', () => {
  list.scrollTop = list.scrollHeight;
  follow(true);
  list.focus({ preventScroll: true });
});
document.getElementById('log-clear').addEventListener('click', clear);
