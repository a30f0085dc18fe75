// The inspector: the frames of this page's own connection, as the server sees them on the wire. What proves that the
// connection is this page's is a token of 128 random bits in the query of its opening request.

import { meaning } from './close.js';
import { draw, fromBase64 } from './frame.js';
import { clock, node } from './log.js';

const maxRows = 300;
const maxKept = 4096; // bytes of a payload

const byId = (id) => document.getElementById(id);
const list = byId('frames');
const panel = byId('frame');
const note = byId('frames-note');

let connected = () => false;
let token = '';
let stream = null; // settles when the server looks on; null while there is none
let selected = null; // the row that is drawn
const items = new WeakMap(); // row → line

// attach tells whether there is a connection now.
export function attach(isConnected) {
  connected = isConnected;
}

const on = () => byId('view-frames').checked;

// prepare returns the address to open: with the token, if the frames are wanted and the address is this server's.
export async function prepare(address) {
  if (!on()) return address;
  let target;
  try { target = new URL(address); } catch { return address; }
  if (target.host !== location.host) {
    say('These are the frames of connections to this server; the address is another’s.');
    return address;
  }
  if (!await (stream ??= begin())) return address;
  say('');
  target.searchParams.set('inspect', token);
  return target.href;
}

// begin asks the server to look on, and reports whether it does.
async function begin() {
  const random = crypto.getRandomValues(new Uint8Array(18));
  token = btoa(String.fromCharCode(...random)).replaceAll('+', '-').replaceAll('/', '_');
  try {
    const response = await fetch(`playground/tap?inspect=${token}`, { cache: 'no-store' });
    if (!response.ok) {
      const answer = await response.json();
      throw new Error(answer.error?.message ?? response.statusText);
    }
    follow(response.body);
    return true;
  } catch (error) {
    stream = null;
    say(`The server does not show frames: ${error.message}`);
    return false;
  }
}

async function follow(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (rest + part.value).split('\n');
      rest = lines.pop();
      for (const line of lines) see(JSON.parse(line));
    }
  } catch { /* the server is gone; the next connection asks again */ }
  stream = null;
  if (on() && connected()) say('The server has stopped showing frames. The next connection asks it again.');
}

function say(words) {
  note.textContent = words;
  note.hidden = !words;
}

// see takes a line of the capture.
function see(line) {
  if (!['open', 'frame', 'gap', 'fault', 'end'].includes(line.type)) return;
  if (line.type === 'frame') {
    line.bytes = fromBase64(line.wire).slice(0, maxKept);
    line.wire = '';
  }
  const following = selected === null || selected === list.lastElementChild?.firstElementChild;
  const row = build(line);
  items.set(row, line);
  const item = node('li');
  item.append(row);
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 24;
  list.append(item);
  while (list.childElementCount > maxRows) list.firstElementChild.remove();
  if (following && line.type !== 'end') select(row);
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function build(line) {
  const row = node('button', 'frame-row');
  row.type = 'button';
  row.dataset.testid = 'frame-row';
  row.dataset.kind = line.type;
  if (line.from) row.dataset.from = line.from;
  row.setAttribute('aria-pressed', 'false');
  const arrow = node('span', 'arrow', line.from ? (line.from === 'client' ? '↑' : '↓') : '•');
  arrow.setAttribute('aria-label', line.from ?? 'connection');
  row.append(node('time', '', clock(new Date(line.time))), arrow, node('span', 'frame-name', name(line)), node('span', 'frame-text', preview(line)));
  row.addEventListener('click', () => select(row));
  return row;
}

function name(line) {
  if (line.type !== 'frame') return { open: 'opening', gap: 'left out', fault: 'fault', end: 'end' }[line.type];
  return line.name;
}

// preview is what a row says beside its name.
function preview(line) {
  switch (line.type) {
    case 'open': return `101 Switching Protocols ${line.extensions ?? ''}`;
    case 'gap': return `${line.frames} frames, ${line.bytes} bytes`;
    case 'fault': return `${line.kind}: ${line.reason}`;
    case 'end': return `${line.kind.replaceAll('_', ' ')} ${line.code || ''}`;
  }
  const bits = [line.fin ? 'FIN' : '', line.rsv & 4 ? 'RSV1' : '', line.masked ? 'MASK' : ''].filter(Boolean).join(' ');
  const text = line.opcode === 8 ? `${line.code} ${meaning(line.code)}` : line.message?.text ?? line.text ?? '';
  return `${bits} ${line.length} B  ${text.slice(0, 120)}`;
}

function select(row) {
  if (selected) selected.setAttribute('aria-pressed', 'false');
  selected = row;
  row.setAttribute('aria-pressed', 'true');
  panel.hidden = false;
  panel.replaceChildren(picture(items.get(row)));
  panel.scrollTop = 0;
}

function picture(line) {
  if (line.type === 'frame') return draw(line);
  if (line.type === 'open') return handshake(line);
  const words = node('p', line.type === 'fault' ? 'error' : '', preview(line));
  return words;
}

// handshake shows the opening, and where the accept value comes from.
function handshake(line) {
  const box = document.createDocumentFragment();
  const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const head = node('h3', '', 'Opening handshake ');
  head.append(node('span', 'faint', 'HTTP, and then no more'));
  const steps = node('ol', 'steps');
  for (const [what, value] of [
    ['The page’s browser makes up a key', line.key],
    ['the server appends what RFC 6455 §1.3 has for all of them', `${line.key}${guid}`],
    ['takes its SHA-1, in base64, and answers with that', line.accept],
  ]) {
    const step = node('li');
    step.append(node('span', '', what), node('code', '', value));
    steps.append(step);
  }
  const why = node('p', 'hint', 'So the browser knows that the answer is a WebSocket server’s, and for this very request: not a cached page, nor a server that repeats what it is told.');
  box.append(head, node('h4', '', 'Request'), text(line.request), node('h4', '', 'Response'), text(line.response), node('h4', '', 'Sec-WebSocket-Accept'), steps, why);
  return box;
}

function text(content) {
  const pre = node('pre', 'dump wrap', content.trimEnd());
  pre.tabIndex = 0;
  return pre;
}

// Up and down move among the rows.
list.addEventListener('keydown', (event) => {
  const item = event.target.closest('li');
  const next = { ArrowDown: item?.nextElementSibling, ArrowUp: item?.previousElementSibling, Home: list.firstElementChild, End: list.lastElementChild }[event.key];
  if (!next) return;
  event.preventDefault();
  next.firstElementChild.focus();
  select(next.firstElementChild);
});

function show() {
  byId('frames-panel').hidden = !on();
  byId('log-panel').hidden = on();
  if (!on()) return;
  if (list.childElementCount > 0) say('');
  else if (connected()) say('This connection is older than the inspector: close it, and open it again to see its frames.');
  else say('Press Open: each frame of the connection appears here, as it is on the wire.');
}

for (const radio of document.getElementsByName('view')) {
  radio.addEventListener('change', show);
}
byId('log-clear').addEventListener('click', () => {
  list.replaceChildren();
  panel.hidden = true;
  selected = null;
});
if (location.hash === '#frames') byId('view-frames').checked = true;
show();
