// Package api is the HTTP interface of application backends, in the shape of
// Centrifugo's: POST /api/METHOD with a JSON object, answered by
// {"result":{…}} or {"error":{"code":…,"message":"…"}}.
//
//	publish         {"channel":"news","data":{"n":1},"tags":{"k":"v"}}  → {"offset":1,"epoch":"…"}
//	broadcast       {"channels":["a","b"],"data":{"n":1}}               → {"responses":[{"result":{…}},{"error":{…}}]}
//	history         {"channel":"news","limit":10}                       → {"publications":[…],"epoch":"…","offset":7}
//	history_remove  {"channel":"news"}                                  → {}
//	presence        {"channel":"news"}                                  → {"presence":{"CLIENT":{"user":"42","client":"CLIENT"}}}
//	presence_stats  {"channel":"news"}                                  → {"num_clients":2,"num_users":1}
//	channels        {"pattern":"news:*"}                                → {"channels":{"news:1":{"num_clients":2}}}
//	subscribe       {"user":"42","channel":"news"}                      → {}
//	unsubscribe     {"user":"42","channel":"news"}                      → {}
//	disconnect      {"user":"42"}                                       → {}
//	info            {}                                                  → {"nodes":[{"version":"…","num_clients":2,…}]}
//	batch           {"commands":[{"publish":{…}},{"history":{…}}]}      → {"replies":[{"publish":{…}},{"error":{…}}]}
//
// publish and broadcast also take skip_history, idempotency_key, version, version_epoch and delta; history since and
// reverse; subscribe client, expire_at, info, data, recover_since and override; unsubscribe and disconnect client, and the
// latter whitelist and disconnect; batch parallel.
//
// Data is any JSON value, or bytes in base64 as "b64data". Unknown fields are
// ignored, and so is the Content-Type: curl -d sends that of a form.
//
// A request that was understood is answered with status 200, even if it is
// refused; the refusal is in the body, with a code of hub.Error. The status
// tells what went wrong before that: 400 for a body that is not what the method
// takes, 401 without a valid key, 403 for a browser's request from a foreign
// page, 404 for an unknown method, 405 for another HTTP method than POST, 413
// for a body that is too large. Those have an error in the body too.
//
// The key comes as "X-API-Key: KEY" or "Authorization: apikey KEY". It is not
// taken from the query, because URLs end up in logs.
//
// The package has no goroutine and no lock.
package api
