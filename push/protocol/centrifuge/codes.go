package centrifuge

import "github.com/millpond/millpond/push/protocol/inquiry"

// Disconnect is the end of a connection: the code and the reason of its close frame. As an error of an Authenticator it ends
// the connection instead of being replied.
type Disconnect = inquiry.Disconnect

// The disconnects. SDKs come back after 3000 to 3499, and do not after 3500 to 3999.
var (
	DisconnectShutdown              = &Disconnect{Code: 3001, Reason: "shutdown"}
	DisconnectInternalError         = &Disconnect{Code: 3004, Reason: "internal server error"}
	DisconnectExpired               = &Disconnect{Code: 3005, Reason: "connection expired"}
	DisconnectSubscriptionExpired   = &Disconnect{Code: 3006, Reason: "subscription expired"}
	DisconnectSlow                  = &Disconnect{Code: 3008, Reason: "slow"}
	DisconnectInsufficientState     = &Disconnect{Code: 3010, Reason: "insufficient state"}
	DisconnectForceReconnect        = &Disconnect{Code: 3011, Reason: "force reconnect"}
	DisconnectNoPong                = &Disconnect{Code: 3012, Reason: "no pong"}
	DisconnectInvalidToken          = &Disconnect{Code: 3500, Reason: "invalid token"}
	DisconnectBadRequest            = &Disconnect{Code: 3501, Reason: "bad request"}
	DisconnectStale                 = &Disconnect{Code: 3502, Reason: "stale"}
	DisconnectForceNoReconnect      = &Disconnect{Code: 3503, Reason: "force disconnect"}
	DisconnectConnectionLimit       = &Disconnect{Code: 3504, Reason: "connection limit"}
	DisconnectChannelLimit          = &Disconnect{Code: 3505, Reason: "channel limit"}
	DisconnectInappropriateProtocol = &Disconnect{Code: 3506, Reason: "inappropriate protocol"}
	DisconnectPermissionDenied      = &Disconnect{Code: 3507, Reason: "permission denied"}
	DisconnectNotAvailable          = &Disconnect{Code: 3508, Reason: "not available"}
	DisconnectTooManyErrors         = &Disconnect{Code: 3509, Reason: "too many errors"}
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
