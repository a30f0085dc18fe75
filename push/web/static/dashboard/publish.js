// Publishing by the API, as a backend does.
import { ask } from './live.js';

const $ = (id) => document.getElementById(id);

function fail(field, message) {
  $('publish-error').textContent = message;
  if (field) { field.setAttribute('aria-invalid', 'true'); field.focus(); }
}

async function publish() {
  const channel = $('publish-channel'), text = $('publish-data');
  $('publish-error').textContent = '';
  $('publish-answer').hidden = true;
  channel.removeAttribute('aria-invalid');
  text.removeAttribute('aria-invalid');
  if (channel.value === '') { fail(channel, 'The channel has no name.'); return; }
  let data;
  try { data = JSON.parse(text.value); } catch (error) { fail(text, `The message is no JSON: ${error.message}`); return; }
  $('publish').disabled = true;
  try {
    const answer = await ask('../api/publish', { channel: channel.value, data });
    if (answer.error) { fail(null, `${answer.error.code}: ${answer.error.message}`); return; }
    $('publish-answer').hidden = false;
    $('publish-answer').textContent = JSON.stringify(answer);
  } catch (error) {
    fail(null, error.message);
  } finally {
    $('publish').disabled = false;
  }
}

export function preparePublish() {
  $('publish-form').addEventListener('submit', (e) => { e.preventDefault(); publish(); });
  $('publish-data').addEventListener('keydown', (e) => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); publish(); } });
}
