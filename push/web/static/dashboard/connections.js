// Finding connections, looking at one, and ending it.
import * as format from './format.js';
import { ask } from './live.js';
import { Table } from './table.js';

const $ = (id) => document.getElementById(id);
const values = {
  user: ['User', 'who has logged in'], id: ['Id', 'of the connection, or as its protocol calls the client'], channel: ['Channel', 'it is subscribed to'],
  address: ['Address or network', '192.0.2.7 or 192.0.2.0/24'], slow: null, any: null,
};

// client is how a connection is called.
const client = (c) => format.name(c.client || c.id);

export class Connections {
  #table; #found = []; #may = false; #chosen = null; #query = null;

  constructor() {
    const button = (row, label, testid, press, kind = '') => {
      const b = document.createElement('button');
      b.type = 'button';
      b.className = `quiet ${kind}`;
      b.textContent = label;
      b.dataset.testid = testid;
      b.setAttribute('aria-label', `${label} ${client(row)}${row.user ? `, user ${format.name(row.user)}` : ''}`);
      b.addEventListener('click', press);
      return b;
    };
    this.#table = new Table($('found'), 'Connections found', [
      { label: 'Client', name: true, text: client, title: client },
      { label: 'User', name: true, text: (c) => format.name(c.user || '–', 64), title: (c) => format.name(c.user || '') },
      { label: 'Address', name: true, text: (c) => c.address || '–' },
      { label: 'Protocol', text: (c) => c.protocol || c.path },
      { label: 'Age', numeric: true, text: (c) => format.age(c.age) },
      { label: 'Outbox', numeric: true, text: (c) => (c.outbox_messages ? `${format.bytes(c.outbox_bytes)}, ${format.seconds(c.outbox_age)}` : 'empty') },
      { label: 'Channels', numeric: true, text: (c) => format.count(c.subscriptions) },
      { label: 'Node', name: true, text: (c) => format.name(c.node_name) },
      { label: 'Actions', hidden: true, cell: (c) => {
        const both = document.createElement('div');
        both.className = 'actions';
        both.append(button(c, 'Details', 'details', () => this.details(c)));
        if (this.#may) both.append(button(c, 'Disconnect', 'disconnect', () => this.confirm(c), 'danger'));
        return both;
      } },
    ], 'None.');
    $('find-by').addEventListener('change', () => this.#label());
    $('find-form').addEventListener('submit', (e) => { e.preventDefault(); this.#find(); });
    $('details-disconnect').addEventListener('click', () => { $('details').close(); this.confirm(this.#chosen); });
    $('confirm-no').addEventListener('click', () => $('confirm').close());
    $('confirm-yes').addEventListener('click', () => this.#disconnect());
    this.#label();
  }

  set may(may) { this.#may = may; $('details-disconnect').hidden = !may; }

  // clear forgets what was found: another one looks at the page now.
  clear() {
    this.#found = [];
    $('found').hidden = true;
    $('found-note').textContent = '';
    $('details').close();
    $('confirm').close();
  }

  #label() {
    const about = values[$('find-by').value];
    $('find-value-field').hidden = about === null;
    $('find-value').required = about !== null;
    if (about) { $('find-value-label').textContent = about[0]; $('find-value').placeholder = about[1]; }
  }

  // channel finds the subscribers of one.
  channel(name) {
    $('find-by').value = 'channel';
    this.#label();
    $('find-value').value = name;
    this.#find();
    $('find-form').scrollIntoView({ block: 'start' });
    $('find-value').focus({ preventScroll: true });
  }

  async #find() {
    const by = $('find-by').value, value = $('find-value').value;
    const query = this.#query = {};
    $('find-error').textContent = '';
    $('find-value').removeAttribute('aria-invalid');
    $('find').disabled = true;
    $('found-note').textContent = 'Looking…';
    try {
      const found = await ask('find', values[by] ? { by, value } : { by });
      if (query !== this.#query) return; // another one was asked for meanwhile
      this.#show(found);
    } catch (error) {
      if (query !== this.#query) return;
      $('found-note').textContent = '';
      $('find-error').textContent = error.message;
      $('find-value').setAttribute('aria-invalid', 'true');
    } finally {
      $('find').disabled = false;
    }
  }

  #show(found) {
    this.#found = found.connections ?? [];
    $('found').hidden = false;
    const rows = this.#table.show(this.#found);
    rows.forEach((row, i) => { row.dataset.testid = 'connection'; row.dataset.id = this.#found[i].id; });
    const n = this.#found.length;
    const notes = [`${format.count(n)} connection${n === 1 ? '' : 's'}${found.more ? ' of more: ask for something narrower to see the others' : ''}.`, ...(found.errors ?? [])];
    $('found-note').textContent = notes.join(' ');
  }

  details(c) {
    this.#chosen = c;
    const facts = [
      ['Client', format.name(c.client || '–')], ['Connection', c.id], ['User', format.name(c.user || 'none')], ['Address', c.address || '–'],
      ['Protocol', `${c.protocol || '–'} at ${c.path}${c.tls ? ', TLS' : ''}`], ['User agent', format.name(c.user_agent || 'not kept')], ['Age', format.age(c.age)],
      ['Outbox', c.outbox_messages ? `${format.count(c.outbox_messages)} messages, ${format.bytes(c.outbox_bytes)}, the oldest ${format.seconds(c.outbox_age)}` : 'empty'],
      ['Node', `${format.name(c.node_name)} (${c.node})`],
    ];
    $('details-facts').replaceChildren(...facts.map(([name, text]) => {
      const line = document.createElement('div'), dt = document.createElement('dt'), dd = document.createElement('dd');
      dt.textContent = name;
      dd.textContent = text;
      line.append(dt, dd);
      return line;
    }));
    const names = (c.channels ?? []).map((name) => { const li = document.createElement('li'); li.className = 'tag channel'; li.textContent = format.name(name); return li; });
    if (c.subscriptions > names.length) { const li = document.createElement('li'); li.className = 'small'; li.textContent = `and ${format.count(c.subscriptions - names.length)} more`; names.push(li); }
    if (names.length === 0) { const li = document.createElement('li'); li.className = 'small'; li.textContent = 'none'; names.push(li); }
    $('details-channels').replaceChildren(...names);
    $('details').showModal();
  }

  confirm(c) {
    this.#chosen = c;
    $('confirm-text').textContent = `This ends the connection ${client(c)}${c.user ? ` of user ${format.name(c.user)}` : ''}, ${c.address || 'of an unknown address'}.`;
    $('confirm-error').textContent = '';
    $('confirm-yes').disabled = false;
    $('confirm').showModal();
    $('confirm-no').focus();
  }

  async #disconnect() {
    const c = this.#chosen;
    $('confirm-yes').disabled = true;
    try {
      const { disconnected } = await ask('disconnect', { node: c.node, id: c.id, reconnect: $('confirm-reconnect').checked });
      $('confirm').close();
      const note = disconnected ? `${client(c)} was disconnected.` : `${client(c)} was gone already.`;
      this.#show({ connections: this.#found.filter((other) => other !== c) });
      $('found-note').textContent = note;
      $('find-value').focus({ preventScroll: true });
    } catch (error) {
      $('confirm-error').textContent = error.message;
      $('confirm-yes').disabled = false;
    }
  }
}
