package auth

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/renameio/v2"
)

// ErrTooManyRevocations says that no more of them can be kept.
var ErrTooManyRevocations = errors.New("as many revocations are kept as may be")

// DefaultMaxRevocations is what zero means for OpenRevocations.
const DefaultMaxRevocations = 100_000

// Revocations are tokens that are refused though they are signed and not expired: by their ids, and those of a user, or
// of everybody, that were issued before a time. With a file they outlive the process. The methods may be called by any
// goroutine; a nil *Revocations has none.
type Revocations struct {
	// Immutable after OpenRevocations.
	path string // empty keeps them in memory alone
	max  int

	// Guarded by mu, which is never held while the disk works: everybody's tokens wait for it.
	mu     sync.RWMutex
	tokens map[string]int64  // by jti, until when they are kept, in Unix seconds; 0 is for ever
	users  map[string]cutoff // by user
	all    cutoff

	// Guarded by writing.
	writing sync.Mutex
	file    *os.File
	lines   int // in the file
}

// cutoff refuses tokens that were issued before a time.
type cutoff struct {
	before int64 // Unix seconds
	until  int64 // as in Revocations.tokens
}

// entry is a line of the file, in JSON.
type entry struct {
	Token  string  `json:"token,omitempty"`
	User   *string `json:"user,omitempty"` // absent in a line that is for everybody
	Before int64   `json:"before,omitempty"`
	Until  int64   `json:"until,omitempty"`
}

// revocationsFile is its name in the directory for data.
const revocationsFile = "revocations.jsonl"

