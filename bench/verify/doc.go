// Package verify says whether a subscriber got what was published: it makes messages that know who published them,
// where, when and as which of how many, and follows those that arrive.
//
// A [Stamp] makes a message and reads it back. A [Track] follows one channel as one subscriber sees it, and adds what
// it finds to [Counts]: lost, doubled, reordered, by the publishers' numbers and by the server's offsets, each by
// itself; changed; of another channel.
//
// The package knows no protocol and no connection. Nothing in it locks; a value belongs to one goroutine at a time.
package verify
