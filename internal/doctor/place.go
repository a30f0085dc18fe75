package doctor

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Place is where the process runs, which decides how a limit is changed.
type Place string

// The places.
const (
	Shell      Place = "shell"
	Systemd    Place = "systemd"
	Container  Place = "container"
	Kubernetes Place = "kubernetes"
)

func (m Machine) place() Place {
	exists := func(name string) bool { _, err := fs.Stat(m.Root, name); return err == nil }
	groups := m.text("proc/self/cgroup")
	switch {
	case m.Getenv("KUBERNETES_SERVICE_HOST") != "" || strings.Contains(groups, "/kubepods"):
		return Kubernetes
	case m.Getenv("container") != "" || exists(".dockerenv") || exists("run/.containerenv") || strings.Contains(groups, "/docker"):
		return Container
	case m.Getenv("INVOCATION_ID") != "" && strings.Contains(groups, ".service"):
		return Systemd
	}
	return Shell
}

// perNamespace are the sysctls that each network namespace, and so each container, has for itself.
var perNamespace = []string{"net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_syncookies", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_rmem"}

// sysctl is the line that sets a value.
func (p Place) sysctl(key, value string) string {
	own := slices.Contains(perNamespace, key)
	switch {
	case p == Kubernetes && own:
		return fmt.Sprintf("securityContext.sysctls of the pod: {name: %s, value: %q}", key, value)
	case p == Container && own:
		return fmt.Sprintf("docker run --sysctl '%s=%s' …", key, value)
	case p == Kubernetes || p == Container:
		return fmt.Sprintf("on the host: sysctl -w '%s=%s'", key, value)
	}
	return fmt.Sprintf("sysctl -w '%s=%s'", key, value)
}

// descriptors is the line that lets the process open so many.
func (p Place) descriptors(n int64) string {
	switch p {
	case Kubernetes:
		return fmt.Sprintf("LimitNOFILE=%d in the service of the node's container runtime", n)
	case Container:
		return fmt.Sprintf("docker run --ulimit nofile=%d:%d …", n, n)
	case Systemd:
		return fmt.Sprintf("LimitNOFILE=%d in the service's [Service] section", n)
	}
	return fmt.Sprintf("ulimit -n %d, as root; or a line in /etc/security/limits.conf: * hard nofile %d", n, n)
}

// memory is the line that lets the process have so many bytes.
func (p Place) memory(n int64) string {
	mib := (n + 1<<20 - 1) >> 20
	switch p {
	case Kubernetes:
		return fmt.Sprintf("resources.limits.memory of the container: %dMi", mib)
	case Container:
		return fmt.Sprintf("docker run --memory %dm …", mib)
	case Systemd:
		return fmt.Sprintf("MemoryMax=%dM in the service's [Service] section", mib)
	}
	return fmt.Sprintf("%d MiB for the control group", mib)
}

// cpus is the line that lets the process use so many.
func (p Place) cpus(n int) string {
	switch p {
	case Kubernetes:
		return fmt.Sprintf("resources.limits.cpu of the container: %d", n)
	case Container:
		return fmt.Sprintf("docker run --cpus %d …", n)
	case Systemd:
		return fmt.Sprintf("CPUQuota=%d%% in the service's [Service] section", n*100)
	}
	return fmt.Sprintf("%d CPUs for the control group", n)
}

// pids is the line that lets the process have so many threads.
func (p Place) pids(n int64) string {
	switch p {
	case Kubernetes:
		return fmt.Sprintf("podPidsLimit of the kubelet: %d", n)
	case Container:
		return fmt.Sprintf("docker run --pids-limit %d …", n)
	case Systemd:
		return fmt.Sprintf("TasksMax=%d in the service's [Service] section", n)
	}
	return fmt.Sprintf("%d tasks for the control group", n)
}
