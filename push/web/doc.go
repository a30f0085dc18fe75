// Package web holds the pages that the binary carries inside it: the playground,
// a WebSocket client to try the server with.
//
// A page is plain HTML, CSS and JavaScript modules under static/, without a build
// step and without anything from elsewhere. The ids in its HTML are a contract
// with tests and scripts; the comment at the top of index.html lists them.
//
// Nothing here holds state: a handler may be used by any number of goroutines.
package web
