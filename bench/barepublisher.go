package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/millpond/millpond/push/protocol/centrifuge/wire"
)

// barePublisher is the connection whose messages the yardstick of fanout sends to all others.
type barePublisher struct {
	conn    net.Conn
	dialect *dialect
}

func dialBare(ctx context.Context, t Target, o *Options) (_ *barePublisher, err error) {
	addr, host, path, err := t.resolve(ctx)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: o.timeout()}
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	p := &barePublisher{conn, &dialect{protocol: o.Protocol}}
	if o.Protocol == ProtocolProtobuf {
		p.dialect.codec = wire.Protobuf
	}
	if err := p.open(appendRequest(nil, host, path, ""), o.timeout()); err != nil {
		return nil, errors.Join(fmt.Errorf("the bare loop: %w", err), conn.Close())
	}
	return p, nil
}

// open does the opening handshake.
func (p *barePublisher) open(request []byte, timeout time.Duration) error {
	_ = p.conn.SetDeadline(time.Now().Add(timeout))
	if _, err := p.conn.Write(request); err != nil {
		return err
	}
	var o opening
	b := make([]byte, 4<<10)
	for {
		n, err := p.conn.Read(b)
		if err != nil {
			return err
		}
		head, _, err := o.take(b[:n])
		if err != nil {
			return err
		}
		if head != nil {
			_ = p.conn.SetDeadline(time.Time{})
			return accepted(head, acceptKey())
		}
	}
}

// publish has all others get what a server that knows channels would send them.
func (p *barePublisher) publish(channel string, offset uint64, data []byte) error {
	payload, err := p.dialect.pushed(nil, channel, offset, data)
	if err == nil {
		_, err = p.conn.Write(p.dialect.mask(payload))
	}
	return err
}

func (p *barePublisher) close() { _ = p.conn.Close() }
