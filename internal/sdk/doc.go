// Package sdk holds tests with the official JavaScript SDK of the Centrifuge protocol, in Node and in a browser. It has no code.
//
// cases.mjs has the cases, made of what is in harness.mjs; they know nothing of where they run. node.mjs and page.html
// run them, over JSON or Protobuf, and report to the Go test, which makes a subtest of each. What a case needs around
// the SDK it asks of the Go test by HTTP: a world, which is a server behind a network that can break, and tokens.
package sdk
