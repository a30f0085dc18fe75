// Package memory is the broker of a single process: it numbers the
// publications of each channel and forgets the channel with its last
// subscriber. Nothing survives the process, and nothing needs installing.
//
// # Locks
//
// Channels are spread over 64 stripes, each with a mutex. It is held while a
// publication gets its offset and while it is handed to the sink, so both
// happen in one order. Sink.Deliver only queues, so the hold is short. Other
// calls of the sink are never made from here.
package memory
