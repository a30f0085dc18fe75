// Package auth says who a client is: it verifies the tokens that a backend signs for its users, with keys from files or
// from a JWKS server, and knows which of them are revoked. It knows nothing of connections.
//
// Locks: Revocations.writing before Revocations.mu.
package auth
