package cgroup

import (
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
)

// mount is where a hierarchy, or a part of it, is seen.
type mount struct {
	version     int
	controllers []string // of version 1, among other options
	root        string   // the group that is seen at point, which is not the hierarchy's root in a container without a namespace
	point       string   // without the leading slash
}

type mounts []mount

// mounted reads the mounts of cgroup file systems (proc_pid_mountinfo(5)).
func mounted(root fs.FS) (mounts, error) {
	b, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out mounts
	for line := range strings.Lines(string(b)) {
		// ID parent major:minor root point options … - type source super-options
		before, after, ok := strings.Cut(line, " - ")
		head, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(head) < 6 || len(tail) < 3 {
			continue
		}
		m := mount{root: path.Clean(head[3]), point: strings.Trim(path.Clean(head[4]), "/")}
		switch tail[0] {
		case "cgroup":
			m.version, m.controllers = 1, strings.Split(tail[2], ",")
		case "cgroup2":
			m.version = 2
		default:
			continue
		}
		if fs.ValidPath(m.point) {
			out = append(out, m)
		}
	}
	return out, nil
}

// of returns the mount of a controller of version 1, or of version 2 if that is empty; one without a point if there is none.
func (ms mounts) of(controller string) mount {
	for _, m := range ms {
		if controller == "" && m.version == 2 || m.version == 1 && slices.Contains(m.controllers, controller) {
			return m
		}
	}
	return mount{}
}

// ancestors yields the directories of a group and of those above it that can be seen, the group's first.
func (m mount) ancestors(group string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if m.point == "" {
			return
		}
		below, ok := relative(m.root, path.Clean("/"+group))
		if !ok {
			below = "" // another namespace's path: what is mounted is all that is seen
		}
		for {
			if !yield(path.Join(m.point, below)) || below == "" {
				return
			}
			if below = path.Dir(below); below == "." {
				below = ""
			}
		}
	}
}

// relative returns group as seen from root, "" for root itself.
func relative(root, group string) (string, bool) {
	if root == "/" {
		return strings.TrimPrefix(group, "/"), true
	}
	below, ok := strings.CutPrefix(group, root)
	if !ok || below != "" && below[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(below, "/"), true
}
