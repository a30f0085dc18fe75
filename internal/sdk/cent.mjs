// Calls the API with cent.js, a library of Centrifugo's API: node cent.mjs URL KEY. It prints a line of JSON for each call.
import cent from 'cent.js';

const [url, key] = process.argv.slice(2);
const client = new cent.CentClient({ url: `${url}/api`, apiKey: key });
const print = async (name, call) => {
  try {
    console.log(JSON.stringify({ name, result: await call() }));
  } catch (e) {
    console.log(JSON.stringify({ name, error: JSON.stringify(e.message) }));
  }
};

await print('publish', () => client.publish({ channel: 'news:js', data: { n: 1 }, tags: { k: 'v' } }));
await print('broadcast', () => client.broadcast({ channels: ['news:js', 'plain:js'], data: { n: 2 }, skip_history: false }));
await print('publish to nowhere', () => client.publish({ channel: 'none:js', data: {} }));
await print('history', () => client.getHistory({ channel: 'news:js', limit: 10, reverse: true }));
await print('presence', () => client.getPresence({ channel: 'room:js' }));
await print('presence stats', () => client.getPresenceStats({ channel: 'room:js' }));
await print('channels', () => client.getChannels({ pattern: '*' }));
await print('info', () => client.getInfo());
await print('subscribe', () => client.subscribe({ user: 'u', channel: 'news:js' }));
await print('unsubscribe', () => client.unsubscribe({ user: 'u', channel: 'news:js' }));
await print('refresh', () => client.refresh({ user: 'u' }));
await print('disconnect', () => client.disconnect({ user: 'u' }));
await print('pipeline', () => client.pipeline([
  { method: 'publish', params: { channel: 'news:js', data: { n: 3 } } },
  { method: 'presence_stats', params: { channel: 'room:js' } },
]));
await print('history remove', () => client.removeHistory({ channel: 'news:js' }));
