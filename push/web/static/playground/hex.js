// Binary messages, written and shown as hex.

// parse turns "de ad be ef" (spaces, colons, commas and 0x are ignored) into bytes.
// It throws an Error that says what is wrong.
export function parse(text) {
  const digits = text.replace(/0x/gi, '').replace(/[\s:,]/g, '');
  const odd = digits.match(/[^0-9a-f]/i);
  if (odd) throw new Error(`“${odd[0]}” is no hex digit.`);
  if (digits.length % 2) throw new Error('Hex needs two digits for each byte; one is left over.');
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

// dump shows bytes 16 to a line, on a phone 8, in hex and as ASCII.
export function dump(bytes) {
  const lines = [], width = innerWidth < 600 ? 8 : 16;
  for (let at = 0; at < bytes.length; at += width) {
    const part = [...bytes.subarray(at, at + width)];
    const hex = part.map((b) => b.toString(16).padStart(2, '0')).join(' ');
    const ascii = part.map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '·')).join('');
    lines.push(bytes.length > width ? `${hex.padEnd(3 * width - 1)}  ${ascii}` : `${hex}  ${ascii}`);
  }
  return lines.join('\n');
}
