// Package bench loads a WebSocket server and says what it costs. Its connections are driven by the same poller as
// the server's: one small struct each, without a goroutine, a timer or a buffer, so that the load generator is not
// what is measured. All loads are bounded and end by themselves; so does every wait for the server
// ([Options].Timeout).
//
// # Scenarios
//
// [Connect] measures what a storm of connects does, [Handshakes] what TLS costs, [Idle] what an open connection
// costs in memory and CPU, [Echo] what a message does, and [Slow] what clients that do not read cost the others.
// Each checks every byte that comes back.
//
// [Fanout], [Personal], [Churn], [Recover], [Drain] and [Mixed] publish to subscribers over the server's API, and
// [Publishing] publishes to nobody. Their subscribers are a crowd (crowd.go, subscriber.go): a job whose
// connections come and go as a [Behaviour] says, each of which checks all that it gets by package verify.
// Publishers are a press (press.go), in the scenario's process, which knows where each channel has come to.
//
// # How a scenario is written
//
// A [Scenario] is a struct with the flags that are its own. [Measure] calls its Prepare, which fills in the
// defaults of the common [Options] and says what of them makes no sense (Options.Speak: which protocols;
// Options.Allow: which flags), and what its own server needs (Options.Target's Flags and Config). Then there is a
// server, and Run is called with a [Run]. That
//
//   - makes the load: Run.newCrew starts a crew, which is one part in this process, or several in others if the
//     limit on open files or the user asks for that. What a part does is a job, registered by name in jobs
//     (part.go): it carries out orders, which a scenario gives with crew.order by a name and arguments that go
//     through JSON. Crews of several jobs may run beside each other.
//   - counts: a job counts with part.counter(name), part.latency(name).record and part.faults; a scenario reads all
//     of it with Run.take, which returns what was counted since the last take, of all parts, so that a phase is
//     what lies between two takes. Faults become the report's errors by that.
//   - measures the server and the load itself with Run.mark before and mark.costs after.
//   - tells what it does (Run.stage), when the warm-up is over (Run.recording), and what it found (Run.Report,
//     Run.latencyFigures, Run.costFigures, Run.addMedian): figures, and nothing else. Series over time and progress
//     come by themselves.
//
// Run returns soon when ctx ends, with the figures of what was done. It need not close its crews.
//
// A connection is a speaker (speaker.go) with a listener: embed the one and implement the other. It speaks what the
// part's dialect does, which is made of the Options. The part's fleet opens them (fleet.grow: rate, ramp, sources,
// time limits); the listener calls fleet.opened when a connection is ready, fleet.settle when it has all that grow
// waits for, and fleet.left when it is closed. load.go is the example, of echoes.
//
// # Locks
//
// crew.mu, orders.mu, part.mu, fleet.mu, faults.mu and those of latencies are leaves, except that part.mu is held
// while latencies are collected, and crew.mu while parts are.
package bench
