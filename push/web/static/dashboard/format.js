// Numbers as people read them. What is not known is a dash.
const none = '–';
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const some = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

const known = (n) => typeof n === 'number' && Number.isFinite(n);

export const count = (n) => (known(n) ? whole.format(n) : none);

// scaled writes n with a prefix of units, which grow by step.
function scaled(n, step, units) {
  if (!known(n)) return none;
  let i = 0;
  while (Math.abs(n) >= step * 0.9995 && i < units.length - 1) { n /= step; i++; }
  const digits = Math.abs(n) >= 1000 ? whole.format(n) : some.format(n);
  return units[i] ? `${digits} ${units[i]}` : digits;
}

// name is what a stranger calls itself or its channel: what cannot be seen, or turns the direction of the text around, is written out, and of too
// many characters some are left out.
export function name(s, most = 256) {
  const all = [...s];
  const rest = all.length > most ? `… (${count(all.length)} characters)` : '';
  return all.slice(0, most).join('').replace(/[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`) + rest;
}

// rate is of messages and the like: up to ten thousand in full.
export const rate = (n) => (known(n) && Math.abs(n) < 10_000 ? (n >= 100 ? whole : some).format(n) : scaled(n, 1000, ['', 'k', 'M', 'G']));
export const bytes = (n) => scaled(n, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);

export function seconds(s) {
  if (!known(s)) return none;
  if (s === 0) return '0 ms';
  if (s < 1e-3) return `${some.format(s * 1e6)} µs`;
  if (s < 1) return `${some.format(s * 1e3)} ms`;
  return `${some.format(s)} s`;
}

// age is a span of time in its two largest units.
export function age(s) {
  if (!known(s)) return none;
  const parts = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];
  s = Math.max(0, Math.round(s));
  const first = parts.findIndex(([, size]) => s >= size);
  if (first < 0) return '0 s';
  return parts.slice(first, first + 2).map(([unit, size]) => { const n = Math.floor(s / size); s %= size; return n ? `${n} ${unit}` : ''; }).filter(Boolean).join(' ');
}

export const percent = (n) => (known(n) ? `${some.format(n)} %` : none);
