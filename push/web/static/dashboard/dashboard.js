// The page: what comes from the server goes into tiles, graphs and tables.
import { Connections } from './connections.js';
import * as format from './format.js';
import { Graphs } from './graphs.js';
import { Live } from './live.js';
import { preparePublish } from './publish.js';
import { enough, Series } from './series.js';
import { Table } from './table.js';

const $ = (id) => document.getElementById(id);
const say = (id, text) => { const e = $(id); if (e.textContent !== text) e.textContent = text; };

const series = new Series();
let graphs = null; // once the board is shown: before, there is no room to draw in
const connections = new Connections();
preparePublish();

const reasons = new Table($('reasons'), 'Why connections ended', [
  { label: 'Reason', text: (r) => r.reason.replaceAll('_', ' ') },
  { label: 'Last minute', numeric: true, text: (r) => format.count(r.lately), bar: (r) => r.share },
  { label: 'Since the start', numeric: true, text: (r) => format.count(r.total) },
], 'None has ended yet.');

const busiest = new Table($('busiest'), 'Busiest channels', [
  { label: 'Channel', name: true, cell: (c) => {
    const b = document.createElement('button');
    b.type = 'button';
    b.className = 'link';
    b.textContent = format.name(c.name);
    b.title = `Find the subscribers of ${format.name(c.name)}`;
    b.addEventListener('click', () => connections.channel(c.name));
    return b;
  } },
  { label: 'Messages/s', numeric: true, text: (c) => format.rate(c.messages) },
  { label: 'Deliveries/s', numeric: true, text: (c) => format.rate(c.deliveries) },
  { label: 'Data/s', numeric: true, text: (c) => format.bytes(c.bytes) },
  { label: 'Subscribers', numeric: true, text: (c) => format.count(c.subscribers) },
], 'Nothing is published.');

const nodes = new Table($('nodes'), 'Nodes', [
  { label: 'Node', name: true, text: (n) => format.name(n.name || n.uid), title: (n) => n.uid },
  { label: 'Connections', numeric: true, text: (n) => format.count(n.connections) },
  { label: 'Channels', numeric: true, text: (n) => format.count(n.channels) },
  { label: 'Memory', numeric: true, text: (n) => format.bytes(n.resident) },
  { label: 'CPU, mean', numeric: true, text: (n) => format.percent(n.cpu) },
  { label: 'Up', numeric: true, text: (n) => format.age(n.uptime) },
  { label: 'Version', name: true, text: (n) => n.version || '–' },
], 'None.');

function showReasons(f) {
  const lately = series.closedLately();
  const rows = Object.entries(f.closed).map(([reason, total]) => ({ reason, total, lately: lately[reason] ?? 0 }));
  rows.sort((a, b) => b.lately - a.lately || b.total - a.total || a.reason.localeCompare(b.reason));
  const largest = Math.max(1, ...rows.map((r) => r.lately));
  for (const r of rows) r.share = r.lately / largest;
  reasons.show(rows);
  const dropped = Object.values(f.dropped ?? {}).reduce((a, b) => a + b, 0);
  say('reasons-note', dropped ? `${format.count(dropped)} messages given up for full outboxes` : '');
}

let shownBusiest = '';
function showBusiest(f) {
  const list = f.busiest ?? [];
  // The buttons of the names are made anew only if there are others: one may have the focus.
  const names = JSON.stringify(list.map((c) => c.name));
  if (names === shownBusiest || !$('busiest').contains(document.activeElement)) {
    busiest.show(names === shownBusiest ? list : (shownBusiest = names, list));
  }
}

function showTiles(f, now) {
  say('figure-connections', format.count(f.connections));
  say('figure-connections-more', f.most_connections ? `of ${format.count(f.most_connections)} at most` : `${format.count(f.users)} users, ${format.count(f.subscriptions)} subscriptions`);
  say('figure-connects', `${format.rate(now.connects)}/s`);
  say('figure-connects-more', `${format.rate(now.closes)}/s ended${f.refused ? `, ${format.count(f.refused)} refused` : ''}`);
  say('figure-out', `${format.rate(now.out)}/s`);
  say('figure-out-more', `${format.bytes(now.bytesOut)}/s`);
  say('figure-in', `${format.rate(now.in)}/s`);
  say('figure-in-more', `${format.bytes(now.bytesIn)}/s`);
  say('figure-fanout', format.seconds(now.fanout));
  say('figure-fanout-more', now.fanout === null ? 'nothing timed lately' : `${format.seconds(now.fanoutHalf)} at 50 %`);
  say('figure-lag', format.seconds(now.lag));
  say('figure-lag-more', f.outbox_sessions ? `${format.bytes(f.outbox_bytes)} wait for ${format.count(f.outbox_sessions)}, ${format.seconds(f.outbox_age)}` : 'no outbox has anything');
  say('figure-memory', format.bytes(f.resident));
  say('figure-memory-more', f.connections >= enough ? `${format.bytes(f.per_connection)} a connection` : 'too few connections for a share');
  say('figure-cpu', format.percent(now.cpu));
  say('figure-cpu-more', `${format.count(f.goroutines)} goroutines`);
}

