// Package journal is a queue of records in files: what was appended outlives the process, is read in order, and goes when its reader
// has acknowledged it.
//
// # Files
//
// A directory belongs to one process at a time, which has its file "lock" locked (flock). Records are in segments,
// named by the number of their first record, "position" has the number of the last that was acknowledged, and
// "checkpoint" the records that Checkpoint was given. Segments are only ever appended to; the two others are replaced as a whole.
//
// A record counts once it is synced: not before is it given to the reader. The records of a sync interval share one
// fsync. What is torn at the end of a file, or damaged, is found by a checksum; it costs the rest of its segment, a line in the
// log and a count, and never more than that.
//
// # Bounds
//
// What waits for the reader is bounded in bytes. When it is more, the oldest segment is given up, for the newest records are
// those that tell the present. Append never waits: while the disk hangs or is full, records wait in memory, bounded too.
// A segment that was acknowledged or given up stays until a checkpoint covers it.
//
// # Why not a library
//
// Those that are kept up have no checksums (tidwall/wal), nor has nsqio/go-diskqueue, or refuse a damaged log as a whole
// (hashicorp/raft-wal, etcd's), or are part of something much larger (Prometheus, Pebble, JetStream). Here a damaged file must
// cost a segment, and a log has to be bounded by giving up its head.
//
// # Locks
//
// Journal.mu is held for moments, never during a system call on a file.
package journal
