package link

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// timedWriter notes when what is written arrives, and may take its time.
type timedWriter struct {
	start time.Time
	took  time.Duration // per write
	err   error
	got   []string
}

func (w *timedWriter) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	t := time.NewTimer(w.took)
	<-t.C
	w.got = append(w.got, fmt.Sprintf("%v %s", time.Since(w.start), b))
	return len(b), nil
}

func newLine(w *timedWriter) *line {
	w.start = time.Now()
	return &line{c: &conn{p: &Proxy{}}, dst: w, room: make(chan struct{}, 1)}
}

func late(by time.Duration, data string) parcel {
	return parcel{due: time.Now().Add(by), data: []byte(data)}
}

// Everything is late by the delay and no more, however much is under way: parcels do not wait for each other's delays.
func TestLineThroughput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w timedWriter
		l := newLine(&w)
		var want []string
		for i := range 1000 {
			data := fmt.Sprint(i)
			if !l.put(t.Context(), late(100*time.Millisecond, data)) {
				t.Fatalf("parcel %d was refused", i)
			}
			want = append(want, fmt.Sprintf("%v %s", 100*time.Millisecond, data))
		}
		l.c.pumps.Wait()
		if !slices.Equal(w.got, want) {
			t.Errorf("arrived: %.200q, want all 1000 after 100ms, in order", w.got)
		}
		if l.busy.Load() || l.bytes != 0 {
			t.Errorf("an empty line is busy: %v, with %d bytes", l.busy.Load(), l.bytes)
		}
	})
}

// A parcel with a shorter delay does not overtake one with a longer.
func TestLineOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w timedWriter
		l := newLine(&w)
		ended := time.Duration(-1)
		for _, p := range []parcel{
			late(time.Second, "a"), late(0, "b"), late(3*time.Second, "c"),
			{due: time.Now().Add(2 * time.Second), then: func() { ended = time.Since(w.start) }},
		} {
			l.put(t.Context(), p)
		}
		l.c.pumps.Wait()
		if want := []string{"1s a", "1s b", "3s c"}; !slices.Equal(w.got, want) || ended != 3*time.Second {
			t.Errorf("arrived: %q, the end after %v, want %q, 3s", w.got, ended, want)
		}
		l.put(t.Context(), late(time.Second, "d")) // and it works again
		l.c.pumps.Wait()
		if want := "4s d"; w.got[len(w.got)-1] != want {
			t.Errorf("arrived at last: %q, want %q", w.got[len(w.got)-1], want)
		}
	})
}

// A full line has its sender wait until there is room, or the connection has ended.
func TestLineFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := timedWriter{took: time.Second}
		l := newLine(&w)
		part := parcel{due: time.Now().Add(time.Minute), data: bytes.Repeat([]byte("x"), lineBytes/4)}
		for range 4 {
			l.put(t.Context(), part)
		}
		if d := time.Since(w.start); d != 0 {
			t.Errorf("parcels within the bound took %v", d)
		}
		l.put(t.Context(), part)
		if d := time.Since(w.start); d != 61*time.Second {
			t.Errorf("one more took %v, want until the first had arrived, 61s", d)
		}
		l.c.pumps.Wait()
		if len(w.got) != 5 {
			t.Errorf("%d parcels arrived, want 5", len(w.got))
		}
	})
}

// Many tiny parcels do not take unbounded memory either.
func TestLineCountsParcels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w timedWriter
		l := newLine(&w)
		n := 0
		for time.Since(w.start) == 0 {
			l.put(t.Context(), late(time.Second, "x"))
			n++
		}
		if limit := lineBytes/parcelBytes + 1; n > limit {
			t.Errorf("%d parcels of a byte were taken at once, want at most %d", n, limit)
		}
		l.c.pumps.Wait()
	})
}

// When the other side is gone, what is under way is dropped and a sender that waits is refused.
func TestLineDies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := timedWriter{err: errors.New("gone")}
		l := newLine(&w)
		ended := false
		full := parcel{due: time.Now().Add(time.Second), data: make([]byte, lineBytes), then: func() { ended = true }}
		if !l.put(t.Context(), full) {
			t.Fatal("the first parcel was refused")
		}
		if l.put(t.Context(), full) {
			t.Error("a parcel was taken for a side that is gone")
		}
		l.c.pumps.Wait()
		if d := time.Since(w.start); d != time.Second || ended || !l.busy.Load() {
			t.Errorf("after %v: then called: %v, busy: %v, want 1s, false and true for ever", d, ended, l.busy.Load())
		}
	})
}

// What was late when everything began to vanish vanishes as well, and the connection is known to have lost it.
func TestLineSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w timedWriter
		l := newLine(&w)
		l.put(t.Context(), late(time.Second, "before"))
		l.put(t.Context(), late(3*time.Second, "lost"))
		fault := time.NewTimer(2 * time.Second)
		<-fault.C
		s := &silence{p: l.c.p, conns: map[*conn]struct{}{}}
		l.c.p.mu.Lock()
		s.addLocked(l.c)
		l.c.p.mu.Unlock()
		l.c.pumps.Wait()
		if want := []string{"1s before"}; !slices.Equal(w.got, want) || !l.c.lost {
			t.Errorf("arrived: %q, lost: %v, want %q and true", w.got, l.c.lost, want)
		}
	})
}