function showFigures(f) {
  const now = series.add(f);
  if (!now) return;
  say('node-name', format.name(f.node || f.uid));
  say('node-about', `${f.version ? `${f.version}, ` : ''}up ${format.age(f.uptime)}${f.draining ? ', draining' : ''}`);
  document.title = `${format.count(f.connections)} · millpond`;
  if (!document.hidden) {
    showTiles(f, now);
    showReasons(f);
    showBusiest(f);
    nodes.show(f.nodes ?? []);
    const sum = (f.nodes ?? []).reduce((n, node) => n + node.connections, 0);
    say('nodes-note', f.nodes?.length > 1 ? `${format.count(sum)} connections on ${format.count(f.nodes.length)} nodes` : 'alone');
  }
  graphs?.draw();
}

const live = new Live({
  state(name, words) {
    const login = name === 'login';
    $('status').dataset.state = name;
    document.body.dataset.state = name;
    // A screen reader is told of changes, not of each second that figures grow older.
    say('status-text', login ? 'not logged in' : words);
    $('login').hidden = !login;
    if (login) {
      $('board').hidden = true;
      $('logout').hidden = true;
      connections.clear();
      $('login-error').textContent = words;
      $('login-key').value = '';
      $('login-key').focus();
    }
  },
  session(s) {
    series.bounds = s.bounds;
    connections.may = s.may_disconnect;
    $('publish-panel').hidden = !s.may_publish;
    $('logout').hidden = !live.hasKey;
    $('logout').title = `Key ${s.key}`;
    $('board').hidden = false;
    if (!graphs) { graphs = new Graphs(series); setSpan(); }
  },
  figures: showFigures,
});

$('login-form').addEventListener('submit', (e) => { e.preventDefault(); $('login-error').textContent = ''; live.login($('login-key').value.trim()); });
$('logout').addEventListener('click', () => live.logout());

function setSpan() { graphs.span = Number(document.querySelector('input[name=window]:checked').value); }
for (const input of document.querySelectorAll('input[name=window]')) input.addEventListener('change', setSpan);

function pause() {
  if (!graphs) return;
  graphs.paused = !graphs.paused;
  $('pause').setAttribute('aria-pressed', String(graphs.paused));
  $('pause').textContent = graphs.paused ? 'Go on' : 'Pause';
  graphs.draw();
}
$('pause').addEventListener('click', pause);
document.addEventListener('visibilitychange', () => graphs?.draw());

// Keys: single letters, which those who dictate or whose keyboard is in the way can turn off.
const keysOff = 'millpond-dashboard-keys-off';
try { $('keys-enabled').checked = localStorage.getItem(keysOff) !== '1'; } catch { /* they are on */ }
$('keys-enabled').addEventListener('change', () => { try { $('keys-enabled').checked ? localStorage.removeItem(keysOff) : localStorage.setItem(keysOff, '1'); } catch { /* not kept */ } });
$('help').addEventListener('click', () => $('keys').showModal());
const press = {
  '/': () => { $('find-form').scrollIntoView({ block: 'center' }); ($('find-value-field').hidden ? $('find-by') : $('find-value')).focus({ preventScroll: true }); },
  p: () => { if (!$('publish-panel').hidden) { $('publish-panel').scrollIntoView({ block: 'center' }); $('publish-channel').focus({ preventScroll: true }); } },
  1: () => $('window-60').click(), 2: () => $('window-300').click(), 3: () => $('window-900').click(),
  ' ': pause, t: () => $('theme').click(), '?': () => $('keys').showModal(),
};
document.addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.isComposing || document.querySelector('dialog[open]')) return;
  const field = e.target.closest('input:not([type=radio]), textarea, select');
  if (field) { if (e.key === 'Escape') field.blur(); return; }
  if (e.key === ' ' && e.target.closest('button, a, [tabindex="0"], input')) return; // it is theirs
  const act = press[e.key];
  if (!act || $('board').hidden || !$('keys-enabled').checked) return;
  e.preventDefault();
  act();
});

live.start();
