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
	// learned is whether something was learned that the file does not have.
	learned bool

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

// Revocation is a line of the file, in JSON: of a token, or with Before of those that were issued to a user, or to everybody, before that.
type Revocation struct {
	Token  string  `json:"token,omitempty"`
	User   *string `json:"user,omitempty"`   // absent in one that is for everybody
	Before int64   `json:"before,omitempty"` // Unix seconds
	Until  int64   `json:"until,omitempty"`  // Unix seconds, when it may be forgotten; zero is never
}

// maxRevokedBytes bounds the ids and users of revocations that come from elsewhere, and maxAhead how far ahead they may revoke: none is
// taken back.
const (
	maxRevokedBytes = 4096
	maxAhead        = 48 * time.Hour
)

// Validate reports what is wrong with a revocation that comes from elsewhere.
func (e *Revocation) Validate() error {
	switch {
	case e.Until < 0, e.Before < 0, len(e.Token) > maxRevokedBytes, e.User != nil && len(*e.User) > maxRevokedBytes,
		e.Token != "" && (e.User != nil || e.Before != 0), e.Token == "" && e.Before == 0:
		return errors.New("it is no revocation")
	case e.Before > time.Now().Add(maxAhead).Unix():
		return errors.New("it revokes tokens that are issued after the day after tomorrow")
	}
	return nil
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
		var e Revocation
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
	entries := r.All()
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

// All returns those that are kept, in no order.
func (r *Revocations) All() []Revocation {
	r.mu.RLock()
	defer r.mu.RUnlock()
	entries := make([]Revocation, 0, r.lenLocked())
	for id, until := range r.tokens {
		entries = append(entries, Revocation{Token: id, Until: until})
	}
	for user, c := range r.users {
		entries = append(entries, Revocation{User: &user, Before: c.before, Until: c.until})
	}
	if r.all != (cutoff{}) {
		entries = append(entries, Revocation{Before: r.all.before, Until: r.all.until})
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
	err := r.writeLearned()
	err = errors.Join(err, r.file.Close())
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

// RevokedToken refuses the token with an id from now on, until a time after which it would have expired anyway; zero is for ever.
func RevokedToken(id string, until time.Time) Revocation {
	return Revocation{Token: id, Until: unix(until)}
}

// RevokedUser refuses the tokens of a user that were issued before a time, until another one.
func RevokedUser(user string, before, until time.Time) Revocation {
	return Revocation{User: &user, Before: before.Unix(), Until: unix(until)}
}

// RevokedAll is RevokedUser for all users.
func RevokedAll(before, until time.Time) Revocation {
	return Revocation{Before: before.Unix(), Until: unix(until)}
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// Learn has a revocation count that lasts elsewhere, and reports whether anything is new about it; the file has it after the next Sweep.
func (r *Revocations) Learn(e Revocation) (isNew bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.knownLocked(e)
	if err := r.takeLocked(e); err != nil {
		return false, err
	}
	isNew = !before.known || before.cutoff != r.knownLocked(e).cutoff
	r.learned = r.learned || isNew
	return isNew, nil
}

// Add has a revocation count. When it returns without an error, that lasts.
func (r *Revocations) Add(e Revocation) error {
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

func (r *Revocations) take(e Revocation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.takeLocked(e)
}

// takeLocked has a revocation count, if there is room.
func (r *Revocations) takeLocked(e Revocation) error {
	if r.lenLocked() >= r.max && !r.knownLocked(e).known {
		if r.sweepLocked(time.Now()); r.lenLocked() >= r.max {
			return fmt.Errorf("%w: %d", ErrTooManyRevocations, r.max)
		}
	}
	r.applyLocked(e)
	return nil
}

// append makes a revocation last. The caller holds writing.
func (r *Revocations) append(e Revocation) error {
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

// known is what is known of what a revocation is about.
type known struct {
	known bool
	cutoff
}

func (r *Revocations) knownLocked(e Revocation) (k known) {
	switch {
	case e.Token != "":
		k.until, k.known = r.tokens[e.Token]
	case e.User != nil:
		k.cutoff, k.known = r.users[*e.User]
	default:
		k.cutoff, k.known = r.all, r.all != cutoff{}
	}
	return k
}

// applyLocked takes a revocation in. What was revoked before stays revoked at least as long.
func (r *Revocations) applyLocked(e Revocation) {
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

// Sweep forgets those that are over, and gives the file what was learned.
func (r *Revocations) Sweep() error {
	r.mu.Lock()
	r.sweepLocked(time.Now())
	learned := r.learned
	r.mu.Unlock()
	if !learned || r.path == "" {
		return nil
	}
	r.writing.Lock()
	defer r.writing.Unlock()
	return r.writeLearned()
}

// writeLearned writes the file anew if something was learned that it does not have. The caller holds writing.
func (r *Revocations) writeLearned() error {
	r.mu.Lock()
	learned := r.learned
	r.learned = false
	r.mu.Unlock()
	if !learned || r.file == nil {
		return nil
	}
	err := r.compact()
	if err != nil {
		r.mu.Lock()
		r.learned = true
		r.mu.Unlock()
	}
	return err
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
