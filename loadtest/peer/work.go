package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
)

// work is what the callers of a run do.
type work struct {
	name      string
	callers   int                            // unless the command line says otherwise
	newCaller func(conn Conn, id int) caller // nil: the work is one-way, or events
	payload   int                            // bytes whose rate is reported
	idle      bool                           // there are idle connections beside the callers
	events    bool                           // for a Broker
}

// caller makes its n-th call and checks the answer.
type caller func(ctx context.Context, n int64) error

var works = []work{
	{name: "W1", callers: 1, newCaller: newAdder},
	{name: "W2", callers: 64, newCaller: newAdder},
	{name: "W3", callers: 64, newCaller: newTextEcho},
	{name: "W4", callers: 1, newCaller: newBytesEcho, payload: bytesLen},
	{name: "W5", callers: 1},
	{name: "W6", callers: 64, newCaller: newAdder, idle: true},
	{name: "W7", callers: 1, events: true},
}

// Works are the names of the works with calls, in order, which every system does.
func Works() []string { return new(Peer).works() }

// works are the names of those that the peer does.
func (p *Peer) works() []string {
	var names []string
	for _, w := range works {
		if !w.events || p.DialBroker != nil {
			names = append(names, w.name)
		}
	}
	return names
}

func (p *Peer) workNamed(name string) (work, error) {
	for _, w := range works {
		switch {
		case w.name != name:
		case w.events && p.DialBroker == nil:
			return work{}, usagef("-work: %s is events, which this system does not have: choose one of %s", name, strings.Join(p.works(), ", "))
		default:
			return w, nil
		}
	}
	return work{}, usagef("-work: got %q, want one of %s", name, strings.Join(p.works(), ", "))
}

// firstNumber makes all numbers that are sent need 8 bytes, so that all messages of a work have the same length in serializers that spend less
// on small numbers.
const firstNumber = 1 << 40

func newAdder(conn Conn, id int) caller {
	const b = 12345
	offset := firstNumber * int64(id+1)
	return func(ctx context.Context, n int64) error {
		a := offset + n
		sum, err := conn.Add(ctx, a, b)
		if err == nil && sum != a+b {
			return fmt.Errorf("wrong answer: add(%d, %d) was %d", a, b, sum)
		}
		return err
	}
}

const textLen = 1 << 10

// newTextEcho sends a few texts in turn, so that the answer to another call is noticed.
func newTextEcho(conn Conn, id int) caller {
	var texts [4]string
	for i := range texts {
		texts[i] = strings.Repeat(fmt.Sprintf("text %5d %4d;", id, i), textLen)[:textLen]
	}
	return func(ctx context.Context, n int64) error {
		text := texts[n%int64(len(texts))]
		echo, err := conn.EchoString(ctx, text)
		if err == nil && echo != text {
			return fmt.Errorf("wrong answer: the echo of a text of %d bytes has %d bytes and is not the same", len(text), len(echo))
		}
		return err
	}
}

const (
	bytesLen  = 1 << 20
	windowLen = 4 << 10
)

// newBytesEcho changes a window of the bytes for each call, and compares the length and that window of the answer: comparing everything would
// take a good part of the time that a call does.
func newBytesEcho(conn Conn, _ int) caller {
	p := make([]byte, bytesLen)
	for i := range p {
		p[i] = byte(i * 7)
	}
	return func(ctx context.Context, n int64) error {
		window := int(n * windowLen % bytesLen)
		sent := p[window : window+windowLen]
		binary.LittleEndian.PutUint64(sent[n%(windowLen-8):], uint64(n))
		echo, err := conn.EchoBytes(ctx, p)
		if err != nil {
			return err
		}
		if len(echo) != len(p) || !bytes.Equal(echo[window:window+windowLen], sent) {
			return fmt.Errorf("wrong answer: the echo of %d bytes has %d bytes and is not the same", len(p), len(echo))
		}
		return nil
	}
}
