// What the official SDK is to find at our server. Each case has a world of its own: a server behind a network that can break.
// The cases know nothing of Node or browsers.

import { Log, check, equal, failure, poll, range, text, unixNow } from './harness.mjs';

/** Publishes 1, 2, 3, …, and more beside, to channels until end() is called, which returns how many there were. */
function publisher(w, more, ...channels) {
  let going = true;
  const done = (async () => {
    let n = 0;
    while (going) await w.do('broadcast', { channels, data: { ...more, n: ++n } });
    return n;
  })();
  done.catch(() => {}); // end reports it
  return {
    end() {
      going = false;
      return done;
    },
  };
}

/** The ways in which a network breaks. */
const breaks = [['reset'], ['finish'], ['cutAfter', { bytes: 100 }], ['reset'], ['cutAfter', { bytes: 333 }]];

/** A document that does not compress, of which one field changes. */
function documents(count) {
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647).toString(36);
  const lines = Object.fromEntries(range(1, 100).map((i) => [`line ${i}`, random() + random() + random() + random()]));
  return range(1, count).map((n) => ({ ...lines, 'line 50': `größer 🐟 ${n}` }));
}

export const cases = {
  // First those that wait for something to expire.

  async 'refresh of subscriptions'(t) {
    const w = await t.world();
    const token = (ttl, sub = 'ann') => t.sign({ sub, channel: 'closed:a', ...(ttl && { exp: unixNow() + ttl }) });
    const kept = async () => {
      const c = await w.connect();
      const asked = new Log(null, []);
      const s = c.subscription('closed:a', {
        getToken() {
          const times = s.log.all('subscribed').length;
          const what = ['short', asked.all('expired').length ? 'short' : 'expired', 'endless'][times];
          asked.add(what);
          return token({ short: 2, expired: -10, endless: 0 }[what]);
        },
      });
      s.sdk.subscribe();
      await s.log.next('subscribed');
      await w.publish('closed:a', 1);
      equal((await s.log.next('subscribing')).code, 2501, 'after a refresh with a token that has expired');
      await s.log.next('subscribed');
      await asked.next('endless');
      await s.sdk.ready();
      await w.publish('closed:a', 2);
      await s.received(2);
      equal([s.log.all('subscribed').length, s.log.all('unsubscribed').length, c.log.all('connected').length], [2, 0, 1], 'subscribed, unsubscribed, connected');
      check(s.log.all('error').every((e) => e.type === 'subscribe' && e.error.code === 109), `errors: ${s.log}`);
    };
    const foreign = async () => {
      const c = await w.connect();
      const s = c.subscription('closed:a', { getToken: () => token(2, s.log.all('subscribed').length ? 'bob' : 'ann') });
      s.sdk.subscribe();
      equal(await c.disconnected(), '3500 invalid token', "after a refresh with another user's token");
    };
    await Promise.all([kept(), foreign()]);
  },

  async 'refresh of the connection'(t) {
    const w = await t.world();
    const short = { sub: 'ann', ttl: 2 };
    const expired = { sub: 'ann', ttl: -10 };
    const endless = { sub: 'ann' };
    /** A client with the one kind of token to connect, and these for the refreshes then. */
    const connect = async (first, ...then) => {
      const asked = new Log(null, []);
      const c = await w.client(null, {
        getToken() {
          const { sub, ttl } = c.log.all('connected').length && then.length ? then.shift() : first;
          asked.add(ttl ? `${ttl} s` : 'endless');
          return t.sign({ sub, ...(ttl && { exp: unixNow() + ttl }) });
        },
      });
      c.sdk.connect();
      await c.log.next('connected');
      return { c, asked };
    };
    await Promise.all([
      (async () => {
        const { c, asked } = await connect(short, { ...short, ttl: 3 }, endless);
        const s = await c.subscribe('plain:a');
        await asked.next('endless');
        await c.sdk.history('plain:a').catch(() => {}); // the answer to the refresh comes before it
        await w.publish('plain:a', 'on');
        await s.received(1);
        equal(c.log.all('connected').length, 1, 'connections');
      })(),
      (async () => {
        const { c } = await connect(short, expired, endless);
        equal((await c.log.next('connecting')).code, 3005, 'after a refresh with a token that has expired');
        await c.log.next('connected');
      })(),
      (async () => {
        const { c } = await connect(short, { sub: 'bob' });
        equal(await c.disconnected(), '3500 invalid token', "after a refresh with another user's token");
      })(),
      (async () => {
        const c = await w.client({ exp: unixNow() - 10 }, { getToken: () => t.sign({ sub: 'ann' }) });
        c.sdk.connect();
        await c.log.next('connected');
        equal(c.log.all('error').map((e) => [e.type, e.error.code]), [['connect', 109]], 'errors after a token that has expired');
      })(),
    ]);
  },

  async 'pings keep an idle connection'(t) {
    const w = await t.world({ pingSeconds: 1 });
    const c = await w.connect({}, { maxServerPingDelay: 2000 });
    await new Promise((done) => setTimeout(done, 4000)); // the SDK would miss a ping, the server a pong
    equal(c.log.events.map((e) => e.name), ['connecting', 'connected'], 'events');
    await c.subscribe('plain:a');
  },

  async 'recovery after a network that is silent'(t) {
    const w = await t.world({ pingSeconds: 1 });
    const c = await w.connect({}, { maxServerPingDelay: 500 });
    const s = await c.subscribe('news:a');
    await w.publish('news:a', { n: 1 });
    await s.received(1);
    await w.do('stall', { on: true });
    for (const n of range(2, 40)) await w.publish('news:a', { n });
    equal((await c.log.next('connecting')).code, 2, 'no ping');
    await w.do('stall', { on: false });
    const ctx = await s.log.next('subscribed');
    equal([ctx.wasRecovering, ctx.recovered, ctx.hasRecoveredPublications], [true, true, true], 'recovered');
    await w.publish('news:a', { n: 41 });
    await s.received(41);
    equal(s.data().map((d) => d.n), range(1, 41), 'data');
  },

  async 'connect, disconnect, connect again'(t) {
    const w = await t.world();
    const c = await w.connect({ info: { name: 'Ann' } });
    check(/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(c.connected.client), `the client's id is ${c.connected.client}`);
    equal(c.connected.transport, 'websocket', 'transport');
    equal(c.log.all('error'), [], 'errors');
    c.sdk.disconnect();
    equal(await c.disconnected(), '0 disconnect called', 'disconnected');
    c.sdk.connect();
    const again = await c.log.next('connected');
    check(again.client !== c.connected.client, 'the client has the same id again');
  },

  async 'publish and receive'(t) {
    const w = await t.world();
    const c = await w.connect({ info: { name: 'Ann' } });
    const s = await c.subscribe('plain:a');
    const other = await (await w.connect({ sub: 'bob' })).subscribe('plain:a');
    equal([s.subscribed.positioned, s.subscribed.recoverable, s.subscribed.recovered], [false, false, false], 'positioned, recoverable, recovered');
    const values = [{ text: 'a "quoted"\nline\u2028 \\ 🐟 \u0000' }, 1, 'x', [], { deep: { er: [1.5, -1e300] } }, false, null];
    for (const v of values) await s.sdk.publish(t.encode(v));
    await c.sdk.publish('plain:a', t.encode('by the client'));
    await w.do('publish', { channel: 'plain:a', data: 'by the API', tags: { kind: 'ß', empty: '' } });
    for (const x of [s, other]) {
      const got = await x.received(values.length + 2);
      equal(x.data(), [...values, 'by the client', 'by the API'], 'data');
      const ann = { user: 'ann', client: c.connected.client, connInfo: { name: 'Ann' } };
      equal(got.map((p) => t.info(p.info)), [...values.map(() => ann), ann, undefined], 'info');
      equal(got.at(-1).tags, { kind: 'ß', empty: '' }, 'tags');
      equal(got[0].tags ?? {}, {}, 'tags of a client');
    }
  },

  async 'data with line breaks from the API'(t) {
    const w = await t.world();
    const s = await (await w.connect()).subscribe('news:a');
    const pretty = '{\n "a" : [ 1 ,\r\n\t2 ],\n"b":"c\\nd  e"}'; // post would take the white space out
    const response = await fetch(`${t.url}/worlds/${w.id}/publish`, { method: 'POST', body: `{"channel":"news:a","data":${pretty}}` });
    equal((await response.json()).error, undefined, 'error');
    await s.received(1);
    equal(s.data(), [JSON.parse(pretty)], 'data');
    const past = await s.sdk.history({ limit: 1 });
    equal(t.decode(past.publications[0].data), JSON.parse(pretty), 'history');
  },

  async 'binary data'(t) {
    const w = await t.world();
    const c = await w.connect();
    const s = await c.subscribe('plain:a');
    await w.do('publish', { channel: 'plain:a', b64data: 'AP/+gAo=' });
    if (!t.protobuf) return equal(await c.disconnected(), '3506 inappropriate protocol', 'JSON');
    const [p] = await s.received(1);
    equal([...p.data], [0, 255, 254, 128, 10], 'data');
  },

  async 'large publications both ways'(t) {
    const w = await t.world();
    const c = await w.connect();
    const s = await c.subscribe('plain:a');
    const large = 'ü🐟'.repeat(10_000); // 60,000 bytes
    await s.sdk.publish(t.encode(large));
    await w.publish('plain:a', large.repeat(5));
    await s.received(2);
    equal(s.data().map((d) => d.length), [large.length, large.length * 5], 'lengths');
    check(s.data()[0] === large && s.data()[1] === large.repeat(5), 'the data is another');
  },

  async 'presence, presence stats, join and leave'(t) {
    const w = await t.world();
    const ann = await w.connect({ info: { name: 'Ann' } });
    const seen = await ann.subscribe('room:a', { joinLeave: true });
    const own = { user: 'ann', client: ann.connected.client, connInfo: { name: 'Ann' } };
    equal(t.info((await seen.log.next('join')).info), own, 'own join');
    const bob = await w.connect({ sub: 'bob', info: { name: 'Bob' } });
    const s = await bob.subscribe('room:a', { token: await t.sign({ sub: 'bob', channel: 'room:a', info: { seat: 7 } }) });
    const other = { user: 'bob', client: bob.connected.client, connInfo: { name: 'Bob' }, chanInfo: { seat: 7 } };
    equal(t.info((await seen.log.next('join')).info), other, 'join');
    const { clients } = await seen.sdk.presence();
    equal(Object.fromEntries(Object.entries(clients).map(([id, i]) => [id, t.info(i)])), { [own.client]: own, [other.client]: other }, 'presence');
    equal(await ann.sdk.presenceStats('room:a'), { numClients: 2, numUsers: 2 }, 'stats');
    const second = await w.connect({ sub: 'bob' });
    await second.subscribe('room:a');
    await seen.log.next('join');
    equal(await seen.sdk.presenceStats(), { numClients: 3, numUsers: 2 }, 'stats with two clients of one user');
    second.sdk.disconnect();
    equal((await seen.log.next('leave')).info.client, second.connected.client, 'leave by disconnect');
    s.sdk.unsubscribe();
    equal(t.info((await seen.log.next('leave')).info), other, 'leave by unsubscribe');
    equal(Object.keys((await seen.sdk.presence()).clients), [own.client], 'presence at last');
    equal(s.log.all('join'), [], 'joins for whom has not asked');
    await bob.subscribe('room:b');
    await w.do('reset'); // both come back, and nothing of them stays
    await poll('2 clients', async () => (await bob.sdk.presenceStats('room:b')).numClients === 1 && (await seen.sdk.presenceStats()).numClients === 1);
  },

  async 'history'(t) {
    const w = await t.world();
    const c = await w.connect();
    const s = await c.subscribe('news:a');
    const empty = await s.sdk.history({ limit: 10 });
    equal([empty.publications, empty.offset], [[], 0], 'history of nothing');
    for (const n of range(1, 10)) await w.publish('news:a', { n }, { tags: { n: `${n}` } });
    await s.sdk.publish(t.encode({ n: 11 }));
    const { epoch, offset } = await s.sdk.history({ limit: 0 });
    equal(offset, 11, 'top');
    const ask = async (options) => (await s.sdk.history(options)).publications.map((p) => [p.offset, t.decode(p.data).n]);
    const pairs = (...ns) => ns.map((n) => [n, n]);
    equal(await ask({ limit: 0 }), [], 'limit 0');
    equal(await ask({ limit: 3 }), pairs(1, 2, 3), 'limit 3');
    equal(await ask({ limit: -1 }), pairs(...range(1, 11)), 'limit -1');
    equal(await ask({ limit: 3, reverse: true }), pairs(11, 10, 9), 'reverse');
    equal(await ask({ limit: -1, since: { offset: 8, epoch } }), pairs(9, 10, 11), 'since 8');
    equal(await ask({ limit: 2, since: { offset: 8, epoch } }), pairs(9, 10), 'since 8, limit 2');
    equal(await ask({ limit: 2, since: { offset: 8, epoch }, reverse: true }), pairs(7, 6), 'since 8, reverse');
    equal(await ask({ limit: -1, since: { offset: 11, epoch } }), [], 'since the top');
    const { publications: last } = await c.sdk.history('news:a', { limit: 2, reverse: true });
    equal([t.info(last[0].info), last[1].tags], [{ user: 'ann', client: c.connected.client }, { n: '10' }], 'info and tags');
    equal((await failure(s.sdk.history({ limit: 1, since: { offset: 8, epoch: 'other' } }), 'another epoch')).code, 112, 'another epoch');
  },

  async 'recovery: each publication once and in order, however the network breaks'(t) {
    const w = await t.world({ maxRecovered: 5000 });
    const c = await w.connect();
    const subs = [await c.subscribe('news:a'), await c.subscribe('news:b')];
    check(subs.every((s) => s.subscribed.recoverable && s.subscribed.positioned), 'not recoverable');
    const p = publisher(w, {}, 'news:a', 'news:b');
    for (const [how, body] of breaks) {
      for (const s of subs) await s.received(s.data().length + 10);
      await w.do(how, body);
      await c.log.next('connected');
      for (const s of subs) {
        const ctx = await s.log.next('subscribed');
        equal([ctx.wasRecovering, ctx.recovered], [true, true], `${how}: wasRecovering, recovered`);
      }
    }
    const n = await p.end();
    for (const s of subs) {
      await s.received(n);
      equal(s.data().map((d) => d.n), range(1, n), 'data');
      equal(s.offsets(), range(1, n), 'offsets');
    }
    check(c.log.all('connecting').every((e) => e.code <= 1), `the SDK complains: ${c.log}`);
  },

  async 'too much was missed: not recovered, and on from there'(t) {
    const w = await t.world({ maxRecovered: 20 });
    for (const channel of ['short:a', 'news:a']) { // the history is short, or the answer
      const c = await w.connect();
      const s = await c.subscribe(channel);
      for (const n of range(1, 3)) await w.publish(channel, { n });
      await s.received(3);
      await w.do('refuse', { on: true });
      await w.do('reset');
      await c.log.next('connecting');
      for (const n of range(4, 30)) await w.publish(channel, { n });
      await w.do('refuse', { on: false });
      const ctx = await s.log.next('subscribed');
      equal([ctx.wasRecovering, ctx.recovered, ctx.hasRecoveredPublications, ctx.streamPosition.offset], [true, false, false, 30], channel);
      await w.publish(channel, { n: 31 });
      await s.received(4);
      equal(s.data().map((d) => d.n), [1, 2, 3, 31], channel);
    }
  },

  async 'the latest publication alone'(t) {
    const w = await t.world();
    const c = await w.connect();
    const s = await c.subscribe('latest:a');
    await w.publish('latest:a', 1);
    await s.received(1);
    await w.do('refuse', { on: true });
    await w.do('reset');
    for (const n of range(2, 9)) await w.publish('latest:a', n);
    await w.do('refuse', { on: false });
    equal((await s.log.next('subscribed')).recovered, true, 'recovered');
    await w.publish('latest:a', 10);
    await s.received(3);
    equal(s.data(), [1, 9, 10], 'data');
  },

  async 'recovery of more than an outbox holds'(t) {
    const w = await t.world({ noCompression: true });
    const c = await w.connect();
    const s = await c.subscribe('news:a');
    await w.do('refuse', { on: true });
    await w.do('reset');
    for (const n of range(1, 20)) await w.publish('news:a', { n, filler: 'x'.repeat(60_000) });
    await w.do('refuse', { on: false });
    await s.received(20);
    equal(s.data().map((d) => d.n), range(1, 20), 'data');
    equal(s.log.all('subscribed').length, 2, 'subscribed');
  },

  async 'a client that is slow: disconnected, and nothing is lost'(t) {
    const w = await t.world({ noCompression: true, maxRecovered: 5000 });
    const c = await w.connect();
    const s = await c.subscribe('news:a');
    await w.do('stall', { on: true });
    for (const n of range(1, 20)) await w.publish('news:a', { n, filler: 'x'.repeat(700_000) }); // more than the kernel takes
    await w.do('stall', { on: false });
    equal((await c.log.next('connecting')).code, 3008, 'slow');
    await s.received(20);
    equal(s.data().map((d) => d.n), range(1, 20), 'data');
  },

  async 'a server that restarts: shutdown, another epoch, not recovered'(t) {
    const w = await t.world();
    const c = await w.connect();
    const s = await c.subscribe('news:a');
    await w.publish('news:a', 'before');
    await s.received(1);
    await w.do('stop');
    const { code, reason } = await c.log.next('connecting');
    equal(`${code} ${reason}`, '3001 shutdown', 'connecting');
    await w.do('start');
    const ctx = await s.log.next('subscribed');
    equal([ctx.wasRecovering, ctx.recovered], [true, false], 'wasRecovering, recovered');
    check(ctx.streamPosition.epoch !== s.subscribed.streamPosition.epoch, 'the epoch is the same');
    await w.publish('news:a', 'after');
    await s.received(2);
    equal(s.data(), ['before', 'after'], 'data');
    equal(c.log.all('disconnected'), [], 'disconnected');
  },

  async 'recovery and positioning for those who ask'(t) {
    const w = await t.world();
    const c = await w.connect();
    for (const [channel, options, want] of [
      ['asked:none', {}, [false, false]],
      ['asked:positioned', { positioned: true }, [true, false]],
      ['asked:recoverable', { recoverable: true }, [true, true]],
      ['plain:recoverable', { recoverable: true, positioned: true }, [false, false]],
    ]) {
      const { positioned, recoverable } = (await c.subscribe(channel, options)).subscribed;
      equal([positioned, recoverable], want, `${channel}: positioned, recoverable`);
    }
    for (const n of range(1, 5)) await w.publish('news:since', n);
    const { epoch } = await w.do('history', { channel: 'news:since' });
    const s = await c.subscribe('news:since', { since: { offset: 2, epoch } });
    equal([s.subscribed.recovered, s.subscribed.streamPosition.offset], [true, 2], 'recovered from a position of before');
    await s.received(3);
    equal([s.data(), s.offsets()], [[3, 4, 5], [3, 4, 5]], 'data and offsets');
  },

  async 'server-side subscriptions'(t) {
    const w = await t.world({ maxRecovered: 5000, personalChannels: true });
    const c = await w.client({ channels: ['news:a', 'lobby:a'] });
    c.sdk.connect();
    await c.log.next('connected');
    const subscribed = await c.log.count(3, 'subscribed');
    equal(subscribed.map((x) => x.channel).sort(), ['lobby:a', 'news:a', 'users:#ann'], 'channels');
    const news = subscribed.find((x) => x.channel === 'news:a');
    equal([news.recoverable, news.positioned, news.wasRecovering, news.streamPosition.offset], [true, true, false, 0], 'news:a');
    await c.log.count(1, 'join'); // its own
    const bob = await w.connect({ sub: 'bob', channels: ['lobby:a'] });
    const [, join] = await c.log.count(2, 'join');
    equal([join.channel, join.info.user], ['lobby:a', 'bob'], 'join');
    bob.sdk.disconnect();
    const [leave] = await c.log.count(1, 'leave');
    equal([leave.channel, leave.info.user], ['lobby:a', 'bob'], 'leave');
    await w.publish('users:#ann', 'personal', { tags: { a: 'b' } });
    await c.sdk.publish('lobby:a', t.encode('to all'));
    const got = await c.log.count(2, 'publication');
    equal(got.map((p) => [p.channel, t.decode(p.data), p.info?.user, p.tags]),
      [['users:#ann', 'personal', undefined, { a: 'b' }], ['lobby:a', 'to all', 'ann', got[1].tags]], 'publications');

    const of = (name) => c.log.all(name).filter((x) => x.channel === 'news:a');
    const p = publisher(w, {}, 'news:a');
    for (const [how, body] of breaks) {
      const before = of('publication').length;
      await c.log.signal.until(() => `publications in ${c.log}`, () => of('publication').length >= before + 10);
      const times = of('subscribed').length;
      await w.do(how, body);
      await c.log.signal.until(() => `"subscribed" in ${c.log}`, () => of('subscribed').length > times);
      const ctx = of('subscribed').at(-1);
      equal([ctx.wasRecovering, ctx.recovered], [true, true], `${how}: wasRecovering, recovered`);
    }
    const n = await p.end();
    await c.log.signal.until(() => `${n}th publication in ${c.log}`, () => of('publication').length >= n);
    equal(of('publication').map((x) => t.decode(x.data).n), range(1, n), 'data');
    equal(of('publication').map((x) => x.offset), range(1, n), 'offsets');

    await w.do('stop');
    await w.do('start');
    await c.log.signal.until(() => 'a subscription that is not recovered', () => of('subscribed').at(-1).recovered === false);
  },

  async 'server-side subscriptions that are not possible'(t) {
    const w = await t.world({ maxChannels: 3 });
    const unknown = await w.client({ channels: ['nowhere:a'] });
    unknown.sdk.connect();
    equal(await unknown.disconnected(), '102 unknown channel', 'an unknown namespace');
    const many = await w.client({ channels: ['plain:1', 'plain:2', 'plain:3', 'plain:4'] });
    many.sdk.connect();
    equal(await many.disconnected(), '3505 channel limit', 'too many');
    const twice = await w.connect({ channels: ['plain:a'] });
    equal(await twice.refused('plain:a'), '105 already subscribed', 'again by the client');
  },

  async 'private channels'(t) {
    const w = await t.world();
    const c = await w.connect();
    equal(await c.refused('$nowhere:a'), '102 unknown channel', 'an unknown namespace');
    equal(await c.refused('$plain:a'), '103 permission denied', 'no token');
    const s = await c.subscribe('$plain:a', { getToken: ({ channel }) => t.sign({ sub: 'ann', channel }) });
    await w.publish('plain:a', 'another channel');
    await s.sdk.publish(t.encode('private'));
    await s.received(1);
    equal(s.data(), ['private'], 'data');
  },

  async 'tokens of subscriptions'(t) {
    const w = await t.world();
    const c = await w.connect();
    const token = (claims) => t.sign({ sub: 'ann', channel: 'closed:a', ...claims });
    equal(await c.refused('closed:a'), '103 permission denied', 'no token');
    equal(await c.refused('closed:a', { token: `${await token({})}x` }), '103 permission denied', 'a forged token');
    equal(await c.refused('closed:a', { token: 'nonsense' }), '103 permission denied', 'no token at all');
    const asked = [];
    const getToken = async (ctx) => {
      asked.push(ctx.channel);
      return token({ info: { seat: 7 }, client: c.connected.client });
    };
    const s = await c.subscribe('closed:a', { getToken, token: await token({ exp: unixNow() - 10 }) });
    equal(asked, ['closed:a'], 'getToken after a token that has expired');
    s.sdk.unsubscribe();
    for (const [what, claims] of [['another channel', { channel: 'closed:b' }], ['another user', { sub: 'bob' }], ['another client', { client: 'x' }]]) {
      const stranger = await w.connect();
      stranger.subscription('closed:a', { token: await token(claims) }).sdk.subscribe();
      equal(await stranger.disconnected(), '3500 invalid token', what);
    }
    const empty = await w.connect();
    equal(await empty.refused('closed:a', { getToken: async () => '' }), '1 unauthorized', 'getToken without a token');
  },

  async 'deltas'(t) {
    const w = await t.world({ noCompression: true });
    const c = await w.connect();
    const s = await c.subscribe('delta:a', { delta: 'fossil' });
    const docs = documents(30);
    const size = JSON.stringify(docs[0]).length;
    let sent = await w.do('sent');
    const spent = async () => -sent + (sent = await w.do('sent'));
    for (const d of docs.slice(0, 20)) await w.publish('delta:a', d);
    await s.received(20);
    const { numPublications, numFullPayloads, numDeltaPayloads } = s.sdk.deltaStats();
    equal([numPublications, numFullPayloads, numDeltaPayloads], [20, 1, 19], 'publications, full ones, deltas');
    const live = await spent();
    check(live < 3 * size, `20 documents of ${size} bytes took ${live} bytes`);

    await w.do('refuse', { on: true });
    await w.do('reset');
    await c.log.next('connecting');
    for (const d of docs.slice(20, 25)) await w.publish('delta:a', d);
    await w.do('refuse', { on: false });
    equal((await s.log.next('subscribed')).recovered, true, 'recovered');
    await s.received(25);
    await spent();
    for (const d of docs.slice(25)) await w.publish('delta:a', d);
    await s.received(30);
    const after = await spent();
    check(after < 2 * size, `5 documents of ${size} bytes took ${after} bytes after the recovery`);
    equal(s.data(), docs, 'data');

    // Who comes later has no base for a delta yet; and not all is in the history.
    const publish = async (from, to) => {
      for (let i = from; i < to; i++) await w.publish('delta:b', docs[i], { skip_history: i % 3 === 0 });
    };
    const early = await (await w.connect()).subscribe('delta:b', { delta: 'fossil' });
    await publish(0, 5);
    const late = await c.subscribe('delta:b', { delta: 'fossil' });
    await publish(5, 15);
    await late.received(10);
    equal(late.data(), docs.slice(5, 15), 'data of who comes later');
    await early.received(15);
    equal(early.data(), docs.slice(0, 15), 'data of who was there');

    // Who asks for no deltas gets none, and history has none; small and equal data is right too.
    const whole = await (await w.connect()).subscribe('delta:a');
    const tiny = [1, 1, { a: 1 }, docs[0], 'ß', docs[1]];
    for (const d of tiny) await w.publish('delta:a', d);
    await whole.received(6);
    equal(whole.data(), tiny, 'data without deltas');
    await s.received(36);
    equal(s.data().slice(30), tiny, 'data');
    const past = await s.sdk.history({ limit: 2, reverse: true });
    equal(past.publications.map((p) => t.decode(p.data)), [docs[1], 'ß'], 'history');
    const refused = await c.subscribe('news:a', { delta: 'fossil' });
    for (const d of docs.slice(0, 2)) await w.publish('news:a', d);
    await refused.received(2);
    equal(refused.data(), docs.slice(0, 2), 'data where there are no deltas');
    equal(refused.sdk.deltaStats().numDeltaPayloads, 0, 'deltas where there are none');
  },

  async 'deltas while the network breaks'(t) {
    const w = await t.world({ maxRecovered: 5000 });
    const c = await w.connect();
    const s = await c.subscribe('delta:a', { delta: 'fossil' });
    const p = publisher(w, { filler: 'x'.repeat(100) }, 'delta:a');
    for (const [how, body] of breaks) {
      await s.received(s.data().length + 10);
      await w.do(how, body);
      await s.log.next('subscribed');
    }
    const n = await p.end();
    await s.received(n);
    equal(s.data().map((d) => d.n), range(1, n), 'data');
    check(s.sdk.deltaStats().numDeltaPayloads >= 9, `deltas: ${text(s.sdk.deltaStats())}`);
  },

  async 'tags filter'(t) {
    const w = await t.world();
    const c = await w.connect();
    const s = await c.subscribe('tags:a', { tagsFilter: { op: 'or', nodes: [{ key: 'n', cmp: 'in', vals: ['2', '5'] }, { key: 'x', cmp: 'ex' }] } });
    const publish = (n, tags) => w.publish('tags:a', n, { tags: { n: `${n}`, ...tags } });
    for (const n of range(1, 6)) await publish(n);
    await publish(7, { x: '' });
    await s.received(3);
    await w.do('refuse', { on: true });
    await w.do('reset');
    for (const n of range(8, 10)) await publish(n, n === 9 ? { x: 'y' } : {});
    await w.do('refuse', { on: false });
    equal((await s.log.next('subscribed')).recovered, true, 'recovered');
    await publish(11, { x: 'y' });
    await s.received(5);
    equal(s.data(), [2, 5, 7, 9, 11], 'data');
    equal(await c.refused('plain:a', { tagsFilter: { key: 'n', cmp: 'eq', val: '1' } }), '107 bad request', 'where there is none');
  },

  async '500 subscriptions at once'(t) {
    const w = await t.world({ maxChannels: 500 });
    const c = await w.client();
    const subs = range(1, 500).map((i) => c.subscription(`news:${i}`));
    for (const s of subs.slice(0, 250)) s.sdk.subscribe(); // with the connect command, in one frame
    c.sdk.connect();
    for (const s of subs.slice(0, 250)) await s.log.next('subscribed');
    for (const s of subs.slice(250)) s.sdk.subscribe();
    for (const s of subs.slice(250)) await s.log.next('subscribed');
    const channels = subs.map((s) => s.sdk.channel);
    await w.do('broadcast', { channels, data: 1 });
    for (const s of subs) await s.received(1);
    await w.do('reset');
    await w.do('broadcast', { channels, data: 2 });
    for (const s of subs) equal((await s.log.next('subscribed')).recovered, true, s.sdk.channel);
    await w.do('broadcast', { channels, data: 3 });
    for (const s of subs) await s.received(3);
    for (const s of subs) equal(s.data(), [1, 2, 3], s.sdk.channel);
    equal(await c.refused('news:501'), '106 limit exceeded', 'one more');
    equal([c.log.all('connected').length, c.log.all('disconnected').length], [2, 0], 'connected and disconnected');
  },

  async 'connect again and again while publications come'(t) {
    const w = await t.world({ maxRecovered: 5000 });
    const c = await w.connect();
    const subs = await Promise.all(range(1, 50).map((i) => c.subscribe(`news:${i}`)));
    const p = publisher(w, {}, ...subs.map((s) => s.sdk.channel));
    for (const _ of range(1, 20)) {
      c.sdk.disconnect();
      c.sdk.connect(); // and subscribe to all, in one frame
      for (const s of subs) equal((await s.log.next('subscribed')).recovered, true, s.sdk.channel);
    }
    const n = await p.end();
    for (const s of subs) {
      await s.received(n);
      equal(s.data().map((d) => d.n), range(1, n), s.sdk.channel);
      const names = s.log.events.map((e) => e.name);
      check(names.every((name, i) => name !== 'publication' || names[i - 1] !== 'subscribing'), 'a publication came before the reply');
    }
  },

  async 'unsubscribe in the tick of subscribe'(t) {
    const w = await t.world();
    const c = await w.connect();
    const witness = await (await w.connect({ sub: 'bob' })).subscribe('room:a', { joinLeave: true });
    const s = c.subscription('room:a');
    const ann = async () => Object.values((await witness.sdk.presence()).clients).filter((i) => i.user === 'ann').length;
    for (const round of range(1, 30)) {
      for (let i = 0; i < round % 3; i++) {
        s.sdk.subscribe();
        s.sdk.unsubscribe();
      }
      s.sdk.subscribe();
      if (round % 2) await s.sdk.ready();
      s.sdk.unsubscribe();
      if (round % 5 === 0) await c.sdk.presenceStats('plain:a').catch(() => {}); // what came before is carried out then
    }
    s.sdk.unsubscribe();
    s.sdk.subscribe();
    await s.sdk.ready();
    await w.publish('room:a', 'once');
    await s.received(1);
    equal(await ann(), 1, 'presence');
    s.sdk.unsubscribe();
    await witness.log.signal.until(() => 'as many leaves as joins', () => {
      const [joins, leaves] = ['join', 'leave'].map((name) => witness.log.all(name).filter((e) => e.info.user === 'ann').length);
      return joins > 0 && joins === leaves;
    });
    equal(await ann(), 0, 'presence at last');
    await w.publish('room:a', 'never');
    await witness.received(2);
    equal(s.data(), ['once'], 'data');
    equal([c.log.all('connected').length, c.log.all('error'), s.log.all('error')], [1, [], []], 'connections, errors');
  },

  async 'commands in a batch'(t) {
    const w = await t.world();
    const c = await w.connect();
    const s = await c.subscribe('news:a');
    c.sdk.startBatching();
    const done = range(1, 100).map((n) => s.sdk.publish(t.encode(n)));
    const past = s.sdk.history({ limit: -1 });
    const no = failure(c.sdk.history('plain:a', { limit: 1 }), 'history where there is none');
    c.sdk.stopBatching();
    await Promise.all(done);
    equal((await past).publications.map((p) => t.decode(p.data)), range(1, 100), 'history');
    equal((await no).code, 108, 'history where there is none');
    await s.received(100);
    equal(s.data(), range(1, 100), 'data');
  },

  async 'codes of refused commands'(t) {
    const w = await t.world();
    const c = await w.connect();
    equal(await c.refused('nowhere:a'), '102 unknown channel', 'an unknown namespace');
    equal(await c.refused('closed:a'), '103 permission denied', 'a namespace for nobody');
    equal(await c.refused('users:#bob,eve'), '103 permission denied', 'a channel of others');
    await c.subscribe('users:#bob,ann');
    equal(await c.refused(`plain:${'x'.repeat(250)}`), '107 bad request', 'a long name');
    const s = await c.subscribe('plain:a');
    const n = await c.subscribe('news:a');
    await c.subscribe('small:a');
    for (const [what, command, code] of [
      ['rpc', () => c.sdk.rpc('method', t.encode({})), 108],
      ['publishing where one is not subscribed', () => c.sdk.publish('plain:b', t.encode(1)), 103],
      ['publishing nowhere', () => c.sdk.publish('nowhere:b', t.encode(1)), 102],
      ['presence where there is none', () => s.sdk.presence(), 108],
      ['presence stats where there is none', () => s.sdk.presenceStats(), 108],
      ['presence where one is not subscribed', () => c.sdk.presence('room:a'), 103],
      ['history where there is none', () => s.sdk.history({ limit: 1 }), 108],
      ['history where one is not subscribed', () => c.sdk.history('news:b', { limit: 1 }), 103],
      ['history in reverse from 0', () => n.sdk.history({ limit: 1, since: { offset: 0, epoch: '' }, reverse: true }), 107],
      ['a publication that is too large for the namespace', () => c.sdk.publish('small:a', t.encode('x'.repeat(200))), 106],
    ]) {
      equal((await failure(command(), what)).code, code, what);
    }
    equal(c.log.all('disconnected'), [], 'disconnected');
  },

  async 'codes of disconnects'(t) {
    const w = await t.world({ maxConnectionsPerUser: 1 });
    const ended = async (claims, options, act) => {
      const c = await w.client(claims, options);
      c.sdk.connect();
      if (act) {
        await c.log.next('connected');
        act(c);
      }
      const why = await c.disconnected();
      equal(c.sdk.state, 'disconnected', 'state');
      return why;
    };
    equal(await ended(null, { token: 'nonsense' }), '3500 invalid token', 'nonsense for a token');
    equal(await ended(null, { token: `${await t.sign({ sub: 'ann' })}x` }), '3500 invalid token', 'a forged token');
    equal(await ended(null), '3507 permission denied', 'no token');
    equal(await ended({ sub: 'eve' }, {}, (c) => c.sdk.send(t.encode({})).catch(() => {})), '3508 not available', 'send');
    equal(await ended({ sub: 'eve' }, {}, (c) => c.sdk.publish('plain:a', t.encode('x'.repeat(70_000))).catch(() => {})),
      '3 message size limit exceeded', 'a message that is too large');
    await w.connect({ sub: 'bob' });
    equal(await ended({ sub: 'bob' }), '3504 connection limit', 'a second connection');
  },
};
