// What came of the last quarter of an hour, as columns for the graphs. The server tells counters; here they become rates.
export const most = 15 * 60;
export const enough = 1000; // connections, for a share of the memory that says something
const window = 10; // samples over which quantiles are taken: few publications of one second are timed

const columns = ['connections', 'connects', 'closes', 'out', 'in', 'bytesOut', 'bytesIn', 'fanoutHalf', 'fanout', 'lag', 'perConnection', 'cpu'];

// quantile of what was counted between two snapshots of a histogram, in seconds; null if that is nothing.
export function quantile(bounds, before, after, q) {
  const total = after.count - before.count;
  if (total <= 0) return null;
  let low = 0, below = 0;
  for (let i = 0; i < bounds.length; i++) {
    const n = after.counts[i] - before.counts[i];
    if (n >= q * total) return low + (bounds[i] - low) * (n > below ? (q * total - below) / (n - below) : 0);
    low = bounds[i];
    below = n;
  }
  return low; // above the last bound
}

export class Series {
  #times = [];
  #data = Object.fromEntries(columns.map((name) => [name, []]));
  #samples = []; // of the last minute, for quantiles and for what happened within it

  bounds = [];

  // add takes figures, and returns what they are in a second, null where there is nothing to compare with.
  add(f) {
    const last = this.#samples.at(-1);
    if (last && last.uid !== f.uid) this.#samples = []; // the server is another one: its counters began anew
    const before = this.#samples.at(-1);
    if (before && f.time <= before.time) return null; // it was shown already
    const now = {};
    const span = before ? (f.time - before.time) / 1000 : 0;
    const per = (name) => (before ? Math.max(0, f[name] - before[name]) / span : null);
    const closed = (x) => Object.values(x.closed).reduce((a, b) => a + b, 0);
    now.connections = f.connections;
    now.connects = per('opened');
    now.closes = before ? Math.max(0, closed(f) - closed(before)) / span : null;
    now.out = per('messages_out');
    now.in = per('messages_in');
    now.bytesOut = per('bytes_out');
    now.bytesIn = per('bytes_in');
    now.deliveries = per('deliveries');
    now.publications = per('publications');
    const past = this.#samples.at(-window) ?? this.#samples[0];
    now.fanoutHalf = past ? quantile(this.bounds, past.fanout, f.fanout, .5) : null;
    now.fanout = past ? quantile(this.bounds, past.fanout, f.fanout, .99) : null;
    now.handlers = past ? quantile(this.bounds, past.handlers, f.handlers, .99) : null;
    now.lag = f.loop_lag;
    now.perConnection = f.connections >= enough ? f.per_connection : null;
    now.cpu = before ? 100 * (f.cpu - before.cpu) / span : null;
    if (span > 3) this.#push(before.time / 1000 + 1, {}); // nobody knows what was in between
    this.#push(f.time / 1000, now);
    this.#samples.push(f);
    while (this.#samples[0].time < f.time - 60_000) this.#samples.shift();
    return now;
  }

  #push(time, values) {
    this.#times.push(time);
    for (const name of columns) this.#data[name].push(values[name] ?? null);
    if (this.#times.length > most + 60) { // not each second
      const cut = this.#times.length - most;
      this.#times.splice(0, cut);
      for (const name of columns) this.#data[name].splice(0, cut);
    }
  }

  // table is for uPlot.
  table(names) { return [this.#times, ...names.map((name) => this.#data[name])]; }

  // closedLately counts, by reason, the connections that ended within the last minute.
  closedLately() {
    const first = this.#samples[0], last = this.#samples.at(-1);
    if (!last) return {};
    return Object.fromEntries(Object.entries(last.closed).map(([reason, n]) => [reason, n - (first.closed[reason] ?? 0)]));
  }

  get start() { return this.#times[0] ?? Date.now() / 1000; }

  get end() { return this.#times.at(-1) ?? Date.now() / 1000; }
}
