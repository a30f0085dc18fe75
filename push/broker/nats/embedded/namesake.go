package embedded

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// This file sees to it that a name is one server's. Two with the same name in a cluster are one to the logs' replication: they vote, and acknowledge, for each
// other, and what only the one has counts as what the other has. So a server looks who is there before it is one of the cluster.

const (
	lookTimeout  = 2 * time.Second  // for the answer of a server that is there
	namesakeTime = 30 * time.Second // for which a server with this one's name, that tried to connect, counts as there
	maxInfoBytes = 64 << 10
)

// lookForNamesake asks the servers at the routes' addresses what they are called. That one is there with this one's name is an error; only one that lives answers,
// so nobody waits for one that was killed. It is called before this server listens: none of the answers is its own.
func (s *Server) lookForNamesake() error {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	var (
		looking sync.WaitGroup
		mu      sync.Mutex
		found   string
	)
	for _, route := range s.config.ClusterRoutes {
		looking.Go(func() {
			for _, address := range resolve(ctx, route) {
				looking.Go(func() {
					// One that cannot be asked cannot be told from one that is not there.
					if name, err := s.nameAt(ctx, route, address); err == nil && name == s.id.Node {
						mu.Lock()
						defer mu.Unlock()
						found = address
					}
				})
			}
		})
	}
	looking.Wait()
	if found == "" {
		return nil
	}
	return s.namesakeError("at " + found)
}

// resolve returns the addresses of all hosts that a route's name means.
func resolve(ctx context.Context, route string) (addresses []string) {
	host, port, err := net.SplitHostPort(route)
	if err != nil {
		return nil
	}
	hosts, _ := net.DefaultResolver.LookupHost(ctx, host)
	for _, h := range hosts {
		addresses = append(addresses, net.JoinHostPort(h, port))
	}
	return addresses
}

// nameAt returns what the server of this cluster at an address says it is called. That is the first it says of itself, before it asks who there is.
func (s *Server) nameAt(ctx context.Context, route, address string) (string, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	end, _ := ctx.Deadline()
	if err := c.SetDeadline(end); err != nil {
		return "", err
	}
	var r io.Reader = c
	if s.config.ClusterTLS != nil {
		config := s.config.ClusterTLS.Clone()
		config.ServerName, _, _ = net.SplitHostPort(route)
		r = tls.Client(c, config)
	}
	line, err := bufio.NewReader(io.LimitReader(r, maxInfoBytes)).ReadBytes('\n')
	if err != nil {
		return "", err
	}
	var info struct {
		Name    string `json:"server_name"`
		Cluster string `json:"cluster"`
	}
	text, _ := bytes.CutPrefix(line, []byte("INFO "))
	if err := json.Unmarshal(text, &info); err != nil {
		return "", err
	}
	if info.Cluster != s.config.ClusterName {
		return "", fmt.Errorf("it is of the cluster %q", info.Cluster)
	}
	return info.Name, nil
}

// Namesake is an error while a server with this one's name tries to connect. Not all of them can: it may be that only the others know both.
func (s *Server) Namesake() error {
	_, log := s.current()
	if at := log.namesake.Load(); at == 0 || time.Since(time.Unix(0, at)) > namesakeTime {
		return nil
	}
	return s.namesakeError("somewhere else")
}

func (s *Server) namesakeError(where string) error {
	return fmt.Errorf("node-name: a server of the cluster that runs %s is called %q, too; two with one name would take each other's place in the logs, so give each a name of its own", where, s.Node())
}
