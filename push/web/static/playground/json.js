// JSON as it was written.

// parse is JSON.parse that keeps each number's own digits, so that 2^53 + 1 is
// neither shown nor published rounded. Browsers that don't tell a reviver the
// source read it as JavaScript does.
export function parse(text) {
  return JSON.parse(text, exact);
}

function exact(key, value, context) {
  const source = context?.source;
  const changed = typeof value === 'number' && source !== undefined && String(value) !== source;
  return changed && JSON.rawJSON ? JSON.rawJSON(source) : value;
}
