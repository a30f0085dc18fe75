// Package tap shows the frames of chosen connections while they run: to whoever has a key for it, as lines of JSON or as
// a capture that Wireshark opens, and to the playground the frames of its own connection.
//
// [Taps] starts captures within bounds, and says in the audit log who did. A [Filter] chooses connections, a [Redaction]
// says what of them is shown. The connections themselves notice nothing: what a capture's reader does not take in time is
// left out and counted, as package session says.
//
// The captures have synthesised TCP around the frames as they were on the wire, with an opening handshake that is made up
// if the capture began later. So they can be had of loopback, of TLS and in mid-connection.
package tap
