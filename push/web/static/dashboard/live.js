// The connection to the server: the key, tickets, the socket, and coming back. Everything else of the page asks through here.
const storage = 'millpond-dashboard-key';

// Storage may be forbidden; the key then lives as long as the page.
let key = '';
try { key = sessionStorage.getItem(storage) ?? ''; } catch { /* not kept */ }
function keep(k) {
  key = k;
  try { k ? sessionStorage.setItem(storage, k) : sessionStorage.removeItem(storage); } catch { /* not kept */ }
}

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

// ask posts JSON to an address that is relative to the page's, and returns the answer.
export async function ask(path, body = {}) {
  const headers = { 'Content-Type': 'application/json' };
  if (key) headers['X-API-Key'] = key;
  const response = await fetch(path, { method: 'POST', headers, body: JSON.stringify(body), cache: 'no-store', redirect: 'error' });
  let answer = null;
  try { answer = await response.json(); } catch { /* from a proxy, perhaps */ }
  if (!response.ok || answer === null) throw new Refused(response.status, answer?.error?.message ?? `the answer has status ${response.status}`);
  return answer;
}

const firstWait = 500, longestWait = 10_000; // ms

// Live keeps a socket open. It calls on.state(name, words), on.session(what the server said at the login), on.figures(f).
export class Live {
  #on; #socket = null; #timer = 0; #wait = firstWait; #last = 0; #stale = false;
  #turn = 0; // of attempts; those of earlier turns are over

  constructor(on) {
    this.#on = on;
    setInterval(() => this.#watch(), 500);
    addEventListener('online', () => { if (!this.#socket && this.#timer) this.start(); });
  }

  get hasKey() { return key !== ''; }

  // login tries another key, or none.
  login(k) { keep(k); this.#wait = firstWait; return this.start(); }

  logout() { keep(''); this.#end(); this.#on.state('login', ''); }

  #end() {
    this.#turn++;
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#socket?.close(1000);
    this.#socket = null;
  }

  async start() {
    this.#end();
    const turn = this.#turn;
    this.#on.state('connecting', 'connecting');
    let session;
    try {
      session = await ask('session');
    } catch (error) {
      if (turn !== this.#turn) return;
      const status = error instanceof Refused ? error.status : 0;
      if (status === 401 || status === 403) {
        const tried = key !== '';
        keep('');
        this.#on.state('login', tried || status === 403 ? (status === 401 ? 'The server does not know this key.' : error.message) : '');
        return;
      }
      this.#later('the server does not answer');
      return;
    }
    if (turn !== this.#turn) return;
    this.#on.session(session);
    const address = new URL('live', location.href);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    address.search = new URLSearchParams({ ticket: session.ticket });
    address.hash = '';
    const socket = new WebSocket(address);
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      if (turn !== this.#turn) return;
      this.#wait = firstWait;
      this.#last = performance.now();
      this.#stale = false;
      this.#on.state('live', 'live');
      this.#on.figures(JSON.parse(data));
    };
    socket.onclose = ({ reason }) => {
      if (turn !== this.#turn) return;
      this.#socket = null;
      this.#later(reason || 'the connection is lost');
    };
  }

  // later tries again, after a while that grows, and differs from page to page.
  #later(why) {
    const wait = this.#wait * (.5 + Math.random());
    this.#wait = Math.min(this.#wait * 2, longestWait);
    this.#on.state('offline', why);
    this.#timer = setTimeout(() => { this.#timer = 0; this.start(); }, wait);
  }

  // watch says when figures are old, though the socket is open: the network may be gone without a word.
  #watch() {
    if (!this.#socket || this.#last === 0) return;
    const old = (performance.now() - this.#last) / 1000;
    if (old > 3) {
      this.#stale = true;
      this.#on.state('stale', `figures are ${Math.round(old)} s old`);
    }
    if (old > 30) { this.#last = performance.now(); this.start(); }
  }
}
