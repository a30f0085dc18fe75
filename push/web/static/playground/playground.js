// The connection: one WebSocket at a time, its readyState as it is at this
// moment, and the controls that follow it.

import { fault, meaning } from './close.js';
import { parse } from './hex.js';
import * as inspector from './inspector.js';
import * as log from './log.js';
import * as push from './push.js';

const byId = (id) => document.getElementById(id);
const names = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];
const hints = {
  echo: 'The server sends every message back. Open, send, and watch it return.',
  push: 'Subscribe to a channel: what is published to it arrives here, in order.',
};
const firstMessages = { echo: 'Hello, pond!', push: '{"type":"ping","id":"p1"}' };

const url = byId('url');
const message = byId('message');
let socket = null;
let shownState = 'none';
let watch = 0;
let mode = 'echo';
let opening = false; // the inspector is being asked, before the socket is opened

// state is the socket's readyState, or 'none' before the first socket.
const state = () => (socket ? socket.readyState : 'none');

// showState brings the page to the socket's readyState. No event tells of
// CLOSING when the server begins it, so a timer looks too while there is a
// connection; the log keeps the states that are too short to see.
function showState() {
  const now = state();
  if (now === shownState) return;
  log.local('state', `readyState ${now} ${names[now]}`);
  shownState = now;
  byId('ready-state').dataset.state = now;
  byId('ready-state-number').textContent = now;
  byId('ready-state-name').textContent = names[now];
  for (const step of document.querySelectorAll('.track li')) {
    step.classList.toggle('now', step.dataset.step === String(now));
    step.classList.toggle('past', Number(step.dataset.step) < now);
  }
  showControls();
}

function showControls() {
  const now = state();
  const idle = now === 'none' || now === WebSocket.CLOSED;
  const open = now === WebSocket.OPEN;
  byId('open').disabled = !idle || opening;
  url.readOnly = !idle;
  for (const radio of document.getElementsByName('mode')) radio.disabled = !idle;
  byId('close').disabled = !(open || now === WebSocket.CONNECTING);
  for (const id of ['send', 'subscribe', 'unsubscribe', 'publish', 'login']) byId(id).disabled = !open;
}

async function openSocket() {
  connectionError('');
  opening = true;
  showControls();
  const address = await inspector.prepare(url.value.trim());
  opening = false;
  let opened;
  try {
    opened = new WebSocket(address);
  } catch (error) {
    showControls();
    connectionError(error.message);
    url.setAttribute('aria-invalid', 'true');
    return;
  }
  socket = opened;
  socket.binaryType = 'arraybuffer';
  push.reset();
  byId('last-close').hidden = true;
  log.local('open', `new WebSocket("${socket.url}")`);
  socket.addEventListener('open', isOpen);
  socket.addEventListener('message', arrived);
  socket.addEventListener('error', failed);
  socket.addEventListener('close', closed);
  clearInterval(watch);
  watch = setInterval(showState, 50);
  showState();
}

function isOpen() {
  showState();
  if (socket.protocol) log.local('open', `subprotocol ${socket.protocol}`);
  if (socket.extensions) log.local('open', `extensions ${socket.extensions}`);
}

function arrived(event) {
  showState();
  if (typeof event.data !== 'string') {
    log.binary('received', new Uint8Array(event.data));
    return;
  }
  log.text('received', event.data);
  if (mode === 'push') push.receive(event.data);
}

// failed has no cause to tell: browsers keep it from pages.
function failed() {
  log.local('error', 'The connection failed. The browser tells a page no more; the server’s log and the developer tools may.');
  showState();
}

function closed(event) {
  clearInterval(watch);
  showState();
  push.reset();
  const { code, reason, wasClean } = event;
  log.local('close', `closed with ${code} (${meaning(code)})${reason ? `, reason “${reason}”` : ''}, wasClean ${wasClean}`);
  byId('last-close-code').textContent = code;
  byId('last-close-meaning').textContent = meaning(code);
  byId('last-close-reason').textContent = reason || 'none given';
  byId('last-close-reason').classList.toggle('faint', !reason);
  byId('last-close-clean').textContent = wasClean;
  byId('last-close').hidden = false;
}

function closeSocket() {
  const code = Number(byId('close-code').value);
  const reason = byId('close-reason').value;
  const wrong = fault(code, reason);
  connectionError(wrong);
  byId('close-code').setAttribute('aria-invalid', wrong ? 'true' : 'false');
  if (wrong) return;
  log.local('close', `close(${code}${reason ? `, "${reason}"` : ''})`);
  socket.close(code, reason);
  showState();
}

function connectionError(what) {
  byId('connection-error').textContent = what;
  if (!what) url.setAttribute('aria-invalid', 'false');
}

// sendText sends a text message and logs it as shown.
function sendText(text, shown = text) {
  if (state() !== WebSocket.OPEN) return;
  socket.send(text);
  log.text('sent', text, shown);
}

function sendHex(hex) {
  let bytes;
  try {
    bytes = parse(hex);
  } catch (error) {
    byId('message-error').textContent = error.message;
    message.setAttribute('aria-invalid', 'true');
    return;
  }
  socket.send(bytes);
  log.binary('sent', bytes);
}

function sendMessage() {
  byId('message-error').textContent = '';
  message.setAttribute('aria-invalid', 'false');
  if (byId('message-hex').checked) sendHex(message.value);
  else sendText(message.value);
  message.focus();
}

// defaultURL is the endpoint beside this page, so that it holds behind a proxy's
// path as well.
function defaultURL(forMode) {
  const endpoint = new URL(forMode, location.href);
  endpoint.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  endpoint.hash = endpoint.search = '';
  return endpoint.href;
}

// setMode shows one mode. What a person has typed into the URL or the message
// stays.
function setMode(next) {
  if (url.value === '' || url.value === defaultURL(mode)) url.value = defaultURL(next);
  if (message.value === '' || message.value === firstMessages[mode]) message.value = firstMessages[next];
  mode = next;
  byId(`mode-${mode}`).checked = true;
  byId('mode-hint').textContent = hints[mode];
  byId('push-panel').hidden = byId('login-panel').hidden = mode !== 'push';
  byId('message-panel').open = mode === 'echo';
  byId('message-hint').textContent = mode === 'push' ? 'a frame of your own' : '';
}

// submit wires a form's action. Its button decides whether it may run: Enter in a
// field submits a form whose button is disabled in no browser, but a script may.
function submit(formId, buttonId, action) {
  byId(formId).addEventListener('submit', (event) => {
    event.preventDefault();
    if (!byId(buttonId).disabled) action();
  });
}

submit('open-form', 'open', openSocket);
submit('close-form', 'close', closeSocket);
submit('send-form', 'send', sendMessage);
push.attach(sendText);
inspector.attach(() => socket !== null && socket.readyState !== WebSocket.CLOSED);

// Enter in a text box sends its form; with Shift it stays a new line. While an
// input method composes, Enter belongs to it.
for (const box of document.querySelectorAll('textarea')) {
  box.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    box.form.requestSubmit();
  });
}

for (const radio of document.getElementsByName('mode')) {
  radio.addEventListener('change', () => {
    setMode(radio.value);
    history.replaceState(null, '', radio.value === 'push' ? '#push' : location.pathname + location.search);
  });
}

setMode(location.hash === '#push' ? 'push' : 'echo');
showControls();
