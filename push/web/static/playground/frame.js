// One frame, drawn: its header bit by bit, as in RFC 6455 §5.2, the masking undone, and what it says.

import { meaning } from './close.js';
import { dump } from './hex.js';
import { node, size } from './log.js';

const maxDumped = 1024;
const maxUnmasked = 32;

const opcodes = {
  0: 'Continuation: the next fragment of the message that a text or binary frame without FIN began.',
  1: 'Text: the payload is UTF-8. A receiver must fail the connection, with 1007, if it is not.',
  2: 'Binary: the payload is bytes, and only the application knows what they mean.',
  8: 'Close: begins or answers the closing handshake. The payload is empty, or a code of two bytes and a reason in UTF-8.',
  9: 'Ping: asks for a sign of life. The other side answers with a pong that has the same payload.',
  10: 'Pong: the answer to a ping, or a sign of life that nobody asked for.',
};

// explain says what a field of the header means, in this frame.
function explain(field, f) {
  switch (field) {
    case 'fin': return f.fin
      ? 'FIN is 1: this is the last frame of its message, and here most often the only one.'
      : 'FIN is 0: the message goes on in the next frame with opcode 0. Control frames may come in between.';
    case 'rsv1': return f.rsv & 4
      ? 'RSV1 is 1: the message is compressed. permessage-deflate (RFC 7692) gave this bit its meaning, in the first frame of each message.'
      : 'RSV1 is 0: the message is not compressed, or this is not its first frame.';
    case 'rsv2': return 'RSV2 is reserved for extensions, and none here uses it: it must be 0, or the connection fails with 1002.';
    case 'rsv3': return 'RSV3 is reserved for extensions, and none here uses it: it must be 0, or the connection fails with 1002.';
    case 'opcode': return `Opcode 0x${f.opcode.toString(16)}. ${opcodes[f.opcode] ?? 'Reserved: the connection fails with 1002.'}`;
    case 'mask-bit': return f.masked
      ? 'MASK is 1: four bytes of masking key follow, and the payload is masked with them. All frames of a client must be.'
      : 'MASK is 0: the payload is as it is. A server must not mask; a frame of a client without a mask fails the connection.';
    case 'length': return lengthWords(f);
    case 'extended': return `Extended payload length, in network byte order: ${f.length}. It must be the shortest of the three forms that holds the length.`;
    case 'key': return `The masking key, ${f.mask}, is chosen anew by the client for each frame, so that nobody who makes it send something can choose what is on the wire, and poison a proxy.`;
    default: return 'The payload, as it is on the wire.';
  }
}

function lengthWords(f) {
  const seven = parseInt(f.header.slice(2, 4), 16) & 0x7f;
  if (seven === 126) return 'Payload length 126 means: the length is in the next 16 bits.';
  if (seven === 127) return 'Payload length 127 means: the length is in the next 64 bits.';
  return `Payload length: ${seven} bytes. Up to 125 it fits here; 126 and 127 say that it follows in 16 or 64 bits.`;
}

// bytesOf turns a header's hex or a payload's base64 into bytes.
export const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (h) => parseInt(h, 16));
export const fromBase64 = (text) => Uint8Array.from(atob(text ?? ''), (c) => c.charCodeAt(0));

// fields lists those of a header: name, label, and where it is, in bits.
function fields(f, bytes) {
  const list = [
    ['fin', 'FIN', 1], ['rsv1', 'RSV1', 1], ['rsv2', 'RSV2', 1], ['rsv3', 'RSV3', 1], ['opcode', 'opcode', 4],
    ['mask-bit', 'MASK', 1], ['length', 'length', 7],
  ];
  const key = f.masked ? 4 : 0;
  const extended = bytes.length - 2 - key;
  if (extended > 0) list.push(['extended', 'extended length', 8 * extended]);
  if (key) list.push(['key', 'masking key', 32]);
  return list;
}

// draw returns the picture of a frame.
export function draw(f) {
  const box = document.createDocumentFragment();
  box.append(title(f));
  const explanation = node('p', 'explain', 'Point at a part of the header, or step through them with Tab, to read what it is for.');
  explanation.id = 'frame-explain';
  explanation.setAttribute('aria-live', 'polite');
  box.append(explanation, header(f, explanation), ...payload(f));
  return box;
}

function title(f) {
  const head = node('h3');
  head.append(node('span', `arrow ${f.from}`, f.from === 'client' ? '↑' : '↓'), ` ${f.name} `,
    node('span', 'faint', `${f.from === 'client' ? 'from this page' : 'from the server'}, ${f.header.length / 2} + ${f.length} bytes`));
  return head;
}

