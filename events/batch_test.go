package events

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"
)

// batchEvents are events of two publishers, of which some can share a run.
func batchEvents() []*routed {
	var list []*routed
	add := func(publisher byte, sequence uint64, second int64, topic string, serializer uint8, payload string) {
		list = append(list, newRouted(Event{Topic: topic, Time: time.Unix(second, 5), publisher: publisherID{publisher}, sequence: sequence,
			serializer: serializer, payload: []byte(payload)}))
	}
	add(1, 7, 1, "a", 4, "one")
	add(1, 8, 1, "a", 4, "")
	add(1, 9, 1, "a", 4, string(bytes.Repeat([]byte("x"), 300)))
	add(1, 11, 1, "a", 4, "after a gap")
	add(1, 12, 2, "a", 4, "later")
	add(1, 13, 2, "b", 4, "another topic")
	add(1, 14, 2, "b", 1, "another serializer")
	add(2, 15, 2, "b", 1, "another publisher")
	add(2, 16, 2, "b", 1, "the same again")
	return list
}

func readAll(b *batch) (list []Event, err error) {
	for !b.isEmpty() {
		e, err := b.next()
		if err != nil {
			return list, err
		}
		list = append(list, e)
	}
	return list, nil
}

func TestBatch(t *testing.T) {
	t.Parallel()
	sent := batchEvents()
	encoded := appendRuns(appendBatchHeader(nil, streamOpen, 3, "why"), sent)
	b, err := parseBatch(encoded)
	if err != nil || b.status != streamOpen || b.lost != 3 || b.reason != "why" {
		t.Fatalf("got %+v, %v", b, err)
	}
	got, err := readAll(&b)
	if err != nil {
		t.Fatal(err)
	}
	var want []Event
	for _, e := range sent {
		want = append(want, e.Event)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if single := appendRuns(nil, sent[:3]); len(single) > 3*len(sent[0].wire)+300 || bytes.Count(single, sent[0].publisher[:]) != 1 {
		t.Errorf("a run of 3 events has %d bytes, and its publisher %d times", len(single), bytes.Count(single, sent[0].publisher[:]))
	}
	// Cut anywhere, it has no events but those that are whole.
	for n := range encoded {
		b, err := parseBatch(encoded[:n])
		if err != nil {
			continue
		}
		some, err := readAll(&b)
		if len(some) >= len(want) || fmt.Sprint(some) != fmt.Sprint(want[:len(some)]) {
			t.Errorf("cut at %d: got %v", n, some)
		}
		if !b.isEmpty() || err != nil && !errors.Is(err, errMalformed) {
			t.Errorf("cut at %d: not empty after %v", n, err)
		}
	}
}

// TestRoutedKeepsNothing has an event whose message came in a large call.
func TestRoutedKeepsNothing(t *testing.T) {
	t.Parallel()
	call := bytes.Repeat([]byte("x"), 1<<16)
	e := newRouted(Event{Topic: "a", payload: call[100:200]})
	call[150] = 'y'
	if !bytes.Equal(e.payload, bytes.Repeat([]byte("x"), 100)) || !bytes.HasSuffix(e.wire, e.payload) {
		t.Errorf("the event changed with the call that it came in: %q", e.payload)
	}
}

func TestPublisherSet(t *testing.T) {
	t.Parallel()
	var p publisherSet
	id := func(n int) (id publisherID) {
		id[0], id[1], id[2] = byte(n), byte(n>>8), 1
		return id
	}
	for _, step := range []struct {
		publisher int
		n         uint64
		want      bool
	}{{1, 1, true}, {1, 1, false}, {1, 3, true}, {1, 2, false}, {2, 2, true}, {1, 3, false}, {1, 4, true}, {2, 2, false}, {3, 0, false}, {3, 1, true}} {
		if got := p.advance(id(step.publisher), step.n); got != step.want {
			t.Errorf("%+v: got %v", step, got)
		}
	}
	// One that is heard of now and then is remembered, the others are forgotten: there are not more than so many.
	for n := 10; n < 10+3*maxPublishers; n++ {
		p.advance(id(n), 1)
		if n%1000 == 0 && p.advance(id(1), 4) {
			t.Fatalf("publisher 1 was forgotten after %d others", n)
		}
	}
	if n := len(p.current) + len(p.previous); n > maxPublishers {
		t.Errorf("%d publishers are remembered, want at most %d", n, maxPublishers)
	}
	if p.advance(id(1), 4) || !p.advance(id(1), 5) || !p.advance(id(2), 1) {
		t.Error("want publisher 1 known with number 4, and 2 forgotten")
	}
}

// FuzzBatch takes apart what a node might answer, and holds what can be taken apart to being the same when it is put together again.
func FuzzBatch(f *testing.F) {
	f.Add(appendRuns(appendBatchHeader(nil, streamCut, 3, "why"), batchEvents()))
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := parseBatch(body)
		if err != nil {
			return
		}
		head := b
		first, err := readAll(&b)
		if len(first) > len(body) {
			t.Fatalf("%d events out of %d bytes", len(first), len(body))
		}
		if err != nil {
			return
		}
		var list []*routed
		for _, e := range first {
			list = append(list, newRouted(e))
		}
		again, err := parseBatch(appendRuns(appendBatchHeader(nil, head.status, head.lost, head.reason), list))
		if err != nil {
			t.Fatal(err)
		}
		second, err := readAll(&again)
		if err != nil || fmt.Sprint(first) != fmt.Sprint(second) {
			t.Errorf("got %v, %v\nwant %v", second, err, first)
		}
	})
}
