// Package report is what a run of the bench tool found: figures with their budgets, distributions, what happened over
// time, and where it was measured. A [Report] is written as text, as JSON that can be read again, and as a page; two
// are compared by [Compare].
//
// A scenario makes a Report, adds what it measured, and leaves nothing out: a figure that it could not measure is
// there with the reason in Missing, so that a limit on it fails and never passes silently.
package report
