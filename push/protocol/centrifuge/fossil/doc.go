// Package fossil makes and applies deltas in Fossil's format: the few bytes
// that turn a channel's last publication into its next one.
//
// A delta is the target's length and a newline, then segments that make up the
// target from its begin to its end, then the target's checksum:
//
//	1G\n        the target has 80 bytes
//	10@0,       64 bytes of the source, from its byte 0
//	3:4.5       3 bytes as they stand here
//	D@12,       13 bytes of the source, from its byte 66
//	2qsgyC;     the checksum, and the end
//
// Numbers are unsigned, of 32 bits at most, in base 64 with the digits
// 0-9 A-Z _ a-z ~, the most significant first. The checksum is the sum modulo
// 2^32 of the target's big-endian 32-bit words, the last one padded with zeros.
// The format has no signature and the checksum is weak: it tells that the
// delta was made for another source, and is no defence against forgery.
//
// Source: https://www.fossil-scm.org/home/doc/tip/www/delta_format.wiki
//
// # Text
//
// Here the delta of a target in UTF-8 is in UTF-8 too, which the format does
// not ask for: it can travel inside a JSON string. The receiver works on bytes
// all the same: lengths and offsets count bytes and not characters, and a copy
// may begin inside a character of the source.
//
// # Goroutines and locks
//
// The functions are pure: any goroutine may call them. Results share no memory
// with the arguments.
package fossil
