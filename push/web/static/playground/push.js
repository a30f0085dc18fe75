// The plain push protocol at /push: one JSON object per text frame, in both
// directions; replies echo the command's id.

import { parse } from './json.js';

const byId = (id) => document.getElementById(id);
const channel = byId('channel');
const chips = byId('subscriptions');
const chipsNone = byId('subscriptions-none');
const apiAddress = 'http://127.0.0.1:8001';
const maxPending = 100;

let send = () => {};
let nextId = 1;
const pending = new Map(); // id → {type, channel}, the commands without a reply yet
const subscribed = new Set();

// attach tells how a command leaves: write(message, shown) sends message and logs shown.
export function attach(write) {
  send = write;
}

// reset forgets what belonged to the last connection.
export function reset() {
  nextId = 1;
  pending.clear();
  subscribed.clear();
  showSubscribed();
}

// receive follows a message from the server to learn what is subscribed. What it
// does not know it leaves alone: the log shows everything.
export function receive(message) {
  let value;
  try { value = JSON.parse(message); } catch { return; }
  if (value === null || typeof value !== 'object') return;
  if (value.type === 'message' && typeof value.channel === 'string') {
    mark(value.channel, true);
    return;
  }
  const command = pending.get(value.id);
  if (!command) return;
  pending.delete(value.id);
  const refused = value.type === 'error' || value.ok === false;
  if (refused) return;
  if (command.type === 'subscribe') mark(command.channel, true);
  if (command.type === 'unsubscribe') mark(command.channel, false);
}

// command sends one command. secret names a payload field that the log must not show.
function command(type, payload, secret) {
  const id = nextId++;
  pending.set(id, { type, channel: payload.channel });
  if (pending.size > maxPending) pending.delete(pending.keys().next().value);
  const shown = secret ? { ...payload, [secret]: '••••••' } : payload;
  send(JSON.stringify({ type, id, payload }), JSON.stringify({ type, id, payload: shown }));
}

function mark(name, isSubscribed) {
  if (subscribed.has(name) === isSubscribed) return;
  if (isSubscribed) subscribed.add(name);
  else subscribed.delete(name);
  showSubscribed();
}

function showSubscribed() {
  chips.replaceChildren(...[...subscribed].map(chip));
  chipsNone.hidden = subscribed.size > 0;
}

function chip(name) {
  const item = document.createElement('li');
  item.dataset.testid = 'subscription';
  item.dataset.channel = name;
  const text = document.createElement('span');
  text.textContent = name;
  const remove = document.createElement('button');
  remove.type = 'button';
  remove.dataset.testid = 'subscription-remove';
  remove.setAttribute('aria-label', `Unsubscribe from ${name}`);
  remove.textContent = '×';
  remove.addEventListener('click', () => command('unsubscribe', { channel: name }));
  item.append(text, remove);
  return item;
}

// channelName returns the field's channel, or '' after it has said what is wrong.
function channelName() {
  const name = channel.value.trim();
  byId('channel-error').textContent = name ? '' : 'Name a channel first.';
  channel.setAttribute('aria-invalid', name ? 'false' : 'true');
  if (!name) channel.focus();
  return name;
}

byId('channel-form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (byId('subscribe').disabled) return;
  const name = channelName();
  if (name) command('subscribe', { channel: name });
});

byId('unsubscribe').addEventListener('click', () => {
  const name = channelName();
  if (name) command('unsubscribe', { channel: name });
});

const publishData = byId('publish-data');

// publication returns the JSON of the publish box, or undefined when it is none.
function publication() {
  try {
    const data = parse(publishData.value);
    byId('publish-error').textContent = '';
    publishData.setAttribute('aria-invalid', 'false');
    return data;
  } catch (error) {
    byId('publish-error').textContent = `Not JSON: ${error.message}`;
    publishData.setAttribute('aria-invalid', 'true');
    return undefined;
  }
}

byId('publish-form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (byId('publish').disabled) return;
  const name = channelName();
  const data = name ? publication() : undefined;
  if (data !== undefined) command('publish', { channel: name, data });
});

function loginBy() {
  const byToken = byId('login-by-token').checked;
  byId('token-field').hidden = !byToken;
  byId('username-field').hidden = byToken;
  byId('password-field').hidden = byToken;
  return byToken;
}
for (const id of ['login-by-token', 'login-by-password']) byId(id).addEventListener('change', loginBy);

byId('login-form').addEventListener('submit', (event) => {
  event.preventDefault();
  if (byId('login').disabled) return;
  if (loginBy()) command('login', { token: byId('token').value }, 'token');
  else command('login', { username: byId('username').value, password: byId('password').value }, 'password');
});

// The curl line follows the two fields, so that what is copied is what is meant.
// Inside single quotes a shell leaves everything alone but the quote itself.
function showCurl() {
  let data;
  try { data = parse(publishData.value); } catch { data = { n: 1 }; }
  const body = JSON.stringify({ channel: channel.value.trim() || 'news', data }).replaceAll("'", String.raw`'\''`);
  byId('curl').textContent = `curl -X POST ${apiAddress}/api/publish -d '${body}'`;
}
channel.addEventListener('input', showCurl);
publishData.addEventListener('input', showCurl);

const copy = byId('curl-copy');
copy.addEventListener('click', async () => {
  const copied = await copyText(byId('curl'));
  copy.textContent = copied ? 'Copied' : 'Press Ctrl C';
  setTimeout(() => { copy.textContent = 'Copy'; }, 1600);
});

// copyText copies a node's text. Off localhost and without TLS a page has no
// clipboard; the text is then selected, for the person to copy.
async function copyText(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(node);
    return false;
  }
}

showCurl();
loginBy();
showSubscribed();
