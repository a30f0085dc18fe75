// Package centrifuge is the server's side of the Centrifuge client protocol, version 2, in JSON and in Protobuf: the
// official SDKs for JavaScript, Go, Dart, Swift, Java, Python and C# speak it. The messages are in package wire.
//
// A client's commands are carried out one after another, in the order in which they came, several of them in a frame or not;
// their replies leave together, one frame for those of one message, up to 16. A subscription's reply is always on its way
// before the first publication of its channel: the hub holds these until then.
//
// What several subscribers get is encoded once for each codec. A subscriber with a delta, a tags filter or a slow policy of its
// namespace's has a small object of its own; the others are told apart by nothing, and cost what the hub's subscription does.
//
// # Ends
//
// A refusal of one command is an error in its reply. A client that breaks the protocol is disconnected, with a code
// that tells the SDK whether to come back: 3000 to 3499 say yes, 3500 to 3999 no. See codes.go.
//
// # Goroutines and locks
//
// OnOpen, OnMessage, OnWake and OnClose of a Client are called one at a time; everything that others want of a client, the
// API or the clock, is a task that OnWake carries out. Deliver may be called by any goroutine between; it touches immutable
// fields only. The roster's locks are leaves.
package centrifuge
