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
//	revoke_token            {"uid":"JTI"}                               → {"lasting":true}
//	invalidate_user_tokens  {"user":"42"}                               → {"lasting":true}
//	invalidate_all_tokens   {"issued_before":1700000000}                → {"lasting":true}
//	refresh         {"user":"42","expire_at":1900000000}                → {}
//	batch           {"commands":[{"publish":{…}},{"history":{…}}]}      → {"replies":[{"publish":{…}},{"error":{…}}]}
//	bulk            a line for each publish or broadcast                → {"line":1,"result":{…}}, a line for each
//
// openapi.json has all their fields, and docs/api.md says what they mean. POST /api takes lines of
// {"method":…,"params":{…}}, as older libraries send them.
//
// Data is any JSON value, or bytes in base64 as "b64data". Unknown fields are
// ignored, and so is the Content-Type: curl -d sends that of a form.
//
// A request that was understood is answered with status 200, even if it is
// refused, unless the caller wants it otherwise; the refusal is in the body, with a code of hub.Error. The status
// tells what went wrong before that: 400 for a body that is not what the method
// takes, 401 without a valid key, 403 with one that is not good for this, or for a browser's request from a foreign
// page, 404 for an unknown method, 405 for another HTTP method than POST, 408 for a body that does not come, 413
// for one that is too large, 429 and 503 for too many. Those have an error in the body too.
//
// The key comes as "X-API-Key: KEY", "Authorization: apikey KEY" or "?api_key=KEY". Neither it nor a query is ever
// logged.
//
// The package has no goroutine but those of parallel batches. Handler.accountsMu guards the accounts of keys while they
// change, logLines.mu what was logged; neither is held while anything else is called.
package api
