package hub

import (
	"fmt"
	"unicode/utf8"
)

// CheckChannel reports why name cannot be a channel: it is empty, longer than
// Config.MaxChannelBytes, or no valid UTF-8. The error wraps ErrBadRequest.
func (h *Hub) CheckChannel(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: channel name is empty", ErrBadRequest)
	case len(name) > h.config.MaxChannelBytes:
		return fmt.Errorf("%w: channel name has %d bytes, at most %d are allowed",
			ErrBadRequest, len(name), h.config.MaxChannelBytes)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: channel name is not valid UTF-8", ErrBadRequest)
	}
	return nil
}
