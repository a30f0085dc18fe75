// Package pool runs functions on a bounded number of goroutines that ants recycles.
// It knows nothing of sessions: a [Pool] runs tasks, and an [Inbox] is an ordered
// queue of byte records whose owner is one such task, so that the messages of one
// owner are handled one after another and those of different owners in parallel.
//
// A few workers for each core take all tasks while these do not block. When tasks wait and none has ended for a
// millisecond, the workers are taken to be blocked, and their number doubles, up to the bound; when tasks end but others
// wait too long all the same, there is one more. Idle workers end. A Pool has one timer for it, armed only while tasks wait.
//
// Locks: Pool.mu and Inbox.mu are leaves. Nothing is called under either.
package pool
