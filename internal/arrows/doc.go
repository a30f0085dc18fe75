// Package arrows holds one test: which package may import which. It has no code.
package arrows
