package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// identity is what a data directory says of itself, as JSON in a file.
type identity struct {
	// Node is the server's name: the cluster knows its data by it.
	Node string `json:"node"`
	// Cluster is the cluster's name, empty for a server alone. Data of the one cannot become data of the other.
	Cluster string `json:"cluster"`
	// Boot is the kernel's boot_id while a process uses the directory, empty after an orderly end.
	Boot string `json:"boot,omitempty"`
	// Inode is that of the directory: a copy of it has another.
	Inode uint64 `json:"inode"`
	// Blocks has the sizes of the streams' files after an orderly end.
	Blocks map[string]int64 `json:"blocks,omitempty"`
	// Suspect says why the newest of the data may be missing, or be other data than before, until that has had its consequences.
	Suspect string `json:"suspect,omitempty"`
}

const (
	identityFile = "identity"
	lockFile     = "lock"
	storeDir     = "jetstream"
	bootID       = "/proc/sys/kernel/random/boot_id"
)

// lock takes the directory for this process, making it if need be. Closing the file gives it back.
func lock(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data-dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data-dir: %s is used by another process", dir)
		}
		return nil, fmt.Errorf("data-dir: flock %s: %w", f.Name(), err)
	}
	return f, nil
}

// past is how a directory was left.
type past struct {
	blocks    map[string]int64 // nil unless in an orderly way
	powerLost bool
}

// claim notes that this process uses the directory.
func claim(dir, node, cluster string) (id identity, p past, err error) {
	id, found, err := readIdentity(dir)
	if err != nil {
		return id, p, err
	}
	inode, err := inodeOf(dir)
	if err != nil {
		return id, p, err
	}
	boot, err := os.ReadFile(bootID)
	if err != nil {
		return id, p, fmt.Errorf("boot id: %w", err)
	}
	now := strings.TrimSpace(string(boot))
	stored, err := hasData(filepath.Join(dir, storeDir))
	switch {
	case err != nil:
		return id, p, fmt.Errorf("data-dir: %w", err)
	case !found && stored:
		id.Suspect = "the file " + identityFile + " is missing"
	case found && id.Cluster != cluster:
		return id, p, fmt.Errorf("data-dir: %s has the data of %s, which %s would throw away; give another directory", dir, clusterWords(id.Cluster), clusterWords(cluster))
	case found && node != "" && id.Node != node:
		return id, p, fmt.Errorf("node-name: %s has the data of the node %q; give that name, or another directory", dir, id.Node)
	case found && id.Inode != inode:
		id.Suspect = "the directory is a copy"
	case found && id.Boot != "" && id.Boot != now:
		id.Suspect, p.powerLost = "the host went down while it was used", true
	}
	if id.Node == "" {
		if id.Node = node; node == "" {
			id.Node = newName()
		}
	}
	if id.Boot == "" {
		p.blocks = id.Blocks
	}
	id.Cluster, id.Boot, id.Inode, id.Blocks = cluster, now, inode, nil
	return id, p, nil
}

// release notes an orderly end.
func release(dir string, id identity) (err error) {
	if id.Blocks, err = blockSizes(dir); err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	id.Boot = ""
	return writeIdentity(dir, id)
}

func clusterWords(name string) string {
	if name == "" {
		return "a server without a cluster"
	}
	return fmt.Sprintf("a server of the cluster %q", name)
}

func readIdentity(dir string) (id identity, found bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return id, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err == nil && id.Node == "" {
		err = errors.New("it names no node")
	}
	if err != nil {
		return id, false, fmt.Errorf("data-dir: %s: %w; if its data may be lost, remove the directory", filepath.Join(dir, identityFile), err)
	}
	return id, true, nil
}

func writeIdentity(dir string, id identity) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(dir, identityFile), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	return nil
}

// hasData reports whether a directory is there and has something in it.
func hasData(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("data-dir: stat %s: %w", path, err)
	}
	return st.Ino, nil
}
