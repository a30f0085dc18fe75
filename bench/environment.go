package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ownFile is a file that the tool has made for its own server.
var ownFile = regexp.MustCompile(`^(-[^=]*=)?/.*/millpond-bench-[0-9]+/`)

// commandLine is how the process was started, without secrets. Nil if that is not known.
func commandLine(pid int) []string {
	if pid == 0 {
		return nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(b) == 0 {
		return nil
	}
	args := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	args[0] = filepath.Base(args[0])
	for i := range args {
		args[i] = ownFile.ReplaceAllString(args[i], "$1") // another run's has another name
	}
	return Redact(args)
}

// Redact returns a command line in which values of flags that may be secret, and passwords and queries of URLs, are
// "***". What names a file is not secret.
func Redact(args []string) []string {
	out := make([]string, len(args))
	secret := false // the next one is a value
	for i, a := range args {
		name, value, assigned := strings.Cut(a, "=")
		flag := strings.HasPrefix(a, "-")
		switch {
		case secret:
			out[i] = redacted
		case flag && assigned && mayBeSecret(name):
			out[i] = name + "=" + redacted
		case flag && assigned:
			out[i] = name + "=" + redactURL(value)
		default:
			out[i] = redactURL(a)
		}
		secret = flag && !assigned && mayBeSecret(name)
	}
	return out
}

const redacted = "***"

func mayBeSecret(flag string) bool {
	flag = strings.ToLower(flag)
	if strings.HasSuffix(flag, "-file") || strings.HasSuffix(flag, "-url") {
		return false
	}
	for _, word := range []string{"token", "secret", "password", "key", "header", "raw-open", "raw-message", "auth", "credential"} {
		if strings.Contains(flag, word) {
			return !strings.HasSuffix(flag, "tls-key")
		}
	}
	return false
}

// redactURL leaves out what stands before an @ and after a ?.
func redactURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	if rest, query, ok := strings.Cut(rest, "?"); ok && query != "" {
		return redactURL(scheme+"://"+rest) + "?" + redacted
	}
	host, path, slash := strings.Cut(rest, "/")
	if _, after, ok := strings.Cut(host, "@"); ok {
		host = redacted + "@" + after
	}
	if slash {
		host += "/" + path
	}
	return scheme + "://" + host
}
