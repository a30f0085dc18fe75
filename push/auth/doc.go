// Package auth says who a client is: it verifies the tokens that a backend signs for
// its users. It knows nothing of connections.
package auth
