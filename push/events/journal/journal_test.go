package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("MILLPOND_TEST_FULL_DISK"); dir != "" {
		fillDisk(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func config(t testing.TB) Config {
	return Config{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// create makes a journal in a directory of its own, closed with the test.
func create(t testing.TB, c Config) (j *Journal, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "a")
	j, err := Create(dir, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, dir
}

func open(t testing.TB, dir string, c Config) (j *Journal, loaded []string) {
	t.Helper()
	j, err := Open(dir, c, func(r Record) { loaded = append(loaded, string(r.Data)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j, loaded
}

func fill(t testing.TB, j *Journal, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if j.Append(int64(i), uint8(i), fmt.Appendf(nil, "record %d", i)) == 0 {
			t.Fatalf("record %d was not taken", i)
		}
	}
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
}

// drain reads everything and returns the numbers; with ack it is acknowledged.
func drain(t testing.TB, j *Journal, ack bool) (seqs []uint64) {
	t.Helper()
	for {
		records := j.Next(7, 100)
		if records == nil {
			return seqs
		}
		for _, r := range records {
			if string(r.Data) != fmt.Sprintf("record %d", r.Time) || r.Tag != uint8(r.Time) {
				t.Fatalf("record %d: tag %d, time %d, data %q", r.Seq, r.Tag, r.Time, r.Data)
			}
			seqs = append(seqs, r.Seq)
		}
		if ack {
			j.Ack(seqs[len(seqs)-1])
		}
	}
}

// numbers are those from the first to the last.
func numbers(first, last uint64) (list []uint64) {
	for ; first <= last; first++ {
		list = append(list, first)
	}
	return list
}

func TestReadsWhatWasAppended(t *testing.T) {
	small := config(t)
	small.SegmentBytes = 200
	onDisk, _ := create(t, small)
	inMemory := Memory(small)
	t.Cleanup(func() { _ = inMemory.Close() })
	for name, j := range map[string]*Journal{"disk": onDisk, "memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			for round := range 5 {
				from := round*100 + 1
				fill(t, j, from, from+99)
				if got, want := drain(t, j, true), numbers(uint64(from), uint64(from+99)); !slices.Equal(got, want) {
					t.Fatalf("round %d: read %v", round, got)
				}
			}
			if st := j.Stats(); !j.Empty() || st.Records != 0 || st.Bytes != 0 || st.Appended != 500 {
				t.Errorf("empty: %t, %+v", j.Empty(), st)
			}
		})
	}
}

// What was acknowledged is not read again by the next process, what was not is, and numbers go on.
func TestOutlivesTheProcess(t *testing.T) {
	c := config(t)
	c.SegmentBytes = 300
	j, dir := create(t, c)
	fill(t, j, 1, 100)
	acked := uint64(0)
	for acked < 40 {
		records := j.Next(10, 1000)
		acked = records[len(records)-1].Seq
		j.Ack(acked)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j, loaded := open(t, dir, c)
	if len(loaded) != 100 {
		t.Errorf("%d records were loaded, want all 100: no checkpoint covers any", len(loaded))
	}
	fill(t, j, 101, 120)
	if got := drain(t, j, true); !slices.Equal(got, numbers(acked+1, 120)) {
		t.Errorf("read %v", got)
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestCheckpointTakesThePlaceOfRecords(t *testing.T) {
	c := config(t)
	c.SegmentBytes = 300
	j, dir := create(t, c)
	for i := 1; i <= 100; i += 5 {
		fill(t, j, i, i+4)
	}
	drain(t, j, true)
	before := segments(t, dir)
	if !j.CheckpointDue() {
		t.Error("no checkpoint is due after many segments")
	}
	err := j.Checkpoint(90, func(add func(uint8, []byte) error) error { return add(7, []byte("the state")) })
	if err != nil {
		t.Fatal(err)
	}
	if after := segments(t, dir); len(after) >= len(before) || j.CheckpointDue() {
		t.Errorf("%d segments, %d before the checkpoint; another is due: %t", len(after), len(before), j.CheckpointDue())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"the state"}
	for i := 91; i <= 100; i++ {
		want = append(want, fmt.Sprintf("record %d", i))
	}
	if _, loaded := open(t, dir, c); !slices.Equal(loaded, want) {
		t.Errorf("loaded %q", loaded)
	}
}

func segments(t testing.TB, dir string) (paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestOnlyOneProcessHasADirectory(t *testing.T) {
	j, dir := create(t, config(t))
	if _, err := Open(dir, config(t), func(Record) {}); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, config(t))
	if dirs, err := Abandoned(filepath.Dir(dir), filepath.Join(filepath.Dir(dir), "own")); err != nil || len(dirs) != 1 {
		t.Errorf("directories %v: %v", dirs, err)
	}
}

// A full queue gives up its oldest records, and says how many.
func TestFullQueueGivesUpTheOldest(t *testing.T) {
	c := config(t)
	c.MaxBytes = minBytes
	j, dir := create(t, c)
	const records = 20_000
	fill(t, j, 1, records)
	fill(t, j, records+1, records+1) // the bound holds after each commit
	st := j.Stats()
	if st.Bytes > c.MaxBytes || st.GivenUp == 0 || st.Records+st.GivenUp != records+1 {
		t.Errorf("%+v", st)
	}
	if st.DiskBytes > 3*c.MaxBytes {
		t.Errorf("%d bytes on disk", st.DiskBytes)
	}
	if got := drain(t, j, true); len(got) == 0 || !slices.Equal(got, numbers(st.GivenUp+1, records+1)) {
		t.Errorf("read %d from %d to %d, want %d from %d", len(got), got[0], got[len(got)-1], st.Records, st.GivenUp+1)
	}
	_ = dir
}

// Appending while others read and acknowledge loses nothing and keeps the order.
func TestConcurrentAppends(t *testing.T) {
	c := config(t)
	c.SegmentBytes = 4096
	j, _ := create(t, c)
	const writers, each = 4, 2000
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				j.Append(int64(w), 0, fmt.Appendf(nil, "%d", i))
			}
		})
	}
	last, next := uint64(0), [writers]int{}
	for last < writers*each {
		<-j.Ready()
		for records := j.Next(100, 10_000); records != nil; records = j.Next(100, 10_000) {
			for _, r := range records {
				if r.Seq != last+1 || string(r.Data) != fmt.Sprint(next[r.Time]) {
					t.Fatalf("record %d after %d: %q of writer %d, want %d", r.Seq, last, r.Data, r.Time, next[r.Time])
				}
				last = r.Seq
				next[r.Time]++
			}
			j.Ack(last)
		}
	}
	group.Wait()
}

// Whatever is done to one file, the others are read, the loss is counted and no number is given twice.
func TestDamagedFiles(t *testing.T) {
	damage := map[string]func(t *testing.T, path string){
		"torn":      func(t *testing.T, path string) { truncate(t, path, size(t, path)-3) },
		"flipped":   func(t *testing.T, path string) { flip(t, path, size(t, path)/2) },
		"empty":     func(t *testing.T, path string) { truncate(t, path, 0) },
		"length":    func(t *testing.T, path string) { flip(t, path, 3) },
		"extended":  func(t *testing.T, path string) { truncate(t, path, size(t, path)+100) },
		"garbage":   func(t *testing.T, path string) { write(t, path, []byte("this is no journal at all, not even nearly")) },
		"repeating": func(t *testing.T, path string) { write(t, path, appendRecord(nil, Record{Seq: 1, Data: []byte("x")})) },
	}
	for name, do := range damage {
		for _, which := range []string{"first", "middle", "last"} {
			if name == "repeating" && which == "first" {
				continue // that is what it could be
			}
			t.Run(name+"/"+which, func(t *testing.T) {
				c := config(t)
				c.SegmentBytes = 600
				j, dir := create(t, c)
				for i := 1; i <= 100; i += 5 { // segments end at a sync
					fill(t, j, i, i+4)
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				paths := segments(t, dir)
				do(t, paths[map[string]int{"first": 0, "middle": len(paths) / 2, "last": len(paths) - 1}[which]])
				j, _ = open(t, dir, c)
				if st := j.Stats(); st.Damaged == 0 {
					t.Errorf("no damage was counted: %+v", st)
				}
				if seq := j.Append(101, 101, []byte("record 101")); seq <= 100 {
					t.Errorf("number %d was given again", seq)
				}
				if err := j.Sync(); err != nil {
					t.Fatal(err)
				}
				last, got := uint64(0), 0
				for records := j.Next(10, 1000); records != nil; records = j.Next(10, 1000) {
					for _, r := range records {
						if r.Seq <= last {
							t.Errorf("record %d after %d", r.Seq, last)
						}
						last = r.Seq
						got++
					}
				}
				if got < 101-25 {
					t.Errorf("%d records were read", got)
				}
			})
		}
	}
}

// Damage that happens to a file that is in use costs its rest.
func TestDamageWhileOpen(t *testing.T) {
	c := config(t)
	c.SegmentBytes = 600
	j, dir := create(t, c)
	for i := 1; i <= 100; i += 5 {
		fill(t, j, i, i+4)
	}
	paths := segments(t, dir)
	flip(t, paths[1], size(t, paths[1])/2)
	truncate(t, paths[2], size(t, paths[2])/2)
	if err := os.Remove(paths[3]); err != nil {
		t.Fatal(err)
	}
	got := drain(t, j, true)
	if st := j.Stats(); st.Damaged != 3 || len(got) < 40 || len(got) >= 100 || got[len(got)-1] != 100 {
		t.Errorf("read %v, %+v", got, st)
	}
}

func TestDamagedPositionAndCheckpoint(t *testing.T) {
	j, dir := create(t, config(t))
	fill(t, j, 1, 10)
	if err := j.Checkpoint(5, func(add func(uint8, []byte) error) error {
		return errors.Join(add(1, []byte("a")), add(1, []byte("b")))
	}); err != nil {
		t.Fatal(err)
	}
	drain(t, j, true)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, positionName), []byte("{nonsense"))
	path := filepath.Join(dir, checkpointName)
	flip(t, path, size(t, path)-1)
	j, loaded := open(t, dir, config(t))
	if want := []string{"a", "record 6", "record 7", "record 8", "record 9", "record 10"}; !slices.Equal(loaded, want) {
		t.Errorf("loaded %q", loaded)
	}
	if got := drain(t, j, false); !slices.Equal(got, numbers(1, 10)) || j.Stats().Damaged != 2 {
		t.Errorf("read %v, %+v", got, j.Stats())
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func truncate(t *testing.T, path string, n int64) {
	t.Helper()
	if err := os.Truncate(path, max(n, 0)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x40
	write(t, path, b)
}

// Numbers that may have been given to what is damaged are passed over; nobody waits for them.
func TestSyncAfterDamage(t *testing.T) {
	j, dir := create(t, config(t))
	fill(t, j, 1, 10)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	path := segments(t, dir)[0]
	truncate(t, path, size(t, path)-1)
	j, _ = open(t, dir, config(t))
	if err := j.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := drain(t, j, true); !slices.Equal(got, numbers(1, 9)) || !j.Empty() || j.Stats().Records != 0 {
		t.Errorf("read %v, empty: %t, %+v", got, j.Empty(), j.Stats())
	}
}
