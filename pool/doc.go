// Package pool runs functions on a bounded number of goroutines that ants recycles.
// It knows nothing of sessions: a [Pool] runs tasks, and an [Inbox] is an ordered
// queue of byte records whose owner is one such task, so that the messages of one
// owner are handled one after another and those of different owners in parallel.
//
// Locks: Pool.mu and Inbox.mu are leaves. Nothing is called under either.
package pool
