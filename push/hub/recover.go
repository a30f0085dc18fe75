package hub

import (
	"context"
	"fmt"
)

// History returns what is kept of the channel's past, as far as q wants it. The error wraps ErrNotAvailable if nothing is
// kept, ErrUnrecoverable if q.Since is of another epoch.
func (h *Hub) History(ctx context.Context, channel string, q HistoryQuery) (History, error) {
	o, err := h.Options(channel)
	if err != nil {
		return History{}, err
	}
	if !o.HasHistory() {
		return History{}, fmt.Errorf("%w: channel %q keeps no history", ErrNotAvailable, clip(channel))
	}
	if q.Reverse && q.Since != nil && q.Since.Offset == 0 {
		return History{}, fmt.Errorf("%w: there is nothing before offset 0", ErrBadRequest)
	}
	past, err := h.config.Broker.History(ctx, channel, q)
	if err != nil {
		return History{}, fmt.Errorf("history of %q: %w", clip(channel), err)
	}
	if q.Since != nil && q.Since.Epoch != "" && q.Since.Epoch != past.Top.Epoch {
		return History{}, fmt.Errorf("%w: epoch %q of channel %q is over, it is now %q", ErrUnrecoverable, clip(q.Since.Epoch), clip(channel), past.Top.Epoch)
	}
	return past, nil
}

// RemoveHistory forgets the channel's publications, not its position.
func (h *Hub) RemoveHistory(ctx context.Context, channel string) error {
	o, err := h.Options(channel)
	if err != nil {
		return err
	}
	if !o.HasHistory() {
		return fmt.Errorf("%w: channel %q keeps no history", ErrNotAvailable, clip(channel))
	}
	if err := h.config.Broker.RemoveHistory(ctx, channel); err != nil {
		return fmt.Errorf("history of %q: %w", clip(channel), err)
	}
	return nil
}

// Recovery is what a subscriber that comes back gets first.
type Recovery struct {
	// Recovered says that Publications are all that it missed, none missing and none twice.
	Recovered    bool
	Publications []*Publication
	// From is where it then stands, Publications included: what StartAfter is to be given.
	From Position
}

// Recover finds what was published in the channel since a position, for a subscription that is not started yet: what
// arrives meanwhile is held, so that nothing is missing between the two. Of more than Config.MaxRecovered, nothing is
// recovered. With Options.RecoverLatest the latest publication is enough. A channel without history has no position, and the
// zero Recovery.
func (h *Hub) Recover(ctx context.Context, channel string, since Position) (Recovery, error) {
	if o, err := h.Options(channel); err == nil && o.RecoverLatest {
		r, err := h.recoverLatest(ctx, channel, o, since)
		h.recovery.count(r, RecoveryMissing, err)
		return r, err
	}
	q := HistoryQuery{Since: &since, Limit: h.config.MaxRecovered + 1, Following: true}
	past, err := h.position(ctx, channel, q)
	if err == nil && past.Top.Epoch == "" {
		return Recovery{}, nil
	}
	r, why := Recovery{From: past.Top}, RecoveryMissing
	switch {
	case err != nil:
	case since.Epoch != "" && since.Epoch != past.Top.Epoch:
		why = RecoveryOtherEpoch
	case len(past.Publications) > h.config.MaxRecovered:
		why = RecoveryTooMany
	case past.Reaches(since.Offset):
		r.Recovered, r.Publications = true, past.Publications
	}
	h.recovery.count(r, why, err)
	return r, err
}

// recoverLatest finds the channel's latest publication, unless that is known.
func (h *Hub) recoverLatest(ctx context.Context, channel string, o *Options, since Position) (Recovery, error) {
	past, err := h.position(ctx, channel, HistoryQuery{Limit: 1, Reverse: true, Following: true})
	if err != nil {
		return Recovery{}, err
	}
	if len(past.Publications) == 0 {
		h.missed(channel, o)
	}
	r := Recovery{From: past.Top, Recovered: since.Epoch == past.Top.Epoch && past.Reaches(since.Offset)}
	if len(past.Publications) > 0 && (!r.Recovered || past.Publications[0].Offset > since.Offset) {
		r.Recovered, r.Publications = true, past.Publications
	}
	return r, nil
}

// Position returns where the channel stands, for one that is subscribed to it; the zero Position for a channel without history.
func (h *Hub) Position(ctx context.Context, channel string) (Position, error) {
	past, err := h.position(ctx, channel, HistoryQuery{Following: true})
	return past.Top, err
}

func (h *Hub) position(ctx context.Context, channel string, q HistoryQuery) (History, error) {
	o, err := h.Options(channel)
	if err != nil || !o.HasHistory() {
		return History{}, err
	}
	past, err := h.config.Broker.History(ctx, channel, q)
	if err != nil {
		return History{}, fmt.Errorf("history of %q: %w", clip(channel), err)
	}
	return past, nil
}

// Reaches reports whether nothing is missing from what is kept for who has everything up to an offset of this epoch.
func (h *History) Reaches(offset uint64) bool { return h.Floor <= offset && offset <= h.Top.Offset }
