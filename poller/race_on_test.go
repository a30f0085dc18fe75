//go:build race

package poller

// raceEnabled scales the churn down, and leaves the allocation budgets to the
// build that ships: the detector allocates and empties pools at random.
const raceEnabled = true