// header draws each byte as eight bits, under the names of the fields that they belong to.
function header(f, explanation) {
  const bytes = fromHex(f.header);
  const bits = [...bytes].map((b) => b.toString(2).padStart(8, '0')).join('');
  const grid = node('div', 'bytes');
  let at = 0;
  const parts = [...bytes].map((b, i) => {
    const block = node('div', 'byte');
    block.append(node('span', 'byte-name', `byte ${i}`), node('span', 'byte-hex', `0x${b.toString(16).padStart(2, '0')}`));
    grid.append(block);
    return block;
  });
  for (const [name, label, width] of fields(f, bytes)) {
    for (let from = at; from < at + width;) {
      const end = Math.min(at + width, (Math.floor(from / 8) + 1) * 8);
      const first = from === at;
      parts[Math.floor(from / 8)].append(field(f, name, label, bits.slice(from, end), first, explanation));
      from = end;
    }
    at += width;
  }
  return grid;
}

// field is a run of bits within a byte. The first of a field takes the focus, the others follow the pointer only.
function field(f, name, label, bits, first, explanation) {
  const part = node('span', `field-bits ${name} w${bits.length}`);
  part.dataset.field = name;
  const digits = node('span', 'bits');
  for (const b of bits) digits.append(node('span', b === '1' ? 'bit one' : 'bit', b));
  part.append(digits, node('span', first ? 'bits-name' : 'bits-name again', label));
  const show = () => {
    explanation.textContent = explain(name, f);
    for (const other of document.querySelectorAll('[data-field]')) other.classList.toggle('lit', other.dataset.field === name);
  };
  if (first) {
    part.tabIndex = 0;
    part.setAttribute('role', 'img');
    part.setAttribute('aria-label', `${label} ${name === 'key' ? f.mask : name === 'extended' ? f.length : bits}. ${explain(name, f)}`);
    part.addEventListener('focus', show);
  }
  part.addEventListener('pointerenter', show);
  part.addEventListener('click', show);
  return part;
}

// payload shows how the mask is undone, and the payload as bytes and as text.
function payload(f) {
  const wire = f.bytes;
  const list = [];
  if (wire.length === 0) return [node('p', 'hint', f.length ? 'The payload is not shown.' : 'There is no payload.')];
  const key = f.masked ? fromHex(f.mask) : null;
  const data = key ? wire.map((b, i) => b ^ key[i % 4]) : wire;
  if (key) list.push(heading('Unmasking', 'each byte ⊕ a byte of the key, over and over'), unmasking(wire, key, data));
  if (f.opcode === 8) list.push(heading('Close'), closing(data));
  const compressed = f.message || f.rsv & 4;
  list.push(heading(key ? 'Payload, unmasked' : 'Payload', compressed ? 'compressed' : ''), dumped(data, f.length));
  const text = f.message?.text ?? (compressed ? undefined : f.text);
  if (f.message?.error) list.push(node('p', 'error', `Not inflated: ${f.message.error}`));
  if (text) list.push(heading(f.message ? 'Message, inflated' : 'Text', f.message ? size(f.message.length) : ''), block(text.slice(0, 4096)));
  return list;
}

function heading(words, more = '') {
  const h = node('h4', '', words);
  if (more) h.append(node('span', 'faint', ` ${more}`));
  return h;
}

function block(text) {
  const pre = node('pre', 'dump wrap', text);
  pre.tabIndex = 0;
  return pre;
}

function dumped(bytes, length) {
  const pre = node('pre', 'dump', dump(bytes.subarray(0, maxDumped)));
  pre.tabIndex = 0;
  const rest = length - Math.min(bytes.length, maxDumped);
  if (rest > 0) pre.append(`\n… ${size(rest)} more`);
  return pre;
}

function unmasking(wire, key, data) {
  const table = node('table', 'xor');
  const two = (b) => b.toString(16).padStart(2, '0');
  const count = Math.min(wire.length, maxUnmasked);
  const rows = [
    ['on the wire', (i) => two(wire[i])], ['⊕ key', (i) => two(key[i % 4])], ['= byte', (i) => two(data[i])],
    ['as text', (i) => (data[i] >= 0x20 && data[i] < 0x7f ? String.fromCharCode(data[i]) : '·')],
  ];
  for (const [name, cell] of rows) {
    const row = node('tr');
    const head = node('th', '', name);
    head.scope = 'row';
    row.append(head);
    for (let i = 0; i < count; i++) row.append(node('td', i % 4 === 3 ? 'fourth' : '', cell(i)));
    if (wire.length > count) row.append(node('td', '', '…'));
    table.append(row);
  }
  const scroller = node('div', 'scroller');
  scroller.tabIndex = 0;
  scroller.setAttribute('role', 'region');
  scroller.setAttribute('aria-label', 'Unmasking, byte by byte');
  scroller.append(table);
  return scroller;
}

function closing(data) {
  if (data.length < 2) return node('p', '', `No code: ${meaning(1005)}.`);
  const code = data[0] * 256 + data[1];
  const reason = new TextDecoder().decode(data.subarray(2));
  const line = node('p');
  line.append(node('b', 'mono', code), ` ${meaning(code)}`, reason ? `, reason “${reason}”` : ', without a reason');
  return line;
}
