// Package logs writes the lines that tell who did what: the audit log and the access log. A line is one record with fixed
// keys, which docs/logs.md lists; nothing that a user has made up can end it or begin another. Writing never blocks and
// never fails for the one who has something to tell: what a full disk does not take is counted.
//
// [Repeats] is for the server's own log.
package logs
