package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/millpond/millpond/push/hub"
)

// The bounds of what a backend may say. WebSocket leaves 123 bytes for a reason, RFC 6455 §5.5.
const (
	maxReasonBytes  = 123
	maxMessageBytes = 1024
)

// decode reads the body of an answer. The error is a *Refusal or *Disconnect that the backend wants, or wraps
// errUnreadable; then it says what is wrong, in the names of fields and not in their values.
func decode(event Event, body []byte) (*Answer, error) {
	if !utf8.Valid(body) {
		return nil, unreadable("it is not UTF-8")
	}
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, unreadable("it is no JSON object")
	}
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, unreadable("%s", jsonProblem(err))
	}
	if err := e.check(event); err != nil {
		return nil, err
	}
	switch {
	case e.Disconnect != nil:
		return nil, e.Disconnect
	case e.Error != nil:
		return nil, e.Error
	}
	if err := e.Result.finish(event); err != nil {
		return nil, err
	}
	return e.Result, nil
}

// check reports an answer that is not one of three, or has codes that are not a backend's to choose. Without any it has
// an empty result.
func (e *envelope) check(event Event) error {
	n := 0
	for _, there := range []bool{e.Result != nil, e.Error != nil, e.Disconnect != nil} {
		if there {
			n++
		}
	}
	switch {
	case n > 1:
		return unreadable("it has more than one of result, error and disconnect")
	case n == 0:
		e.Result = &Answer{}
	}
	if (event == EventRefresh || event == EventSubRefresh) && e.Result == nil {
		return unreadable("%s has a result alone", event)
	}
	if err := e.Error.check(); err != nil {
		return err
	}
	return e.Disconnect.check()
}

func (r *Refusal) check() error {
	if r == nil {
		return nil
	}
	if !(r.Code >= 100 && r.Code <= 113 || r.Code >= 400 && r.Code <= 1999) {
		return unreadable("error.code: %d is not 400 to 1999", r.Code)
	}
	if len(r.Message) > maxMessageBytes {
		return unreadable("error.message: it has %d bytes, at most %d are allowed", len(r.Message), maxMessageBytes)
	}
	return nil
}

func (d *Disconnect) check() error {
	if d == nil {
		return nil
	}
	if d.Code < 3001 || d.Code > 4999 {
		return unreadable("disconnect.code: %d is not 4000 to 4999", d.Code)
	}
	if len(d.Reason) > maxReasonBytes {
		return unreadable("disconnect.reason: it has %d bytes, at most %d are allowed", len(d.Reason), maxReasonBytes)
	}
	return nil
}

// finish checks a result and puts what came in base64 in its place. Other clients are shown infos, some of which speak
// JSON: these must be JSON, whatever way they come.
func (a *Answer) finish(event Event) error {
	if event == EventConnect && a.User == nil {
		return unreadable("result.user is missing; an anonymous client has an empty one")
	}
	if a.ExpireAt < 0 {
		return unreadable("result.expire_at is negative")
	}
	if len(a.Meta) > 0 && !isNull(a.Meta) && a.Meta[0] != '{' {
		return unreadable("result.meta is no object")
	}
	a.Meta = withoutNull(a.Meta)
	var err error
	if a.Rights, err = hub.ParseRights(a.Allow); err != nil {
		return unreadable("result.allow: %v", err)
	}
	a.Rights &^= hub.RightSubscribe // a subscription has it as it is
	if a.Capabilities, err = hub.ParseCapabilities(a.Caps); err != nil {
		return unreadable("result.caps: %v", err)
	}
	if err = payloads("result", &a.Info, &a.B64Info, &a.Data, &a.B64Data); err != nil {
		return err
	}
	for channel, s := range a.Subs {
		if s == nil {
			s = &Subscription{}
			a.Subs[channel] = s
		}
		if s.ExpireAt < 0 {
			return unreadable("result.subs: an expire_at is negative")
		}
		if err := payloads("result.subs", &s.Info, &s.B64Info, &s.Data, &s.B64Data); err != nil {
			return err
		}
	}
	return nil
}

// payloads moves what came in base64, which counts before what came beside it.
func payloads(where string, info *json.RawMessage, b64Info *[]byte, data *json.RawMessage, b64Data *[]byte) error {
	*info, *data = withoutNull(*info), withoutNull(*data)
	if len(*b64Info) > 0 {
		if *info = *b64Info; !json.Valid(*info) {
			return unreadable("%s.b64info is not JSON, which other clients may need", where)
		}
	}
	if len(*b64Data) > 0 {
		*data = *b64Data
	}
	*b64Info, *b64Data = nil, nil
	return nil
}

func withoutNull(b json.RawMessage) json.RawMessage {
	if isNull(b) {
		return nil
	}
	return b
}

func isNull(b json.RawMessage) bool { return string(b) == "null" }

func unreadable(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUnreadable}, args...)...)
}

// jsonProblem says what is wrong with JSON without quoting it.
func jsonProblem(err error) string {
	var mismatch *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &mismatch):
		kind, _, _ := strings.Cut(mismatch.Value, " ") // "number -5" has the value
		return fmt.Sprintf("%s has the wrong type: %s", mismatch.Field, kind)
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not JSON, at byte %d", syntax.Offset)
	}
	return "a value cannot be read" // bad base64, for instance
}
