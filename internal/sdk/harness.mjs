// What the cases are made of: an SDK's client whose events are written down, and the world that the Go test gives it.

/** How long a case waits for something that must happen, in ms. */
const patience = 10_000;

/** After how many ms the SDK tries again. */
const retry = { minReconnectDelay: 10, maxReconnectDelay: 50 };

export const text = (v) => JSON.stringify(v, (_, x) => (x instanceof Uint8Array ? `${x.length} bytes` : x));

export function equal(got, want, what) {
  if (text(sorted(got)) !== text(sorted(want))) throw new Error(`${what} is ${text(got)}, want ${text(want)}`);
}

/** The value with the keys of its objects in order, and without those that are undefined. */
function sorted(v) {
  if (Array.isArray(v)) return v.map(sorted);
  if (v === null || typeof v !== 'object' || v instanceof Uint8Array) return v;
  return Object.fromEntries(Object.entries(v).filter(([, x]) => x !== undefined).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, x]) => [k, sorted(x)]));
}

export function check(ok, what) {
  if (!ok) throw new Error(what);
}

export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
export const unixNow = () => Math.floor(Date.now() / 1000);

/** The error with which a promise is rejected. */
export async function failure(promise, what) {
  const value = await promise.then((v) => v, (e) => ({ rejected: e }));
  check(value?.rejected, `${what} succeeds, with ${text(value)}`);
  return value.rejected;
}

/** Waits until something is so; ask changed() again whenever that may be. */
class Signal {
  waiting = new Set();

  changed() {
    for (const look of this.waiting) look();
  }

  until(what, condition) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(look);
        reject(new Error(`in ${patience / 1000} s there is no ${what()}`));
      }, patience);
      const look = () => {
        if (!condition()) return;
        clearTimeout(timer);
        this.waiting.delete(look);
        resolve();
      };
      this.waiting.add(look);
      look();
    });
  }
}

/** Asks again and again, for what nothing announces. */
export async function poll(what, question) {
  for (const end = Date.now() + patience; !(await question().catch(() => false)); await new Promise((next) => setTimeout(next, 10))) {
    check(Date.now() < end, `in ${patience / 1000} s there is no ${what}`);
  }
}

/** What an emitter of the SDK has said, in order. */
export class Log {
  events = []; // {name, ctx}
  seen = 0; // by next
  signal = new Signal();

  constructor(emitter, names) {
    for (const name of names) emitter.on(name, (ctx) => this.add(name, ctx));
  }

  add(name, ctx) {
    this.events.push({ name, ctx });
    this.signal.changed();
  }

  all(name) {
    return this.events.filter((e) => e.name === name).map((e) => e.ctx);
  }

  /** The next event of that name; those before it count as seen. */
  async next(name) {
    const find = () => this.events.findIndex((e, i) => i >= this.seen && e.name === name);
    await this.signal.until(() => `"${name}" in ${this}`, () => find() >= 0);
    this.seen = find() + 1;
    return this.events[this.seen - 1].ctx;
  }

  /** At least so many events of that name in all. */
  async count(n, name) {
    await this.signal.until(() => `${n}th "${name}" in ${this}`, () => this.all(name).length >= n);
    return this.all(name);
  }

  toString() {
    const tail = this.events.slice(-8).map((e) => `${e.name} ${text(e.ctx)}`.slice(0, 200));
    return `${this.events.length} events, at last [${tail.join('; ')}]`;
  }
}

const clientEvents = ['connecting', 'connected', 'disconnected', 'error', 'message',
  'subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave'];
const subscriptionEvents = ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error'];

/** A server behind a network. */
class World {
  constructor(test, id, url) {
    Object.assign(this, { test, id, url, clients: [] });
  }

  do(what, body = {}) {
    return this.test.post(`/worlds/${this.id}/${what}`, body);
  }

  publish(channel, data, more = {}) {
    return this.do('publish', { channel, data, ...more });
  }

  /** A client that is not connected yet; its token has these claims, and null is none. */
  async client(claims = {}, options = {}) {
    if (claims !== null) options = { token: await this.test.sign({ sub: 'ann', ...claims }), ...options };
    const c = new Client(this.test, this.url, options);
    this.clients.push(c);
    return c;
  }

