// Empty on purpose: a package with an assembly file may declare functions
// without a body, which netpoll.go needs for its linkname.
