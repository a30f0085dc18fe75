// The graphs: uPlot on canvases, with a legend of our own that says the values in words.
import * as format from './format.js';

const { uPlot } = globalThis;

const kinds = [
  { id: 'graph-connections', title: 'Connections', say: format.count, lines: [['connections', 'open', 'accent']] },
  { id: 'graph-connects', title: 'Comings and goings, per second', say: format.rate, lines: [['connects', 'connects', 'accent'], ['closes', 'ended', 'wait']] },
  { id: 'graph-messages', title: 'Messages per second', say: format.rate, lines: [['out', 'out', 'accent'], ['in', 'in', 'sent']] },
  { id: 'graph-bytes', title: 'Bytes per second', say: format.bytes, lines: [['bytesOut', 'out', 'accent'], ['bytesIn', 'in', 'sent']], binary: true },
  { id: 'graph-latency', title: 'Latency', say: format.seconds, lines: [['fanout', 'fan-out 99 %', 'accent'], ['fanoutHalf', '50 %', 'sent'], ['lag', 'loop lag', 'wait']] },
  { id: 'graph-process', title: 'Memory per connection', say: format.bytes, lines: [['perConnection', 'bytes', 'accent']], binary: true,
    more: { title: 'CPU', say: format.percent, line: ['cpu', 'CPU', 'wait'] } },
];
const dashes = [[], [5, 3], [1, 3]]; // told apart without colours, too

// A colour of the style sheet as a canvas wants it; it changes with the theme.
const probe = document.createElement('i');
probe.hidden = true;
document.body.append(probe);
const colours = new Map();
function colour(name) {
  if (!colours.has(name)) {
    probe.style.color = `var(--${name})`;
    colours.set(name, getComputedStyle(probe).color);
  }
  return colours.get(name);
}

// clock is the time of day, as the reader's place has it, with 24 hours.
const two = (n) => String(n).padStart(2, '0');
function clock(seconds, exact) {
  const d = new Date(seconds * 1000);
  return `${two(d.getHours())}:${two(d.getMinutes())}${exact ? `:${two(d.getSeconds())}` : ''}`;
}

// Steps of an axis of bytes, by which its labels are round.
const binarySteps = [];
for (let n = 1; n < 2 ** 50; n *= 2) binarySteps.push(n);

class Graph {
  #plot; #kind; #values; #figure; #names;
  #cursor = null;

  constructor(kind, series) {
    this.#kind = kind;
    this.#figure = document.getElementById(kind.id);
    this.series = series;
    const lines = kind.more ? [...kind.lines, kind.more.line] : kind.lines;
    this.#names = lines.map(([name]) => name);
    const caption = document.createElement('figcaption');
    const title = document.createElement('span');
    title.className = 'graph-title';
    title.textContent = kind.more ? `${kind.title}, ${kind.more.title}` : kind.title;
    const legend = document.createElement('ul');
    legend.className = 'legend';
    this.#values = lines.map(([, label, tone], i) => {
      const item = document.createElement('li'), mark = document.createElement('i'), value = document.createElement('b');
      mark.className = `line-${i} tone-${tone}`;
      item.append(mark, `${label} `, value);
      legend.append(item);
      return value;
    });
    caption.append(title, legend);
    const frame = document.createElement('div');
    frame.className = 'plot';
    frame.setAttribute('role', 'img');
    this.frame = frame;
    this.#figure.append(caption, frame);
    const axis = { stroke: () => colour('ink-soft'), grid: { stroke: () => colour('line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    const values = (say) => (_, ticks) => ticks.map((v) => (v === null ? '' : say(v)));
    this.#plot = new uPlot({
      width: 320, height: 150, legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { sync: { key: 'pond' }, drag: { x: false, y: false }, points: { size: 6 }, y: false },
      hooks: { setCursor: [(u) => { this.#cursor = u.cursor.left >= 0 ? u.cursor.idx : null; this.#say(); }] },
      scales: {
        x: { time: true, range: () => [Math.max(series.end - this.span, Math.min(series.start, series.end - 60)), series.end] },
        y: { range: (_, low, high) => [0, Math.max(high ?? 0, kind.say === format.seconds ? 1e-3 : 1) * 1.1] },
        z: { range: (_, low, high) => [0, Math.max(high ?? 0, 10) * 1.1] },
      },
      axes: [
        { ...axis, space: 70, size: 26, values: (_, times, __, ___, step) => times.map((t) => clock(t, step < 60)) },
        { ...axis, size: 64, values: values(kind.say), ...(kind.binary ? { incrs: binarySteps } : {}) },
        ...(kind.more ? [{ ...axis, scale: 'z', side: 1, size: 46, grid: { show: false }, values: values(kind.more.say) }] : []),
      ],
      series: [
        {},
        ...lines.map(([, label, tone], i) => ({
          label, scale: kind.more && i === lines.length - 1 ? 'z' : 'y', stroke: () => colour(tone), width: 2, dash: dashes[i], points: { show: false }, spanGaps: false,
          ...(i === 0 ? { fill: () => colour('wash') } : {}),
        })),
      ],
    }, series.table(this.#names), frame);
  }

  span = 300;

  resize() {
    const width = this.frame.clientWidth;
    if (width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: 150 });
  }

  draw() {
    this.#plot.setData(this.series.table(this.#names), true);
    this.#say();
  }

  repaint() { this.#plot.redraw(false, true); }

  #say() {
    const table = this.series.table(this.#names), last = table[0].length - 1;
    const at = this.#cursor !== null && this.#cursor <= last ? this.#cursor : last;
    const { more, lines } = this.#kind;
    this.#values.forEach((value, i) => {
      const text = (more && i === lines.length ? more.say : this.#kind.say)(at >= 0 ? table[i + 1][at] : null);
      if (value.textContent !== text) value.textContent = text;
    });
  }

  // describe says for a screen reader what is to be seen: from what to what, and the latest.
  describe() {
    const [times, ...all] = this.series.table(this.#names), from = this.series.end - this.span, { more, lines, title, say } = this.#kind;
    const texts = all.map((column, i) => {
      const [label, words] = more && i === lines.length ? [more.title, more.say] : [lines[i][1], say];
      const seen = column.filter((v, j) => v !== null && times[j] >= from);
      return seen.length ? `${label} ${words(seen.at(-1))}, between ${words(Math.min(...seen))} and ${words(Math.max(...seen))}` : `${label} not known`;
    });
    this.frame.setAttribute('aria-label', `${title}: ${texts.join('; ')}`);
  }
}

export class Graphs {
  #graphs = [];
  #described = 0;
  paused = false;

  constructor(series) {
    this.#graphs = kinds.map((kind) => new Graph(kind, series));
    new ResizeObserver(() => this.#graphs.forEach((g) => g.resize())).observe(document.querySelector('.graphs'));
    const repaint = () => { colours.clear(); this.#graphs.forEach((g) => g.repaint()); };
    new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ['data-theme'] });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
  }

  set span(s) {
    for (const g of this.#graphs) { g.span = s; g.draw(); g.describe(); }
  }

  draw() {
    if (this.paused || document.hidden) return;
    for (const g of this.#graphs) g.draw();
    if (Date.now() - this.#described > 10_000) {
      this.#described = Date.now();
      for (const g of this.#graphs) g.describe();
    }
  }
}
