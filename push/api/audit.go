package api

import (
	"encoding/json"
	"log/slog"
	"strings"

	"github.com/millpond/millpond/push/hub"
	"github.com/millpond/millpond/push/logs"
	"github.com/millpond/millpond/push/tracing"
)

// audited reports whether the audit log has a line for each command of a method: those that change something, and
// publications if the Config wants that. Batches, pipes and bulks as a whole have none, their commands do.
func (h *Handler) audited(method string) bool {
	if _, ok := methods[method]; !ok || method == "batch" || h.config.Audit == nil {
		return false
	}
	scope := traitOf(method).scope
	return scope == ScopeManage || scope == ScopePublish && h.config.AuditPublishes
}

// audit writes the line for a command that a caller with a valid key has sent, carried out or refused.
func (h *Handler) audit(c *call, method string, target []slog.Attr, err error) {
	act := logs.Act{Action: method, Key: c.key.Name, Remote: c.remote, Request: c.id, Target: target, Outcome: logs.OK}
	if err != nil {
		act.Code, act.Outcome = hub.Describe(err)
	}
	h.config.Audit.Audit(act)
}

// trace ends the span of a request.
func (c *call) trace(span *tracing.Span, err error) {
	if span == nil {
		return
	}
	if c.method != "" {
		span.Name("api " + c.method)
	}
	if c.key != nil {
		span.Set("millpond.api.key", c.key.Name)
	}
	span.Set("millpond.api.request", c.id)
	span.End(err)
}

// commandTarget is what an audit has of a request: whom or what it is about, and not what is said.
type commandTarget struct {
	User     string   `json:"user"`
	Client   string   `json:"client"`
	Channel  string   `json:"channel"`
	Channels []string `json:"channels"`
	Users    []string `json:"users"`
	UID      string   `json:"uid"`
}

// targetOf reads it. Of a request that is not understood, which the line's code tells, it has what there is.
func targetOf(body []byte) []slog.Attr {
	var t commandTarget
	_ = json.Unmarshal(body, &t)
	return t.attrs()
}

func (t *commandTarget) attrs() (attrs []slog.Attr) {
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	add("user", t.User)
	add("client", t.Client)
	add("channel", t.Channel)
	add("uid", t.UID)
	for _, list := range []struct {
		key   string
		names []string
	}{{"channels", t.Channels}, {"users", t.Users}} {
		if n := len(list.names); n > 0 {
			attrs = append(attrs, slog.Int(list.key+"_count", n))
			add(list.key, strings.Join(list.names[:min(n, maxNames)], " "))
		}
	}
	return attrs
}

// maxNames bounds how many channels or users of a broadcast a line names.
const maxNames = 32
