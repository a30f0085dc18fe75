package centrifuge

import "fmt"

// Disconnect is the end of a connection: the code and the reason of its close frame. As an error of an Authenticator it ends
// the connection instead of being replied.
type Disconnect struct {
	Code   uint16
	Reason string
}

// Error implements error.
func (d *Disconnect) Error() string { return fmt.Sprintf("disconnect %d: %s", d.Code, d.Reason) }

// The disconnects. SDKs come back after 3000 to 3499, and do not after 3500 to 3999.
var (
	DisconnectShutdown              = &Disconnect{3001, "shutdown"}
	DisconnectInternalError         = &Disconnect{3004, "internal server error"}
	DisconnectExpired               = &Disconnect{3005, "connection expired"}
	DisconnectSubscriptionExpired   = &Disconnect{3006, "subscription expired"}
	DisconnectSlow                  = &Disconnect{3008, "slow"}
	DisconnectInsufficientState     = &Disconnect{3010, "insufficient state"}
	DisconnectForceReconnect        = &Disconnect{3011, "force reconnect"}
	DisconnectNoPong                = &Disconnect{3012, "no pong"}
	DisconnectInvalidToken          = &Disconnect{3500, "invalid token"}
	DisconnectBadRequest            = &Disconnect{3501, "bad request"}
	DisconnectStale                 = &Disconnect{3502, "stale"}
	DisconnectForceNoReconnect      = &Disconnect{3503, "force disconnect"}
	DisconnectConnectionLimit       = &Disconnect{3504, "connection limit"}
	DisconnectChannelLimit          = &Disconnect{3505, "channel limit"}
	DisconnectInappropriateProtocol = &Disconnect{3506, "inappropriate protocol"}
	DisconnectPermissionDenied      = &Disconnect{3507, "permission denied"}
	DisconnectNotAvailable          = &Disconnect{3508, "not available"}
	DisconnectTooManyErrors         = &Disconnect{3509, "too many errors"}
)

// unsubscription is why the server ends a subscription. SDKs subscribe again after 2500 to 2999.
type unsubscription struct {
	code   uint32
	reason string
}

var (
	unsubscribedByServer = unsubscription{2000, "server unsubscribe"}
	insufficientState    = unsubscription{2500, "insufficient state"}
	subscriptionExpired  = unsubscription{2501, "subscription expired"}
)