// OpenRevocations reads what the file in dir has, and goes on there; without a dir it keeps all in memory alone. At
// most maxKept are kept, zero means DefaultMaxRevocations. A last line that was not finished is left out: nobody was
// told that it holds.
func OpenRevocations(dir string, maxKept int) (*Revocations, error) {
	r := &Revocations{max: maxKept, tokens: map[string]int64{}, users: map[string]cutoff{}}
	if r.max == 0 {
		r.max = DefaultMaxRevocations
	}
	if dir == "" {
		return r, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	r.path = filepath.Join(dir, revocationsFile)
	if err := r.read(); err != nil {
		return nil, fmt.Errorf("%s: %w", r.path, err)
	}
	r.sweepLocked(time.Now())
	if err := r.compact(); err != nil {
		return nil, fmt.Errorf("%s: %w", r.path, err)
	}
	return r, nil
}

func (r *Revocations) read() error {
	b, err := os.ReadFile(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := bufio.NewReader(bytes.NewReader(b))
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // what the line has is not finished
			return nil
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		r.applyLocked(e)
	}
}

// compact writes a file with what counts now, in place of the one that is there, and opens it. The caller holds
// writing.
func (r *Revocations) compact() error {
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	entries := r.entries()
	for _, e := range entries {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	if err := renameio.WriteFile(r.path, b.Bytes(), 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if r.file != nil {
		_ = r.file.Close() // it is nobody's any more
	}
	r.file, r.lines = f, len(entries)
	return syncDir(filepath.Dir(r.path))
}

// syncDir makes a renaming last.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (r *Revocations) entries() []entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	entries := make([]entry, 0, r.lenLocked())
	for id, until := range r.tokens {
		entries = append(entries, entry{Token: id, Until: until})
	}
	for user, c := range r.users {
		entries = append(entries, entry{User: &user, Before: c.before, Until: c.until})
	}
	if r.all != (cutoff{}) {
		entries = append(entries, entry{Before: r.all.before, Until: r.all.until})
	}
	return entries
}

func (r *Revocations) lenLocked() int {
	n := len(r.tokens) + len(r.users)
	if r.all != (cutoff{}) {
		n++
	}
	return n
}

// Len returns how many are kept.
func (r *Revocations) Len() int {
	if r == nil {
		return 0
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.lenLocked()
}

// Lasting reports whether they outlive the process.
func (r *Revocations) Lasting() bool { return r != nil && r.path != "" }

// Close closes the file.
func (r *Revocations) Close() error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// Revoked reports whether a token is.
func (r *Revocations) Revoked(user string, m Mark) bool {
	if r == nil {
		return false
	}
	now, issued := time.Now().Unix(), m.Issued.Unix()
	r.mu.RLock()
	defer r.mu.RUnlock()
	if m.ID != "" {
		if until, found := r.tokens[m.ID]; found && holds(until, now) {
			return true
		}
	}
	return r.users[user].refuses(issued, now) || r.all.refuses(issued, now)
}

func (c cutoff) refuses(issued, now int64) bool {
	return c != (cutoff{}) && issued < c.before && holds(c.until, now)
}

func holds(until, now int64) bool { return until == 0 || now < until }

// RevokeToken refuses the token with an id from now on, until a time after which it would have expired anyway; zero is
// for ever. When it returns without an error, that lasts.
func (r *Revocations) RevokeToken(id string, until time.Time) error {
	return r.add(entry{Token: id, Until: unix(until)})
}

// RevokeUser refuses the tokens of a user that were issued before a time, until another one.
func (r *Revocations) RevokeUser(user string, before, until time.Time) error {
	return r.add(entry{User: &user, Before: before.Unix(), Until: unix(until)})
}

// RevokeAll is RevokeUser for all users.
func (r *Revocations) RevokeAll(before, until time.Time) error {
	return r.add(entry{Before: before.Unix(), Until: unix(until)})
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// add has an entry count, and then makes it last.
func (r *Revocations) add(e entry) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	if err := r.take(e); err != nil || r.path == "" {
		return err
	}
	if r.lines > 2*r.Len()+1000 {
		return r.compact()
	}
	return r.append(e)
}

// take has an entry count, if there is room.
func (r *Revocations) take(e entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lenLocked() >= r.max && !r.hasLocked(e) {
		if r.sweepLocked(time.Now()); r.lenLocked() >= r.max {
			return fmt.Errorf("%w: %d", ErrTooManyRevocations, r.max)
		}
	}
	r.applyLocked(e)
	return nil
}

// append makes an entry last. The caller holds writing.
func (r *Revocations) append(e entry) error {
	if r.file == nil {
		return os.ErrClosed
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	r.lines++
	_, err = r.file.Write(append(line, '\n'))
	if err = errors.Join(err, r.file.Sync()); err != nil {
		r.lines = 1 << 30 // there may be half a line: the next time all is written anew
	}
	return err
}

func (r *Revocations) hasLocked(e entry) (found bool) {
	switch {
	case e.Token != "":
		_, found = r.tokens[e.Token]
	case e.User != nil:
		_, found = r.users[*e.User]
	default:
		found = r.all != cutoff{}
	}
	return found
}

// applyLocked takes an entry in. What was revoked before stays revoked at least as long.
func (r *Revocations) applyLocked(e entry) {
	c := cutoff{e.Before, e.Until}
	switch {
	case e.Token != "":
		if until, found := r.tokens[e.Token]; found {
			e.Until = later(until, e.Until)
		}
		r.tokens[e.Token] = e.Until
	case e.User != nil:
		r.users[*e.User] = r.users[*e.User].merge(c)
	default:
		r.all = r.all.merge(c)
	}
}

// merge is both of them.
func (c cutoff) merge(d cutoff) cutoff {
	if c == (cutoff{}) {
		return d
	}
	return cutoff{max(c.before, d.before), later(c.until, d.until)}
}

func later(a, b int64) int64 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

// Sweep forgets those that are over.
func (r *Revocations) Sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked(time.Now())
}

func (r *Revocations) sweepLocked(at time.Time) {
	now := at.Unix()
	for id, until := range r.tokens {
		if !holds(until, now) {
			delete(r.tokens, id)
		}
	}
	for user, c := range r.users {
		if !holds(c.until, now) {
			delete(r.users, user)
		}
	}
	if !holds(r.all.until, now) {
		r.all = cutoff{}
	}
}
