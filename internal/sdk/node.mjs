// Runs the cases in Node: node node.mjs URL json|protobuf
import WebSocket from 'ws';

import { cases } from './cases.mjs';
import { run } from './harness.mjs';

const [url, codec] = process.argv.slice(2);
const { Centrifuge } = await import(codec === 'protobuf' ? 'centrifuge/build/protobuf' : 'centrifuge');
await run(cases, { url, codec, Centrifuge, websocket: WebSocket });
