package hub

// Override changes what a channel's options say for one subscription. A nil field changes nothing, and neither does a nil Override. It
// is read from JSON as Centrifugo's tokens, webhooks and API have it: {"force_recovery":{"value":true}}.
type Override struct {
	Presence           *Switch `json:"presence,omitempty"`
	JoinLeave          *Switch `json:"join_leave,omitempty"`
	ForcePushJoinLeave *Switch `json:"force_push_join_leave,omitempty"`
	ForcePositioning   *Switch `json:"force_positioning,omitempty"`
	ForceRecovery      *Switch `json:"force_recovery,omitempty"`
}

// Switch is an option that is turned on or off.
type Switch struct {
	Value bool `json:"value"`
}

func (s *Switch) set(option *bool) {
	if s != nil {
		*option = s.Value
	}
}

// Apply returns the options of the subscription; o itself if they are the same. Without a history a channel has no positions that mean
// anything later, so they cannot be turned on there.
func (v *Override) Apply(o *Options) *Options {
	if v == nil {
		return o
	}
	changed := *o
	v.Presence.set(&changed.Presence)
	v.JoinLeave.set(&changed.JoinLeave)
	v.ForcePushJoinLeave.set(&changed.ForcePushJoinLeave)
	if o.HasHistory() {
		v.ForcePositioning.set(&changed.ForcePositioning)
		v.ForceRecovery.set(&changed.ForceRecovery)
	}
	return &changed
}
