// Close codes (RFC 6455 §7.4 and the registry it opened).

const meanings = new Map([
  [1000, 'normal closure'],
  [1001, 'going away: the server stops or the page leaves'],
  [1002, 'protocol error'],
  [1003, 'unsupported data'],
  [1005, 'the close frame held no code'],
  [1006, 'no close frame came: never opened, or lost'],
  [1007, 'invalid payload: not UTF-8, or corrupt'],
  [1008, 'policy violation'],
  [1009, 'message too big'],
  [1010, 'a required extension was not agreed on'],
  [1011, 'internal error'],
  [1012, 'service restart'],
  [1013, 'try again later'],
  [1014, 'bad gateway'],
  [1015, 'TLS handshake failed'],
]);

// meaning says in words what a close code stands for.
export function meaning(code) {
  if (meanings.has(code)) return meanings.get(code);
  if (code >= 3000 && code <= 3999) return 'registered for a library or framework';
  if (code >= 4000 && code <= 4999) return 'private use: the application knows';
  return 'unassigned';
}

// fault says why close(code, reason) would throw, or returns ''. The browser lets
// a page send 1000 and 3000–4999 alone; a control frame holds 125 bytes, two of
// them the code (RFC 6455 §5.5).
export function fault(code, reason) {
  if (!(code === 1000 || (code >= 3000 && code <= 4999))) {
    return 'A page may close with 1000 or with 3000 to 4999.';
  }
  const bytes = new TextEncoder().encode(reason).length;
  if (bytes > 123) return `A reason holds 123 bytes at most; this one has ${bytes}.`;
  return '';
}
