//go:build race

package session

// raceEnabled scales the churn down.
const raceEnabled = true
