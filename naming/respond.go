package naming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pyro-cluster/pyro-cluster/core"
)

const (
	broadcastRequest  = "GET_NSURI"
	maxBroadcastReply = 100 // what Pyro's clients read
)

// Respond answers Pyro's broadcast lookups ("GET_NSURI" in a datagram) on conn with uri until ctx ends, and returns ctx's cause.  It
// keeps silent while ready returns false, and replaces nothing in uri but an unspecified host: with the local address that faces the
// asker.  It is an error if uri is longer than the 100 bytes that Pyro's clients read.  The caller closes conn; it must not be
// used otherwise meanwhile.
func Respond(ctx context.Context, conn net.PacketConn, uri core.URI, ready func() bool) error {
	if n := len(uri.String()); n > maxBroadcastReply {
		return fmt.Errorf("naming: respond: %v has %d bytes, Pyro's clients read %d: advertise a shorter host", uri, n, maxBroadcastReply)
	}
	stop := context.AfterFunc(ctx, func() {
		// It fails only on a closed connection, which ends the reads as well.
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	buf := make([]byte, len(broadcastRequest)+1) // one more, so that a longer datagram is seen to be longer
	for {
		n, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("naming: respond: %w", err)
		}
		if err != nil {
			wait(ctx, respondPause) // a socket that keeps failing must not take a processor
			continue
		}
		if string(buf[:n]) != broadcastRequest || !ready() {
			continue
		}
		if reply := replyTo(from, uri); len(reply) <= maxBroadcastReply {
			// A reply that cannot be sent is a reply that is lost; the asker asks again.
			_, _ = conn.WriteTo([]byte(reply), from)
		}
	}
}

// respondPause is the time between two attempts to read from a socket that fails.
const respondPause = 50 * time.Millisecond

// replyTo is uri as the asker can use it.
func replyTo(asker net.Addr, uri core.URI) string {
	if host, err := netip.ParseAddr(uri.Host); uri.Host != "" && (err != nil || !host.IsUnspecified()) {
		return uri.String()
	}
	if local, ok := facing(asker); ok {
		uri.Host = local
	}
	return uri.String()
}

// facing returns the address of this machine that packets to the asker come from.  Nothing is sent.
func facing(asker net.Addr) (string, bool) {
	c, err := net.Dial("udp", asker.String())
	if err != nil {
		return "", false
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return "", false
	}
	return local.AddrPort().Addr().Unmap().WithZone("").String(), true
}
