package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"

	"github.com/google/renameio/v2"

	"github.com/millpond/millpond/internal/doctor"
)

// doctorCommand says whether the machine can carry so many connections, and what mends it if not.
type doctorCommand struct {
	Connections int    `help:"Connections that this machine is to carry." default:"10000"`
	TLS         bool   `name:"tls" help:"They speak TLS with millpond itself."`
	DataDir     string `help:"The server's --data-dir." placeholder:"DIR"`
	JSON        bool   `name:"json" help:"Print the findings as JSON."`
	WriteSysctl string `help:"Write the kernel's settings that are wanting to a file such as /etc/sysctl.d/91-millpond.conf; - is the standard output, after the rest." placeholder:"FILE"`
}

// Run examines and prints. The exit code is 1 if so many connections do not fit.
func (c *doctorCommand) Run(s *streams) error {
	if c.Connections < 1 {
		return fmt.Errorf("--connections: %d is not positive", c.Connections)
	}
	r := doctor.Examine(doctor.Here(), doctor.Plan{Connections: c.Connections, TLS: c.TLS, DataDir: c.DataDir})
	if err := c.print(s.out, r); err != nil {
		return err
	}
	if err := c.writeSysctl(s, r); err != nil {
		return err
	}
	if n := r.Count(doctor.Fault); n > 0 {
		return fmt.Errorf("%d connections do not fit here: faults: %d", c.Connections, n)
	}
	return nil
}

func (c *doctorCommand) print(w io.Writer, r doctor.Report) error {
	if c.JSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.Print(w, wantsColor(w))
}

func (c *doctorCommand) writeSysctl(s *streams, r doctor.Report) error {
	settings := r.Sysctls()
	switch {
	case c.WriteSysctl == "":
		return nil
	case c.WriteSysctl == "-":
		_, err := io.WriteString(s.out, settings)
		return err
	case settings == "":
		_, err := fmt.Fprintf(s.err, "nothing of the kernel's is wanting: %s is not written\n", c.WriteSysctl)
		return err
	}
	return renameio.WriteFile(c.WriteSysctl, []byte(settings), 0o644)
}

// expectedConnections is what serve examines the machine for unless --max-connections says more or less.
const expectedConnections = 10_000

// examine warns, in a line each, of what keeps so many connections out.
func (c *serveCommand) examine(logger *slog.Logger) {
	plan := doctor.Plan{Connections: c.MaxConnections, TLS: len(c.TLSCert) > 0, DataDir: c.DataDir}
	if plan.Connections == 0 {
		plan.Connections = expectedConnections
	}
	for _, f := range doctor.Examine(doctor.Here(), plan).Findings {
		if f.Verdict == doctor.Fault {
			logger.Warn("this machine cannot carry so many connections", "connections", plan.Connections, "limit", f.Name, "have", f.Have, "wanted", f.Need, "fix", f.Fix)
		}
	}
}