  async connect(claims, options) {
    const c = await this.client(claims, options);
    c.sdk.connect();
    c.connected = await c.log.next('connected');
    return c;
  }

  async close() {
    for (const c of this.clients) c.sdk.disconnect();
    await this.do('close');
  }
}

/** A client of the SDK. */
class Client {
  constructor(test, url, options) {
    this.test = test;
    this.sdk = new test.Centrifuge(url, { websocket: test.websocket, timeout: patience, ...retry, ...options });
    this.log = new Log(this.sdk, clientEvents);
  }

  subscription(channel, options = {}) {
    return new Sub(this.test, this.sdk.newSubscription(channel, { minResubscribeDelay: 10, maxResubscribeDelay: 50, ...options }));
  }

  async subscribe(channel, options) {
    const s = this.subscription(channel, options);
    s.sdk.subscribe();
    s.subscribed = await s.log.next('subscribed');
    return s;
  }

  /** The code with which a subscription is refused. */
  async refused(channel, options) {
    const s = this.subscription(channel, options);
    s.sdk.subscribe();
    const { code, reason } = await s.log.next('unsubscribed');
    this.sdk.removeSubscription(s.sdk);
    return `${code} ${reason}`;
  }

  async disconnected() {
    const { code, reason } = await this.log.next('disconnected');
    return `${code} ${reason}`;
  }
}

/** A subscription of the SDK. */
class Sub {
  constructor(test, sdk) {
    Object.assign(this, { test, sdk, log: new Log(sdk, subscriptionEvents) });
  }

  /** The data of all publications so far. */
  data() {
    return this.log.all('publication').map((p) => this.test.decode(p.data));
  }

  offsets() {
    return this.log.all('publication').map((p) => p.offset);
  }

  received(n) {
    return this.log.count(n, 'publication');
  }
}

/** What a case has. */
class Test {
  constructor(env) {
    Object.assign(this, env);
    this.protobuf = env.codec === 'protobuf';
    this.worlds = [];
  }

  async post(path, body) {
    const response = await fetch(this.url + path, { method: 'POST', body: JSON.stringify(body) });
    const { result, error } = await response.json();
    if (error) throw new Error(`${path}: ${error}`);
    return result;
  }

  sign(claims) {
    return this.post('/sign', claims);
  }

  async world(options = {}) {
    const { id, url } = await this.post('/worlds', options);
    const w = new World(this, id, url);
    this.worlds.push(w);
    return w;
  }

  /** Data as the SDK takes it, and gives it: with Protobuf that is bytes. */
  encode(v) {
    return this.protobuf ? new TextEncoder().encode(JSON.stringify(v)) : v;
  }

  decode(v) {
    if (!this.protobuf || !(v instanceof Uint8Array)) return v;
    return v.length ? JSON.parse(new TextDecoder().decode(v)) : undefined;
  }

  info(i) {
    return i && { user: i.user, client: i.client, connInfo: this.decode(i.connInfo) ?? undefined, chanInfo: this.decode(i.chanInfo) ?? undefined };
  }

  async close() {
    for (const w of this.worlds) await w.close();
  }
}

/** So many cases run at a time. Chromium holds connections up, by seconds, when 16 of a page are being opened. */
const atOnce = 8;

/** Runs all cases and reports what becomes of each; a report without a name is the last. */
export async function run(cases, env) {
  const reporter = new Test(env);
  const waiting = Object.entries(cases);
  const worker = async () => {
    while (waiting.length) {
      const [name, f] = waiting.shift();
      await reporter.post('/report', { name, ...(await outcome(f, new Test(env))) });
    }
  };
  await Promise.all(range(1, atOnce).map(worker));
  await reporter.post('/report', {});
}

async function outcome(f, t) {
  const start = Date.now();
  let error = '';
  try {
    await f(t);
  } catch (e) {
    error = `${e?.stack ?? text(e)}`;
  }
  await t.close().catch((e) => (error ||= `at the end: ${e}`));
  return { error, millis: Date.now() - start };
}
