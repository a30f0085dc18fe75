// Package embedded is a NATS server with JetStream in this process, alone or as one of a cluster's. It is the only one that knows
// the server's package.
//
// # The data directory
//
//	lock        locked (flock) by the process that uses the directory
//	identity    what the directory is: see [identity]
//	jetstream   the server's
package embedded
